//! Looks addresses up in ELF files through blazesym.

use std::fs::File;
use std::path::Path;

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{self, Input, Sym, Symbolized};

use crate::stacks::names;
use crate::target::debug_files::DebugFile;
use crate::target::elf;
use crate::target::mapped_file::reopen_path;

/// The symbol of each address, from the module's debug file or else from the module itself.
pub(super) fn symbols<'a>(
    blazesym: &'a symbolize::Symbolizer,
    debug: Option<&DebugFile>,
    own: Option<&File>,
    svmas: &[u64],
) -> Vec<Option<Sym<'a>>> {
    let mut symbols = match debug {
        Some(debug) => lookup(blazesym, &debug.open_path(), true, svmas),
        None => vec![None; svmas.len()],
    };
    let missing: Vec<u64> = svmas
        .iter()
        .zip(&symbols)
        .filter_map(|(svma, symbol)| symbol.is_none().then_some(*svma))
        .collect();
    if let Some(own) = own.filter(|_| !missing.is_empty()) {
        // Without debug info in the file, blazesym would follow its debug link in hud's file system
        // instead of the target's.
        let has_debug = elf::has_section(own, ".debug_info");
        let mut found = lookup(blazesym, &reopen_path(own), has_debug, &missing).into_iter();
        for symbol in symbols.iter_mut().filter(|symbol| symbol.is_none()) {
            *symbol = found.next().flatten();
        }
    }
    symbols
}

/// The symbol of each address in one file. A failure affects single addresses only.
fn lookup<'a>(
    blazesym: &'a symbolize::Symbolizer,
    path: &Path,
    has_debug: bool,
    svmas: &[u64],
) -> Vec<Option<Sym<'a>>> {
    let source = |debug_syms| {
        let mut elf = Elf::new(path);
        elf.debug_syms = debug_syms;
        Source::Elf(elf)
    };
    let (with_debug, bare) = (source(has_debug), source(false));
    let from_table = |svma| {
        blazesym
            .symbolize_single(&bare, Input::VirtOffset(svma))
            .ok()
            .and_then(Symbolized::into_sym)
    };
    // Invalid debug info, or a debug link to the wrong file, fails the whole batch.
    let symbols = match blazesym.symbolize(&with_debug, Input::VirtOffset(svmas)) {
        Ok(symbols) => symbols.into_iter().map(Symbolized::into_sym).collect(),
        Err(_) => vec![None; svmas.len()],
    };
    // Version names (`LINUX_2.6`) are symbols without size at address 0.
    let covers = |symbol: &Sym<'_>| {
        symbol.addr != 0 || symbol.size.is_some_and(|size| size > 0) || symbol.code_info.is_some()
    };
    symbols
        .into_iter()
        .map(|symbol| symbol.filter(covers))
        .zip(svmas)
        .map(|(symbol, &svma)| match symbol {
            // Line tables contain bare names; the symbol table has the path.
            Some(mut symbol) if !names::is_qualified(&symbol.name) => {
                if let Some(whole) = from_table(svma)
                    && (symbol.name.is_empty() || names::is_qualified(&whole.name))
                {
                    symbol.name = whole.name;
                }
                Some(symbol)
            }
            Some(symbol) => Some(symbol),
            None => from_table(svma).filter(covers),
        })
        .collect()
}
