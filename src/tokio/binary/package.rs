//! Split debug info: which units of a DWARF package (`.dwp`) belong to an executable, and where.
//!
//! The executable's own debug info holds a skeleton of each unit with an id; the package's index
//! says where the unit of that id is. A package of another build has none of the ids.

use anyhow::{Context, Result, bail};
use gimli::{DebugCuIndex, IndexSectionId, LittleEndian, UnitIndex};

use super::dwarf::{Bases, Dwarf, Slice};
use super::elf::Elf;
use super::sections::Sections;

/// From DWARF 5 on a unit's part of the string offsets begins with a header of this many bytes.
const STR_OFFSETS_HEADER: u64 = 8;

/// The first version of the index with such headers.
const DWARF_5: u16 = 5;

/// Hands the package's units for these ids to `read`.
///
/// # Errors
/// When the file is no package, is of another build, or is damaged.
pub fn with_units<T>(
    package: &Elf<'_>,
    ids: &[u64],
    read: impl FnOnce(&Dwarf<'_, '_>) -> Result<T>,
) -> Result<T> {
    let sections = Sections::of_package(package)?;
    let index = package.section(".debug_cu_index")?;
    let (Some(sections), Some(index)) = (sections, index) else {
        bail!("the .dwp file is no package of debug info");
    };
    let bytes = index.bytes(0, index.len())?;
    let index = DebugCuIndex::new(bytes, LittleEndian)
        .index()
        .context("the index of the .dwp file")?;
    let units: Vec<(u64, Bases)> = ids.iter().filter_map(|id| place(&index, *id)).collect();
    if units.is_empty() {
        bail!("the .dwp file is of another build");
    }
    let dwarf = Dwarf::of_units(&sections, units.into_iter()).context("in the .dwp file")?;
    read(&dwarf)
}

/// Where the unit of that id begins, and what it refers to.
fn place(index: &UnitIndex<Slice<'_>>, id: u64) -> Option<(u64, Bases)> {
    let row = index.find(id)?;
    let mut offset = None;
    let mut bases = Bases::default();
    for part in index.sections(row).ok()? {
        let at = u64::from(part.offset);
        match part.section {
            IndexSectionId::DebugInfo => offset = Some(at),
            IndexSectionId::DebugAbbrev => bases.abbrev = at,
            IndexSectionId::DebugStrOffsets => {
                let header = match index.version() >= DWARF_5 {
                    true => STR_OFFSETS_HEADER,
                    false => 0,
                };
                bases.str_offsets = at + header;
            }
            _ => {}
        }
    }
    Some((offset?, bases))
}
