//! Start addresses of functions, from the index of the unwind tables, which stripped executables
//! have as well.

use std::fs::File;

use super::elf;

/// First bytes of `.eh_frame_hdr` in the usual form: version 1, a pointer, a count of 32 bits, and a
/// table of pairs of 32 bits relative to the section itself.
const HEADER: [u8; 4] = [1, 0x1b, 0x03, 0x3b];
/// Offset of the table, after header, pointer and count.
const TABLE_AT: usize = 12;
const ENTRY: usize = 8;

/// Start addresses of the functions of one file, ascending.
#[derive(Debug, Default)]
pub struct FunctionStarts(Vec<u64>);

impl FunctionStarts {
    /// Reads the index; empty where there is none in the usual form.
    pub fn read(file: &File) -> FunctionStarts {
        let section = elf::section(file, ".eh_frame_hdr")
            .or_else(|| elf::unwind_tables(file).map(|(index, _)| index));
        let starts = section.and_then(|section| {
            let bytes = section.read(file)?;
            parse(&bytes, section.addresses.start)
        });
        FunctionStarts(starts.unwrap_or_default())
    }

    /// The start of the function that contains an address, both in the file's own terms.
    pub fn before(&self, address: u64) -> Option<u64> {
        let after = self.0.partition_point(|start| *start <= address);
        self.0.get(after.checked_sub(1)?).copied()
    }
}

fn parse(bytes: &[u8], base: u64) -> Option<Vec<u64>> {
    if !bytes.starts_with(&HEADER) {
        return None;
    }
    let entries = bytes.get(TABLE_AT..)?.chunks_exact(ENTRY).map(|entry| {
        let start = entry.first_chunk().copied().map(i32::from_le_bytes);
        base.wrapping_add_signed(start.unwrap_or_default().into())
    });
    let count = bytes.get(TABLE_AT - 4..)?.first_chunk().copied();
    let count = usize::try_from(u32::from_le_bytes(count?)).ok()?;
    let starts: Vec<u64> = entries.take(count).collect();
    // Linkers sort the table; one that is not sorted cannot be searched.
    starts.is_sorted().then_some(starts)
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
        let starts = FunctionStarts::read(module.file.as_ref().unwrap());
        assert_eq!(starts.before(start), Some(start));
        assert_eq!(starts.before(start + 1), Some(start));
        assert_ne!(starts.before(start - 1), Some(start));
        assert_eq!(starts.before(0), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(tail in proptest::collection::vec(any::<u8>(), 0..64)) {
            let bytes: Vec<u8> = HEADER.into_iter().chain(tail).collect();
            let _ = parse(&bytes, u64::MAX);
        }
    }
}
