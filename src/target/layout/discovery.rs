//! All that an executable's file says of where Tokio keeps its state.

use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::elf::{Data, Elf};
use super::{TokioLayout, dwarf, symbols, table, types, versions};
use crate::failure::{Failure, Kind};

/// What a file gave. Nothing in it has been tried on a live thread yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// The versions of Tokio linked in, ascending, from source paths in the constants.
    pub tokio_versions: Vec<String>,
    /// The compiler.
    pub rustc: Option<String>,
    /// Tier 1: from the debug info. More than one when several Tokio versions are linked in.
    pub exact: Vec<TokioLayout>,
    /// Tier 2: from the version table, likeliest first.
    pub candidates: Vec<TokioLayout>,
    /// Whether Tokio's `CONTEXT` is in the symbol table: without it there are no layouts.
    pub context_symbol: bool,
    /// Whether there is a symbol table at all.
    pub has_symbols: bool,
    /// Whether there is debug info with files and lines.
    pub has_lines: bool,
    /// What kept the debug info from being used, where something did.
    pub debug_info_problem: Option<String>,
}

impl Discovery {
    /// The newest Tokio version linked in.
    pub fn tokio_version(&self) -> Option<&str> {
        self.tokio_versions.last().map(String::as_str)
    }
}

/// Looks into the file of the running executable (`/proc/PID/exe`), or for symbols and debug info
/// into its unstripped `twin`.
///
/// # Errors
/// When a file cannot be read or is no ELF executable of a known processor; a [`Failure`] when the
/// twin is of another build. Damaged debug info is no error: it is noted in the result.
pub fn discover(executable: &Path, twin: Option<&Path>) -> Result<Discovery> {
    let file = open(executable)?;
    let data = Data::new(&file);
    let elf = Elf::parse(&data).with_context(|| executable.display().to_string())?;
    let found = versions::tokio(&file, &elf);
    let mut discovery = Discovery {
        tokio_versions: found.iter().map(ToString::to_string).collect(),
        rustc: versions::rustc(&elf),
        ..Discovery::default()
    };
    let Some(twin) = twin else {
        layouts(&elf, &found, &mut discovery);
        return Ok(discovery);
    };
    let twin_file = open(twin)?;
    let twin_data = Data::new(&twin_file);
    let twin_elf = Elf::parse(&twin_data).with_context(|| twin.display().to_string())?;
    same_build(&elf, &twin_elf, twin)?;
    layouts(&twin_elf, &found, &mut discovery);
    Ok(discovery)
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
}

/// Refuses a twin whose build-id, or else whose thread-local segment, differs.
fn same_build(elf: &Elf<'_>, twin: &Elf<'_>, path: &Path) -> Result<(), Failure> {
    let refuse = |why: String| {
        let what = format!(
            "{} is another build than the process: {why}",
            path.display()
        );
        Failure::new(Kind::Failed, what)
            .mend("give --target the unstripped file of the very build that runs")
    };
    match (elf.build_id(), twin.build_id()) {
        (Some(running), Some(given)) if running != given => Err(refuse(format!(
            "build-id {given}, and the process has {running}"
        ))),
        (Some(_), Some(_)) => Ok(()),
        _ if elf.machine != twin.machine || elf.tls != twin.tls => {
            Err(refuse("its thread-local segment differs".into()))
        }
        _ => Ok(()),
    }
}

fn layouts(elf: &Elf<'_>, versions: &[versions::Version], discovery: &mut Discovery) {
    let contexts = symbols::contexts(elf);
    discovery.context_symbol = !contexts.is_empty();
    discovery.has_symbols = elf.has_symbols();
    discovery.has_lines = matches!(elf.section(".debug_line"), Ok(Some(_)));
    if contexts.is_empty() {
        return;
    }
    let place = |layouts: &[TokioLayout]| -> Vec<TokioLayout> {
        layouts
            .iter()
            .flat_map(|layout| {
                contexts.iter().map(|context| TokioLayout {
                    context: *context,
                    ..*layout
                })
            })
            .collect()
    };
    discovery.candidates = place(&table::candidates(versions));
    match debug_info(elf) {
        Ok(exact) => discovery.exact = place(&exact),
        Err(error) => discovery.debug_info_problem = Some(format!("{error:#}")),
    }
}

fn debug_info(elf: &Elf<'_>) -> Result<Vec<TokioLayout>> {
    let Some(sections) = dwarf::Sections::load(elf)? else {
        return Ok(Vec::new());
    };
    types::layouts(&dwarf::Dwarf::new(&sections)?)
}
