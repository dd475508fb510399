//! The facts about ELF files that address arithmetic and unwinding need.
//!
//! All reads are small and positioned: a binary of hundreds of megabytes is never read whole. Files
//! are untrusted, and what does not parse counts as absent.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::str::FromStr;

use gimli::{BaseAddresses, EhFrameHdr, LittleEndian, Pointer};
use object::Endianness;
use object::elf;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::read::{ReadCache, ReadCacheOps};

type Header = elf::FileHeader64<Endianness>;

/// Larger sections are not read: no unwind table has this size.
const MAX_SECTION_BYTES: u64 = 256 << 20;

/// A loadable segment that holds code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Address in the file's own terms (`p_vaddr`).
    pub address: u64,
    /// Offset of its first byte in the file.
    pub offset: u64,
    /// How many bytes of it are in the file.
    pub size: u64,
}

impl Segment {
    /// Whether an address in the file's own terms lies in it.
    pub fn contains(&self, address: u64) -> bool {
        address.wrapping_sub(self.address) < self.size
    }
}

/// A section's address range in the file's own terms, and its bytes in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    pub addresses: Range<u64>,
    pub bytes: Range<u64>,
}

impl Section {
    /// Reads the section; None where it is longer than the file or than `MAX_SECTION_BYTES`.
    pub fn read(&self, file: &File) -> Option<Vec<u8>> {
        let size = self.bytes.end.checked_sub(self.bytes.start)?;
        if size > MAX_SECTION_BYTES || self.bytes.end > file.metadata().ok()?.len() {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(size).ok()?];
        file.read_exact_at(&mut bytes, self.bytes.start).ok()?;
        Some(bytes)
    }
}

/// The segments with code, in the file's order.
pub fn code_segments(file: &File) -> Vec<Segment> {
    let cache = cached(file);
    let parse = || {
        let header = Header::parse(&cache).ok()?;
        let endian = header.endian().ok()?;
        let segments = header.program_headers(endian, &cache).ok()?;
        Some(
            segments
                .iter()
                .filter(|segment| {
                    segment.p_type(endian) == elf::PT_LOAD
                        && segment.p_flags(endian).0 & elf::PF_X.0 != 0
                })
                .map(|segment| Segment {
                    address: segment.p_vaddr(endian),
                    offset: segment.p_offset(endian),
                    size: segment.p_filesz(endian),
                })
                .collect(),
        )
    };
    parse().unwrap_or_default()
}

/// The segment shown by a mapping that starts at this file offset.
///
/// A segment whose first page is at that offset is preferred: lld lets neighbouring segments share a
/// page of the file, so the offset may lie in the neighbour as well.
pub fn segment_at(segments: &[Segment], offset: u64, page_size: u64) -> Option<&Segment> {
    let first_page = |segment: &Segment| segment.offset & !(page_size - 1);
    segments
        .iter()
        .find(|segment| first_page(segment) == offset)
        .or_else(|| {
            segments.iter().find(|segment| {
                first_page(segment) <= offset
                    && offset < segment.offset.saturating_add(segment.size)
            })
        })
}

/// The section of that name; None where it has no bytes in the file, or compressed ones.
pub fn section(file: &File, name: &str) -> Option<Section> {
    let cache = cached(file);
    let header = Header::parse(&cache).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, &cache).ok()?;
    let (_, section) = sections.section_by_name(endian, name.as_bytes())?;
    if section.sh_flags(endian).0 & elf::SHF_COMPRESSED.0 != 0 {
        return None;
    }
    let (offset, size) = section.file_range(endian)?;
    let address = section.sh_addr(endian);
    Some(Section {
        addresses: address..address.checked_add(size)?,
        bytes: offset..offset.checked_add(size)?,
    })
}

/// The unwind tables of a file without section headers, from its program headers: `.eh_frame_hdr`,
/// and `.eh_frame` together with what follows it in its segment.
pub fn unwind_tables(file: &File) -> Option<(Section, Section)> {
    let cache = cached(file);
    let header = Header::parse(&cache).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, &cache).ok()?;
    let section = |segment: &elf::ProgramHeader64<Endianness>| {
        let (address, offset) = (segment.p_vaddr(endian), segment.p_offset(endian));
        let size = segment.p_filesz(endian);
        Some(Section {
            addresses: address..address.checked_add(size)?,
            bytes: offset..offset.checked_add(size)?,
        })
    };
    let index = segments
        .iter()
        .find(|segment| segment.p_type(endian) == elf::PT_GNU_EH_FRAME)
        .and_then(section)?;
    let bytes = index.read(file)?;
    let bases = BaseAddresses::default().set_eh_frame_hdr(index.addresses.start);
    let parsed = EhFrameHdr::new(&bytes, LittleEndian)
        .parse(&bases, 8)
        .ok()?;
    let Pointer::Direct(start) = parsed.eh_frame_ptr() else {
        return None;
    };
    let around = segments
        .iter()
        .filter(|segment| segment.p_type(endian) == elf::PT_LOAD)
        .filter_map(section)
        .find(|segment| segment.addresses.contains(&start))?;
    let skipped = start - around.addresses.start;
    let table = Section {
        addresses: start..around.addresses.end,
        bytes: around.bytes.start.checked_add(skipped)?..around.bytes.end,
    };
    Some((index, table))
}

/// Whether the file has the bytes of a section of that name, compressed or not. A debug file lists
/// the sections of its executable without their bytes.
pub fn has_section(file: &File, name: &str) -> bool {
    let cache = cached(file);
    let parse = || {
        let header = Header::parse(&cache).ok()?;
        let endian = header.endian().ok()?;
        let sections = header.sections(endian, &cache).ok()?;
        let (_, section) = sections.section_by_name(endian, name.as_bytes())?;
        section.file_range(endian).filter(|(_, size)| *size > 0)
    };
    parse().is_some()
}

/// The linker's identifier of one build, the same in an executable and in its debug file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BuildId(Vec<u8>);

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Error: the text is not a build-id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoBuildId;

impl FromStr for BuildId {
    type Err = NoBuildId;

    fn from_str(text: &str) -> Result<Self, NoBuildId> {
        let digits = text.as_bytes().chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).ok().filter(|p| p.len() == 2)?;
            u8::from_str_radix(pair, 16).ok()
        });
        let bytes: Option<Vec<u8>> = digits.collect();
        bytes
            .filter(|bytes| !bytes.is_empty())
            .map(BuildId)
            .ok_or(NoBuildId)
    }
}

/// A stripped file's reference to its debug file: a file name, and the CRC-32 of that file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugLink {
    pub name: OsString,
    pub crc: u32,
}

/// Reads the section `.gnu_debuglink`.
pub fn debug_link(file: &File) -> Option<DebugLink> {
    let bytes = section(file, ".gnu_debuglink")?.read(file)?;
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let name = bytes.get(..end).filter(|name| !name.is_empty())?;
    // The checksum follows at the next multiple of four.
    let at = (end + 1).next_multiple_of(4);
    let crc = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(DebugLink {
        name: OsString::from_vec(name.to_vec()),
        crc: u32::from_le_bytes(crc),
    })
}

/// Reads the build-id.
pub fn build_id(file: &File) -> Option<BuildId> {
    let cache = cached(file);
    let header = Header::parse(&cache).ok()?;
    let endian = header.endian().ok()?;
    for segment in header.program_headers(endian, &cache).ok()? {
        let Ok(Some(mut notes)) = segment.notes(endian, &cache) else {
            continue;
        };
        while let Ok(Some(note)) = notes.next() {
            if note.name() == elf::ELF_NOTE_GNU && note.n_type(endian) == elf::NT_GNU_BUILD_ID {
                return Some(BuildId(note.desc().to_vec())).filter(|id| !id.0.is_empty());
            }
        }
    }
    None
}

/// A file that is read piece by piece and keeps every piece.
pub type Cached<'a> = ReadCache<Positioned<'a>>;

/// Wraps the file; reads nothing yet.
pub fn cached(file: &File) -> Cached<'_> {
    ReadCache::new(Positioned { file, position: 0 })
}

/// Reads at its own position: the file's cursor is shared by everyone who holds the file.
pub struct Positioned<'a> {
    file: &'a File,
    position: u64,
}

impl ReadCacheOps for Positioned<'_> {
    fn len(&mut self) -> Result<u64, ()> {
        self.file.metadata().map(|meta| meta.len()).map_err(|_| ())
    }

    fn seek(&mut self, position: u64) -> Result<u64, ()> {
        self.position = position;
        Ok(position)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ()> {
        let read = self.file.read_at(buffer, self.position).map_err(|_| ())?;
        self.position = self.position.saturating_add(read as u64);
        Ok(read)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), ()> {
        self.file
            .read_exact_at(buffer, self.position)
            .map_err(|_| ())?;
        self.position = self.position.saturating_add(buffer.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    #[test]
    fn neighbours_that_share_a_page_are_distinguished() {
        // As lld writes them: the code starts in the page where the read-only data ends, and a
        // second code segment starts in the page where the first one ends.
        let first = Segment {
            address: 0x2f40,
            offset: 0x1f40,
            size: 0x1200,
        };
        let second = Segment {
            address: 0x5140,
            offset: 0x3140,
            size: 0x100,
        };
        let both = [first, second];
        assert_eq!(segment_at(&both, 0x1000, 4096), Some(&first));
        assert_eq!(segment_at(&both, 0x3000, 4096), Some(&second));
        // A piece from the middle, as after mprotect.
        assert_eq!(segment_at(&both, 0x2000, 4096), Some(&first));
        assert_eq!(segment_at(&both, 0x9000, 4096), None);
    }

    #[test]
    fn build_ids_are_read_as_they_are_written() {
        let id = BuildId(vec![0x0a, 0xff, 0x30]);
        assert_eq!(id.to_string(), "0aff30");
        assert_eq!("0aff30".parse(), Ok(id));
        for wrong in ["", "0", "0g", "é1"] {
            assert_eq!(wrong.parse::<BuildId>(), Err(NoBuildId), "{wrong}");
        }
    }

    fn parse_all(bytes: &[u8]) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let _ = code_segments(&file);
        let _ = build_id(&file);
        let _ = debug_link(&file);
        let _ = unwind_tables(&file);
        let _ = has_section(&file, ".debug_info");
        if let Some(section) = section(&file, ".text") {
            let _ = section.read(&file);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn damaged_files_are_survived(
            damage in proptest::collection::vec((0usize..2048, any::<u8>()), 0..40),
        ) {
            // The headers of this test's own executable, with bytes overwritten.
            let mut bytes = vec![0u8; 2048];
            let own = File::open("/proc/self/exe").unwrap();
            own.read_exact_at(&mut bytes, 0).unwrap();
            for (at, byte) in damage {
                bytes[at] = byte;
            }
            parse_all(&bytes);
        }
    }
}
