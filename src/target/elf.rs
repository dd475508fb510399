//! The few facts about ELF files that address arithmetic and unwinding need.
//!
//! Everything is read through small positioned reads: binaries of hundreds of megabytes are never
//! loaded whole. Files are untrusted; whatever does not parse is absent.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use object::Endianness;
use object::elf;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::read::{ReadCache, ReadCacheOps};

type Header = elf::FileHeader64<Endianness>;

/// Larger sections are not read: no linker makes such unwind tables.
const MAX_SECTION_BYTES: u64 = 256 << 20;

/// A loadable segment that holds code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Address in the file's own terms (`p_vaddr`).
    pub address: u64,
    /// Where its bytes start in the file.
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
    /// Reads the section; none where it is longer than the file or unreasonably long.
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
    let cache = ReadCache::new(Positioned::new(file));
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

/// The segment that a mapping of this file offset shows.
///
/// The segment whose first page is at that offset comes first: lld lets neighbouring segments
/// share a page of the file, so "contains the offset" alone can name the neighbour.
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

/// The section of that name, unless it has no bytes in the file or they are compressed.
pub fn section(file: &File, name: &str) -> Option<Section> {
    let cache = ReadCache::new(Positioned::new(file));
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

/// The linker's build id.
pub fn build_id(file: &File) -> Option<Vec<u8>> {
    let cache = ReadCache::new(Positioned::new(file));
    let header = Header::parse(&cache).ok()?;
    let endian = header.endian().ok()?;
    for segment in header.program_headers(endian, &cache).ok()? {
        let Ok(Some(mut notes)) = segment.notes(endian, &cache) else {
            continue;
        };
        while let Ok(Some(note)) = notes.next() {
            if note.name() == elf::ELF_NOTE_GNU && note.n_type(endian) == elf::NT_GNU_BUILD_ID {
                return Some(note.desc().to_vec());
            }
        }
    }
    None
}

/// Reads at positions of its own: the file's cursor is shared by everyone who holds the file.
struct Positioned<'a> {
    file: &'a File,
    position: u64,
}

impl<'a> Positioned<'a> {
    fn new(file: &'a File) -> Self {
        Positioned { file, position: 0 }
    }
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
    fn neighbours_that_share_a_page_are_told_apart() {
        // As lld writes them: the code starts in the page the read-only data ends in, and a
        // second code segment starts in the page the first one ends in.
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

    fn parse_all(bytes: &[u8]) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let _ = code_segments(&file);
        let _ = build_id(&file);
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
            // The headers of a real file, this test's own, with bytes overwritten.
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
