//! Finds Tokio's thread-locals in the symbol table.

use std::ops::{Range, RangeFrom};

use memchr::memmem;
use object::read::elf::Sym as _;
use object::{LittleEndian, elf};

use super::elf::Elf;
use crate::tokio::names;

/// Sizes that `CONTEXT` has where it holds the state of polls: before 1.22 it holds the current
/// handle alone, in 32 bytes. The symbols beside it, which say whether it is initialised, hold a
/// byte or a word.
const CONTEXT_SIZES: RangeFrom<u64> = 48..;

/// Size of the coop budget's thread-local.
const BUDGET_SIZE: u64 = 2;

/// Size of a pointer.
const POINTER: u64 = 8;

/// The path as both the legacy and the v0 mangling spell it.
fn mangled(path: &[&str]) -> String {
    let segments = path.iter();
    segments
        .map(|segment| format!("{}{segment}", segment.len()))
        .collect()
}

/// A thread-local: its offset from the thread pointer, and its size, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub offset: i64,
    pub size: u64,
}

/// Tokio's thread-locals by their symbols: of each kind one for each Tokio version linked in.
///
/// All are empty where the executable is stripped, or has no Tokio, or has it in a shared library.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalSymbols {
    /// `CONTEXT` where it holds the state of polls: since 1.22.
    pub contexts: Vec<Place>,
    /// The coop budget, before 1.22.
    pub budgets: Vec<Place>,
    /// `CURRENT` of each flavor, before 1.29.
    pub current_thread: Vec<Place>,
    pub multi_thread: Vec<Place>,
}

impl LocalSymbols {
    /// Whether they are enough to track polls.
    pub fn has_state(&self) -> bool {
        let has_flavor = !(self.current_thread.is_empty() && self.multi_thread.is_empty());
        !self.contexts.is_empty() || !self.budgets.is_empty() && has_flavor
    }

    /// The whole words that they span, in bytes from the thread pointer; None without any.
    pub fn span(&self) -> Option<Range<i64>> {
        let all = || {
            [
                &self.contexts,
                &self.budgets,
                &self.current_thread,
                &self.multi_thread,
            ]
            .into_iter()
            .flatten()
        };
        let start = all().map(|place| place.offset).min()?;
        let ends = all().map(|place| place.offset.saturating_add_unsigned(place.size));
        Some(start & !7..ends.max()?.checked_add(7)? & !7)
    }
}

/// Reads them from the symbol tables.
pub fn thread_locals(elf: &Elf<'_>) -> LocalSymbols {
    let Some(segment) = elf.tls else {
        return LocalSymbols::default();
    };
    let context = mangled(names::CONTEXT);
    let budget = mangled(names::BUDGET);
    let current_thread = names::CURRENT_THREAD_CURRENT.map(mangled);
    let multi_thread = names::MULTI_THREAD_CURRENT.map(mangled);
    let mut found = LocalSymbols::default();
    for table in [
        elf.file.elf_symbol_table(),
        elf.file.elf_dynamic_symbol_table(),
    ] {
        for symbol in table.iter() {
            if symbol.st_type() != elf::STT_TLS || symbol.is_undefined(LittleEndian) {
                continue;
            }
            let Ok(name) = table.symbol_name(LittleEndian, symbol) else {
                continue;
            };
            let size = symbol.st_size(LittleEndian);
            let has = |path: &String| memmem::find(name, path.as_bytes()).is_some();
            let places = if CONTEXT_SIZES.contains(&size) && has(&context) {
                &mut found.contexts
            } else if size == BUDGET_SIZE && has(&budget) {
                &mut found.budgets
            } else if size == POINTER && current_thread.iter().any(has) {
                &mut found.current_thread
            } else if size == POINTER && multi_thread.iter().any(has) {
                &mut found.multi_thread
            } else {
                continue;
            };
            let value = symbol.st_value(LittleEndian);
            if let Some(offset) = elf.machine.thread_local(value, segment)
                && places.iter().all(|place: &Place| place.offset != offset)
            {
                places.push(Place { offset, size });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_spelt_as_symbols_spell_them() {
        assert_eq!(mangled(names::CONTEXT), "5tokio7runtime7context7CONTEXT");
        assert_eq!(mangled(names::BUDGET), "5tokio4coop7CURRENT");
    }
}
