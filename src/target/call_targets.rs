//! Functions that no unwind table covers, found by what leads to them: direct calls in the code, and
//! pointers that the loader relocates (virtual tables).
//!
//! What only jumps lead to is not found, and now and then bytes look like a call that are none.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::call_instruction;
use super::elf::{self, Segment};
use super::functions::Functions;
use crate::arch::Machine;

/// Code is read in pieces of this size, bytes.
const PIECE: usize = 1 << 20;

/// Pieces overlap by this much; a multiple of the length of instructions that have a fixed one.
const OVERLAP: usize = 8;

/// An entry of `.rela.dyn`: where, what, and the address that is put there; 8 bytes each.
const RELOCATION: usize = 24;

/// The starts of these functions, ascending, as the file's headers state addresses.
#[derive(Debug, Default)]
pub struct CallTargets(Vec<u64>);

impl CallTargets {
    /// Searches the whole code of a file, except for what leads to `functions`.
    pub fn read(file: &File, functions: &Functions) -> CallTargets {
        let segments = elf::code_segments(file);
        let mut starts = Vec::new();
        let mut found = |target| {
            if segments.iter().any(|segment| segment.contains(target))
                && functions.around(target).is_none()
            {
                starts.push(target);
            }
        };
        for segment in &segments {
            calls(file, segment, &mut found);
        }
        pointers(file, &mut found);
        starts.sort_unstable();
        starts.dedup();
        starts.shrink_to_fit();
        CallTargets(starts)
    }

    /// The last of them at or before the address.
    pub fn before(&self, address: u64) -> Option<u64> {
        let after = self.0.partition_point(|start| *start <= address);
        self.0.get(after.checked_sub(1)?).copied()
    }
}

/// The targets of all direct calls in a segment.
fn calls(file: &File, segment: &Segment, found: &mut impl FnMut(u64)) {
    let mut buffer = vec![0; PIECE];
    let mut done = 0;
    while done < segment.size {
        let length = usize::try_from(segment.size - done).map_or(PIECE, |rest| rest.min(PIECE));
        let code = &mut buffer[..length];
        let offset = segment.offset.saturating_add(done);
        if file.read_exact_at(code, offset).is_err() {
            return;
        }
        let address = segment.address.wrapping_add(done);
        call_instruction::direct_targets(Machine::NATIVE, code, address, found);
        // A call may lie across the end of this piece.
        done += length.saturating_sub(OVERLAP).max(OVERLAP) as u64;
    }
}

/// The addresses that the loader puts into pointers.
fn pointers(file: &File, found: &mut impl FnMut(u64)) {
    let relative = match Machine::NATIVE {
        Machine::X86_64 => object::elf::R_X86_64_RELATIVE,
        Machine::Aarch64 => object::elf::R_AARCH64_RELATIVE,
    };
    let section = elf::section(file, ".rela.dyn").and_then(|section| section.read(file));
    for entry in section.unwrap_or_default().chunks_exact(RELOCATION) {
        let kind = entry[8..].first_chunk().copied().map(u32::from_le_bytes);
        if kind == Some(relative.0)
            && let Some(address) = entry.last_chunk().copied()
        {
            found(u64::from_le_bytes(address));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::modules::ModuleMap;

    #[test]
    fn without_tables_functions_are_found_by_what_leads_to_them() {
        let modules = ModuleMap::read(std::process::id()).unwrap();
        // Called through a pointer here, and directly by nobody.
        let pointer: fn() = without_tables_functions_are_found_by_what_leads_to_them;
        let (module, start) = modules.find(pointer as *const () as u64).unwrap();
        let file = module.file.as_ref().unwrap();
        let known = Functions::read(file);
        let found = CallTargets::read(file, &Functions::default());
        assert_eq!(found.before(start + 1), Some(start));
        // Nearly all of them are starts of functions that the tables know.
        let right = found
            .0
            .iter()
            .filter(|at| known.around(**at).is_some_and(|f| f.start == **at));
        let right = right.count();
        assert!(
            right * 100 > found.0.len() * 95,
            "{right} of {}",
            found.0.len()
        );
        // And the other way round: what they know is left out.
        assert!(CallTargets::read(file, &known).0.len() * 20 < found.0.len());
    }
}
