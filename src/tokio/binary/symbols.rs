//! Tokio's thread-locals in the symbol table, and where they lie in every thread.

use std::ops::Range;

use object::read::elf::Sym as _;
use object::{LittleEndian, elf};

use super::elf::Elf;

/// A thread-local by its path, as both the legacy and the v0 mangling spell it, and the sizes it
/// has in any Tokio version. The symbols beside it, which say whether it is initialised, hold a byte
/// or a word.
struct Wanted {
    path: &'static [u8],
    sizes: Range<u64>,
}

const CONTEXT: Wanted = Wanted {
    path: b"5tokio7runtime7context7CONTEXT",
    // Before 1.22 it holds the current handle alone and has 32 bytes.
    sizes: 48..u64::MAX,
};

/// The coop budget's, before 1.22.
const BUDGET: Wanted = Wanted {
    path: b"5tokio4coop7CURRENT",
    sizes: 2..3,
};

/// A pointer.
const POINTER: Range<u64> = 8..9;

/// Each flavor's `CURRENT` before 1.29, by its names before 1.21 and since.
const CURRENT_THREAD: [Wanted; 2] = [
    Wanted {
        path: b"5tokio7runtime15basic_scheduler7CURRENT",
        sizes: POINTER,
    },
    Wanted {
        path: b"5tokio7runtime9scheduler14current_thread7CURRENT",
        sizes: POINTER,
    },
];
const MULTI_THREAD: [Wanted; 2] = [
    Wanted {
        path: b"5tokio7runtime11thread_pool6worker7CURRENT",
        sizes: POINTER,
    },
    Wanted {
        path: b"5tokio7runtime9scheduler12multi_thread6worker7CURRENT",
        sizes: POINTER,
    },
];

/// A thread-local: its offset from the thread pointer, and its size, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub offset: i64,
    pub size: u64,
}

/// Tokio's thread-locals: of each kind one for each Tokio version linked in.
///
/// All are empty when the executable is stripped, or has no Tokio, or has it in a shared library.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadLocals {
    /// `CONTEXT` where it holds the state of tasks: since 1.22.
    pub contexts: Vec<Place>,
    /// The coop budget's, before 1.22.
    pub budgets: Vec<Place>,
    /// `CURRENT` of each flavor, before 1.29.
    pub current_thread: Vec<Place>,
    pub multi_thread: Vec<Place>,
}

impl ThreadLocals {
    /// Whether they are enough to track polls.
    pub fn has_state(&self) -> bool {
        let has_flavor = !(self.current_thread.is_empty() && self.multi_thread.is_empty());
        !self.contexts.is_empty() || !self.budgets.is_empty() && has_flavor
    }

    /// What reaches over all of them in whole words, in bytes from the thread pointer; None without
    /// any.
    pub fn hull(&self) -> Option<Range<i64>> {
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

/// Looks them up in the symbol tables.
pub fn thread_locals(elf: &Elf<'_>) -> ThreadLocals {
    let Some(segment) = elf.tls else {
        return ThreadLocals::default();
    };
    let mut found = ThreadLocals::default();
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
            let is = |wanted: &Wanted| {
                wanted.sizes.contains(&size) && memchr::memmem::find(name, wanted.path).is_some()
            };
            let places = if is(&CONTEXT) {
                &mut found.contexts
            } else if is(&BUDGET) {
                &mut found.budgets
            } else if CURRENT_THREAD.iter().any(is) {
                &mut found.current_thread
            } else if MULTI_THREAD.iter().any(is) {
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
