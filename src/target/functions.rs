//! The functions of a file by its unwind tables, which even stripped programs carry.
//!
//! Each entry (FDE) states where one function begins and how long it is. What lies between two
//! entries belongs to neither: code without entries, such as musl's libc in a static program.

use std::fs::File;
use std::ops::Range;

use gimli::{BaseAddresses, CieOrFde, DebugFrame, EhFrame, LittleEndian, UnwindSection};

use super::elf::{self, Section};

type Slice<'a> = gimli::EndianSlice<'a, LittleEndian>;

/// Where a file keeps its unwind tables.
#[derive(Debug, Default)]
pub struct UnwindTables {
    /// `.eh_frame`.
    pub eh_frame: Option<Section>,
    /// `.eh_frame_hdr`, its index.
    pub index: Option<Section>,
    /// `.debug_frame`, only in a file without `.eh_frame`.
    pub debug_frame: Option<Section>,
}

impl UnwindTables {
    /// The tables by the file's section headers, or by its program headers where it has none: a copy
    /// from memory.
    pub fn of(file: &File) -> UnwindTables {
        let (index, eh_frame) = match elf::section(file, ".eh_frame") {
            Some(eh_frame) => (elf::section(file, ".eh_frame_hdr"), Some(eh_frame)),
            None => elf::unwind_tables(file).unzip(),
        };
        let debug_frame = match &eh_frame {
            Some(_) => None,
            None => elf::section(file, ".debug_frame"),
        };
        UnwindTables {
            eh_frame,
            index,
            debug_frame,
        }
    }
}

/// The functions of one file that have an entry in its unwind tables. Addresses are those that the
/// file's headers state.
#[derive(Debug, Default)]
pub struct Functions {
    /// Ascending, without overlaps.
    ranges: Vec<Range<u64>>,
    /// The file's code, ascending.
    code: Vec<Range<u64>>,
}

impl Functions {
    /// Reads all entries; what does not parse is left out.
    pub fn read(file: &File) -> Functions {
        let tables = UnwindTables::of(file);
        let base = |section: &Option<Section>| {
            let addresses = section.as_ref().map(|section| section.addresses.start);
            addresses.unwrap_or_default()
        };
        let bases = BaseAddresses::default()
            .set_eh_frame(base(&tables.eh_frame))
            .set_text(base(&elf::section(file, ".text")))
            .set_got(base(&elf::section(file, ".got")));
        let ranges = if let Some(section) = tables.eh_frame {
            let bytes = section.read(file).unwrap_or_default();
            let mut section = EhFrame::new(&bytes, LittleEndian);
            section.set_address_size(8);
            entries(&section, &bases)
        } else if let Some(section) = tables.debug_frame {
            let bytes = section.read(file).unwrap_or_default();
            let mut section = DebugFrame::new(&bytes, LittleEndian);
            section.set_address_size(8);
            entries(&section, &bases)
        } else {
            Vec::new()
        };
        let mut code: Vec<Range<u64>> = elf::code_segments(file)
            .iter()
            .map(|segment| segment.address..segment.address.saturating_add(segment.size))
            .collect();
        code.sort_by_key(|range| range.start);
        Functions::new(ranges, code)
    }

    fn new(mut ranges: Vec<Range<u64>>, code: Vec<Range<u64>>) -> Functions {
        ranges.sort_by_key(|range| range.start);
        for at in 1..ranges.len() {
            let next = ranges[at].start;
            let before = &mut ranges[at - 1];
            before.end = before.end.min(next);
        }
        ranges.retain(|range| !range.is_empty());
        ranges.shrink_to_fit();
        Functions { ranges, code }
    }

    /// Whether no function has an entry.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The function around an address.
    pub fn around(&self, address: u64) -> Option<Range<u64>> {
        let (before, _) = self.split(address);
        before.filter(|range| range.contains(&address)).cloned()
    }

    /// The code around an address in no function: from the function before to the one after, within
    /// its segment. None for an address in a function, or in no segment with code.
    pub fn gap(&self, address: u64) -> Option<Range<u64>> {
        let (before, after) = self.split(address);
        let segment = self.code.iter().find(|range| range.contains(&address))?;
        let start = before.map_or(0, |range| range.end).max(segment.start);
        let end = after.map_or(u64::MAX, |range| range.start);
        let gap = start..end.min(segment.end);
        gap.contains(&address).then_some(gap)
    }

    /// The last function that begins at or before the address, and the next one.
    fn split(&self, address: u64) -> (Option<&Range<u64>>, Option<&Range<u64>>) {
        let after = self.ranges.partition_point(|range| range.start <= address);
        let before = after.checked_sub(1).and_then(|at| self.ranges.get(at));
        (before, self.ranges.get(after))
    }
}

/// The address ranges of all entries, in the section's order.
fn entries<'a, S>(section: &S, bases: &BaseAddresses) -> Vec<Range<u64>>
where
    S: UnwindSection<Slice<'a>>,
    S::Offset: std::hash::Hash + Eq,
{
    let mut ranges = Vec::new();
    let mut all = section.entries(bases);
    // Most entries share the CIE of the one before.
    let mut common = None;
    while let Ok(Some(entry)) = all.next() {
        let CieOrFde::Fde(partial) = entry else {
            continue;
        };
        let parsed = partial.parse(|section, bases, offset| match &common {
            Some((at, cie)) if *at == offset => Ok(gimli::CommonInformationEntry::clone(cie)),
            _ => {
                let cie = section.cie_from_offset(bases, offset)?;
                common = Some((offset, cie.clone()));
                Ok(cie)
            }
        });
        if let Ok(function) = parsed {
            let start = function.initial_address();
            ranges.push(start..start.saturating_add(function.len()));
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::target::modules::ModuleMap;

    #[inline(never)]
    fn one_function(n: u64) -> u64 {
        std::hint::black_box(n) + 1
    }

    #[test]
    fn a_function_begins_where_its_pointer_says() {
        let modules = ModuleMap::read(std::process::id()).unwrap();
        let pointer = one_function as *const () as u64;
        assert_eq!(one_function(1), 2);
        let (module, start) = modules.find(pointer).unwrap();
        let functions = Functions::read(module.file.as_ref().unwrap());
        let function = functions.around(start).unwrap();
        assert_eq!(function.start, start);
        assert_eq!(functions.around(function.end - 1), Some(function.clone()));
        assert_ne!(functions.around(function.end), Some(function.clone()));
        assert_ne!(functions.around(start - 1), Some(function));
        assert_eq!(functions.gap(start), None);
        assert_eq!((functions.around(0), functions.gap(0)), (None, None));
    }

    #[test]
    fn code_between_two_functions_belongs_to_neither() {
        let functions = Functions::new(
            vec![0x300..0x340, 0x100..0x140, 0x140..0x180, 0x200..0x200],
            std::iter::once(0x80..0x400).collect(),
        );
        assert_eq!(functions.around(0x13f), Some(0x100..0x140));
        assert_eq!(functions.around(0x140), Some(0x140..0x180));
        assert_eq!(functions.gap(0x17f), None);
        for address in [0x180, 0x200, 0x2ff] {
            assert_eq!(functions.around(address), None, "{address:#x}");
            assert_eq!(functions.gap(address), Some(0x180..0x300), "{address:#x}");
        }
        assert_eq!(functions.gap(0x80), Some(0x80..0x100));
        assert_eq!(functions.gap(0x340), Some(0x340..0x400));
        assert_eq!(functions.gap(0x400), None);
    }

    proptest! {
        #[test]
        fn any_tables_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let bases = BaseAddresses::default().set_eh_frame(u64::MAX - 8).set_text(1);
            let _ = entries(&EhFrame::new(&bytes, LittleEndian), &bases);
            let _ = entries(&DebugFrame::new(&bytes, LittleEndian), &bases);
        }

        #[test]
        fn an_address_is_in_a_function_or_in_a_gap(
            ranges in proptest::collection::vec((0u64..500, 0u64..50), 0..20),
            address in 0u64..600,
        ) {
            let ranges = ranges.into_iter().map(|(start, length)| start..start + length).collect();
            let functions = Functions::new(ranges, std::iter::once(0..600).collect());
            let (function, gap) = (functions.around(address), functions.gap(address));
            prop_assert!(function.is_some() != gap.is_some());
            prop_assert!(function.or(gap).unwrap().contains(&address));
        }
    }
}
