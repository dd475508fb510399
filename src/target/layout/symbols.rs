//! Tokio's `CONTEXT` thread-local in the symbol table, and where it lies in every thread.

use object::read::elf::Sym as _;
use object::{LittleEndian, elf};

use super::elf::Elf;

/// Path of the thread-local, as both the legacy and the v0 mangling spell it.
const CONTEXT: &[u8] = b"5tokio7runtime7context7CONTEXT";

/// The smallest `Context` of any Tokio version, bytes. The symbols beside it, which say whether the
/// thread-local is initialised, hold a byte or a word.
const MIN_SIZE: u64 = 48;

/// A `CONTEXT`: its offset from the thread pointer, and its size, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub offset: i64,
    pub size: u64,
}

/// Every `CONTEXT`: one for each Tokio version linked in.
///
/// Empty when the executable is stripped, or has no Tokio, or has it in a shared library.
pub fn contexts(elf: &Elf<'_>) -> Vec<Place> {
    let Some(segment) = elf.tls else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for table in [
        elf.file.elf_symbol_table(),
        elf.file.elf_dynamic_symbol_table(),
    ] {
        for symbol in table.iter() {
            if symbol.st_type() != elf::STT_TLS
                || symbol.is_undefined(LittleEndian)
                || symbol.st_size(LittleEndian) < MIN_SIZE
            {
                continue;
            }
            let is_context = table
                .symbol_name(LittleEndian, symbol)
                .is_ok_and(|name| memchr::memmem::find(name, CONTEXT).is_some());
            if !is_context {
                continue;
            }
            let value = symbol.st_value(LittleEndian);
            if let Some(offset) = elf.machine.thread_local(value, segment)
                && found.iter().all(|place: &Place| place.offset != offset)
            {
                let size = symbol.st_size(LittleEndian);
                found.push(Place { offset, size });
            }
        }
    }
    found
}
