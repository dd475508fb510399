//! A 64-bit little-endian ELF file, read piece by piece: of a 500 MB executable hud reads the symbol
//! table and the few units of debug info that it needs.

use std::borrow::Cow;
use std::ops::Range;

use anyhow::{Context, Result, anyhow, bail, ensure};
use object::read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _};
use object::read::{CompressedData, CompressionFormat, ReadRef};
use object::{LittleEndian, Object as _, ObjectSection as _, elf};

use crate::arch::{Machine, TlsSegment};
use crate::target::elf::Cached;

/// Limit of a decompressed section, bytes, whatever its header says.
const MAX_SECTION: u64 = 2 << 30;

/// An executable or a shared library.
pub struct Elf<'d> {
    pub(super) file: ElfFile64<'d, LittleEndian, &'d Cached<'d>>,
    data: &'d Cached<'d>,
    /// The processor the file is for.
    pub machine: Machine,
    /// Its thread-local segment.
    pub tls: Option<TlsSegment>,
}

impl<'d> Elf<'d> {
    /// Parses the headers and reads the symbol tables.
    ///
    /// # Errors
    /// When the file is not a 64-bit little-endian ELF file of a known processor, or is damaged.
    pub fn parse(data: &'d Cached<'d>) -> Result<Self> {
        let file = ElfFile64::<LittleEndian, _>::parse(data).context("not a 64-bit ELF file")?;
        let endian = LittleEndian;
        let e_machine = file.elf_header().e_machine(endian);
        let machine = Machine::from_elf(e_machine.0).ok_or_else(|| {
            anyhow!(
                "built for a processor that hud does not support ({})",
                e_machine.0
            )
        })?;
        let tls = file
            .elf_program_headers()
            .iter()
            .find(|segment| segment.p_type(endian) == elf::PT_TLS)
            .map(|segment| TlsSegment {
                address: segment.p_vaddr(endian),
                size: segment.p_memsz(endian),
                align: segment.p_align(endian),
            });
        Ok(Elf {
            file,
            data,
            machine,
            tls,
        })
    }

    /// The executable's block of thread-locals, in bytes from the thread pointer.
    pub fn thread_local_block(&self) -> Option<Range<i64>> {
        let segment = self.tls?;
        let start = self.machine.thread_local(0, segment)?;
        let end = self.machine.thread_local(segment.size, segment)?;
        Some(start..end)
    }

    /// Whether there is a symbol table beyond the one for dynamic linking.
    pub fn has_symbols(&self) -> bool {
        !self.file.elf_symbol_table().is_empty()
    }

    /// Whether there is a section with that name.
    pub fn has_section(&self, name: &str) -> bool {
        self.file.section_by_name(name).is_some()
    }

    /// The section with that name, decompressed if necessary; None where there is none.
    ///
    /// # Errors
    /// When the section reaches outside of the file or does not decompress.
    pub fn section(&self, name: &str) -> Result<Option<Section<'d>>> {
        let Some(section) = self.file.section_by_name(name) else {
            return Ok(None);
        };
        let range = section
            .compressed_file_range()
            .with_context(|| format!("section {name}"))?;
        if range.format == CompressionFormat::None {
            let end = range
                .offset
                .checked_add(range.uncompressed_size)
                .filter(|end| self.data.len().is_ok_and(|len| *end <= len))
                .with_context(|| format!("section {name} reaches outside the file"))?;
            return Ok(Some(Section::File(self.data, range.offset..end)));
        }
        ensure!(
            range.uncompressed_size <= MAX_SECTION,
            "section {name} is too large"
        );
        let bytes = range
            .data(self.data)
            .and_then(CompressedData::decompress)
            .with_context(|| format!("section {name}"))?;
        Ok(Some(Section::Memory(bytes)))
    }

    /// File ranges with constant data: `.rodata`, or every loaded segment where there are no section
    /// names.
    pub fn constants(&self) -> Vec<Range<u64>> {
        if let Some((offset, size)) = self
            .file
            .section_by_name(".rodata")
            .and_then(|section| section.file_range())
        {
            let range = offset..offset.saturating_add(size);
            return Vec::from([range]);
        }
        self.file
            .elf_program_headers()
            .iter()
            .filter(|segment| segment.p_type(LittleEndian) == elf::PT_LOAD)
            .map(|segment| {
                let (offset, size) = segment.file_range(LittleEndian);
                offset..offset.saturating_add(size)
            })
            .collect()
    }
}

/// The contents of a section.
pub enum Section<'d> {
    /// Read from the file on demand.
    File(&'d Cached<'d>, Range<u64>),
    /// Decompressed.
    Memory(Cow<'d, [u8]>),
}

impl Section<'_> {
    /// Size in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Section::File(_, range) => range.end - range.start,
            Section::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// `size` bytes at `offset`.
    pub fn bytes(&self, offset: u64, size: u64) -> Result<&[u8]> {
        let bytes = match self {
            Section::File(data, range) => self
                .file_offset(range, offset, size)
                .and_then(|start| data.read_bytes_at(start, size).ok()),
            Section::Memory(bytes) => bytes.as_ref().read_bytes_at(offset, size).ok(),
        };
        bytes.with_context(|| format!("{size} bytes at {offset:#x} are outside the section"))
    }

    /// The string at `offset`, without its terminating zero.
    pub fn string(&self, offset: u64) -> Result<&[u8]> {
        if offset >= self.len() {
            bail!("a string at {offset:#x} is outside the section");
        }
        let string = match self {
            Section::File(data, range) => {
                data.read_bytes_at_until(range.start + offset..range.end, 0)
            }
            Section::Memory(bytes) => bytes
                .as_ref()
                .read_bytes_at_until(offset..bytes.len() as u64, 0),
        };
        string.map_err(|()| anyhow!("the string at {offset:#x} does not end"))
    }

    fn file_offset(&self, range: &Range<u64>, offset: u64, size: u64) -> Option<u64> {
        let end = offset.checked_add(size)?;
        (end <= self.len()).then_some(range.start + offset)
    }
}
