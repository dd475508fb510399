//! Split debug info: finds an executable's units in a DWARF package (`.dwp`).
//!
//! The executable's own debug info has a skeleton of each unit, with an id; the index of the package
//! maps ids to units. A package of another build has none of the ids.

use anyhow::{Context, Result, bail};
use gimli::{DebugCuIndex, IndexSectionId, LittleEndian, UnitIndex};

use super::dwarf::{Bases, Dwarf, Slice};
use super::elf::Elf;
use super::sections::Sections;

/// Size of the header before a unit's string offsets, since DWARF 5.
const STR_OFFSETS_HEADER: u64 = 8;

/// First version of the index with such headers.
const DWARF_5: u16 = 5;

/// Calls `read` with the package's units for these ids.
///
/// # Errors
/// When the file is not a package, belongs to another build, or is damaged.
pub fn with_units<T>(
    package: &Elf<'_>,
    ids: &[u64],
    read: impl FnOnce(&Dwarf<'_, '_>) -> Result<T>,
) -> Result<T> {
    let sections = Sections::of_package(package)?;
    let index = package.section(".debug_cu_index")?;
    let (Some(sections), Some(index)) = (sections, index) else {
        bail!("the .dwp file is not a package of debug info");
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

/// The offset of the unit with that id, and its bases in other sections.
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
