//! All that an executable's file says of where Tokio keeps its state.

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::elf::Elf;
use super::sections::Sections;
use super::symbols::{Place, ThreadLocals};
use super::{dwarf, package, symbols, types, versions};
use crate::failure::{Failure, Kind};
use crate::target::debug_files::package_path;
use crate::target::elf::{build_id, cached};
use crate::target::mapped_file::open_regular;
use crate::tokio::{Apart, ContextFields, CoreFields, Scheduler, TokioLayout, table};

/// What a file gave. Nothing in it has been tried on a live thread yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// The versions of Tokio linked in, ascending, from source paths in the constants.
    pub tokio_versions: Vec<String>,
    /// Tier 1: from the debug info. More than one when several Tokio versions are linked in.
    pub exact: Vec<TokioLayout>,
    /// Tier 2: from the version table, likeliest first.
    pub candidates: Vec<TokioLayout>,
    /// Whether Tokio's thread-locals are in the symbol table: without them there are only shapes.
    pub context_symbol: bool,
    /// What reaches over those, in bytes from the thread pointer.
    pub state: Option<Range<i64>>,
    /// Tier 3: the layouts of the version table, `context` 0 in all of them.
    pub shapes: Vec<TokioLayout>,
    /// The executable's thread-locals, in bytes from the thread pointer.
    pub thread_local_block: Option<Range<i64>>,
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

    /// This layout is no guess any more: it was seen to be wrong.
    pub fn forget(&mut self, refuted: &TokioLayout) {
        let shape = unplaced(refuted);
        self.candidates.retain(|other| other != refuted);
        self.shapes.retain(|other| *other != shape);
    }

    /// The layouts of the version table that differ from this one in their ticks at most: what may
    /// hold for a flavor that has not run yet. None for a layout that is no guess from the table.
    pub fn other_ticks(&self, layout: &TokioLayout) -> Vec<TokioLayout> {
        let without_ticks = |layout: &TokioLayout| {
            let without =
                |core: Option<CoreFields>| core.map(|core| CoreFields { tick: 0, ..core });
            TokioLayout {
                context: 0,
                fields: unplaced(layout).fields,
                current_thread: without(layout.current_thread),
                multi_thread: without(layout.multi_thread),
                ..*layout
            }
        };
        let shapes = self.shapes.iter().map(|shape| TokioLayout {
            context: layout.context,
            fields: ContextFields {
                scheduler: layout.fields.scheduler,
                ..shape.fields
            },
            ..*shape
        });
        let same = without_ticks(layout);
        shapes
            .filter(|other| without_ticks(other) == same && other != layout)
            .collect()
    }
}

/// Looks into the file of the running executable (`/proc/PID/exe`), or for symbols and debug info
/// into its unstripped `twin` or debug file, and the package of split debug info beside that.
///
/// # Errors
/// When a file cannot be read or is no ELF executable of a known processor; a [`Failure`] when the
/// twin is of another build. Damaged debug info is no error: it is noted in the result.
pub fn discover(executable: &Path, twin: Option<&Path>) -> Result<Discovery> {
    let file = open(executable)?;
    let data = cached(&file);
    let elf = Elf::parse(&data).with_context(|| executable.display().to_string())?;
    let found = versions::tokio(&file, &elf);
    let mut discovery = Discovery {
        tokio_versions: found.iter().map(ToString::to_string).collect(),
        thread_local_block: elf.thread_local_block(),
        ..Discovery::default()
    };
    let Some(twin) = twin else {
        layouts(&elf, &elf, None, &found, &mut discovery);
        return Ok(discovery);
    };
    let twin_file = open(twin)?;
    let twin_data = cached(&twin_file);
    let mut twin_elf = Elf::parse(&twin_data).with_context(|| twin.display().to_string())?;
    same_build((&file, &elf), (&twin_file, &twin_elf), twin)?;
    // A debug file need not describe segments rightly: it is never loaded.
    twin_elf.tls = elf.tls;
    // A debug file may hold the debug info alone, while the executable kept its symbols.
    let symbols = match symbols::thread_locals(&twin_elf).has_state() {
        true => &twin_elf,
        false => &elf,
    };
    let package = open_regular(&package_path(twin)).ok();
    let package_data = package.as_ref().map(cached);
    let package = package_data.as_ref().map(Elf::parse).transpose();
    let package = package.context("the .dwp file");
    match package {
        Ok(package) => layouts(symbols, &twin_elf, package.as_ref(), &found, &mut discovery),
        Err(error) => {
            layouts(symbols, &twin_elf, None, &found, &mut discovery);
            discovery.debug_info_problem = Some(format!("{error:#}"));
        }
    }
    Ok(discovery)
}

/// The versions of Tokio linked into an ELF file, ascending; none where it is no such file.
pub fn tokio_in(file: &File) -> Vec<String> {
    let data = cached(file);
    let Ok(elf) = Elf::parse(&data) else {
        return Vec::new();
    };
    let found = versions::tokio(file, &elf);
    found.iter().map(ToString::to_string).collect()
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
}

/// Refuses a twin whose build-id, or else whose thread-local segment, differs.
fn same_build(
    (file, elf): (&File, &Elf<'_>),
    (twin_file, twin): (&File, &Elf<'_>),
    path: &Path,
) -> Result<(), Failure> {
    let refuse = |why: String| {
        let what = format!(
            "{} is another build than the process: {why}",
            path.display()
        );
        Failure::new(Kind::Failed, what)
            .hint("give --symbols the unstripped file of the very build that runs")
    };
    match (build_id(file), build_id(twin_file)) {
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

/// Takes Tokio's symbol from one file and the debug info from another or the same.
fn layouts(
    symbols: &Elf<'_>,
    debug: &Elf<'_>,
    package: Option<&Elf<'_>>,
    versions: &[versions::Version],
    discovery: &mut Discovery,
) {
    let locals = symbols::thread_locals(symbols);
    discovery.context_symbol = locals.has_state();
    discovery.state = locals.hull();
    discovery.has_symbols = symbols.has_symbols();
    discovery.has_lines = debug.has_section(".debug_line");
    discovery.shapes = table::candidates(versions);
    if !locals.has_state() {
        return;
    }
    let place = |layouts: &[TokioLayout]| -> Vec<TokioLayout> {
        let placed = layouts.iter().flat_map(|layout| placed(layout, &locals));
        placed.collect()
    };
    discovery.candidates = place(&discovery.shapes);
    match debug_info(debug, package) {
        Ok(exact) => discovery.exact = place(&exact),
        Err(error) => discovery.debug_info_problem = Some(format!("{error:#}")),
    }
}

/// The layout at every place where its thread-locals may lie.
fn placed(layout: &TokioLayout, locals: &ThreadLocals) -> Vec<TokioLayout> {
    let contexts = match layout.fields.task_id {
        Some(_) => &locals.contexts,
        None => &locals.budgets,
    };
    let schedulers = match layout.fields.scheduler {
        Scheduler::Field(_) => vec![layout.fields.scheduler],
        Scheduler::Apart(_) => apart(layout, locals),
    };
    let at = |context: &Place, scheduler: &Scheduler| TokioLayout {
        context: context.offset,
        fields: ContextFields {
            scheduler: *scheduler,
            ..layout.fields
        },
        ..*layout
    };
    let pairs = contexts
        .iter()
        .flat_map(|context| schedulers.iter().map(move |it| at(context, it)));
    pairs.collect()
}

/// Every choice of a `CURRENT` for each flavor the layout has.
fn apart(layout: &TokioLayout, locals: &ThreadLocals) -> Vec<Scheduler> {
    let places = |flavor: Option<CoreFields>, places: &[Place]| -> Vec<Option<i64>> {
        match flavor.is_some() && !places.is_empty() {
            true => places.iter().map(|place| Some(place.offset)).collect(),
            false => vec![None],
        }
    };
    let current_thread = places(layout.current_thread, &locals.current_thread);
    let multi_thread = places(layout.multi_thread, &locals.multi_thread);
    let mut choices = Vec::new();
    for current_thread in current_thread {
        for multi_thread in &multi_thread {
            choices.push(Scheduler::Apart(Apart {
                current_thread,
                multi_thread: *multi_thread,
            }));
        }
    }
    choices
}

/// The layout wherever it lies.
pub(in crate::tokio) fn unplaced(layout: &TokioLayout) -> TokioLayout {
    let scheduler = match layout.fields.scheduler {
        Scheduler::Apart(_) => Scheduler::Apart(Apart::default()),
        field => field,
    };
    TokioLayout {
        context: 0,
        fields: ContextFields {
            scheduler,
            ..layout.fields
        },
        ..*layout
    }
}

/// What the debug info says, or where it is split off, what its package says.
fn debug_info(elf: &Elf<'_>, package: Option<&Elf<'_>>) -> Result<Vec<TokioLayout>> {
    let Some(sections) = Sections::load(elf)? else {
        return Ok(Vec::new());
    };
    let dwarf = dwarf::Dwarf::new(&sections)?;
    let found = types::layouts(&dwarf)?;
    match package.filter(|_| found.is_empty()) {
        Some(package) => package::with_units(package, &dwarf.split_ids(), types::layouts),
        None => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn own() -> std::path::PathBuf {
        std::env::current_exe().unwrap()
    }

    #[test]
    fn this_test_is_a_tokio_program_with_debug_info() {
        let found = discover(&own(), None).unwrap();
        assert!(found.context_symbol && found.has_symbols && found.has_lines);
        assert_eq!(found.debug_info_problem, None);
        let [exact] = found.exact.as_slice() else {
            panic!("{:?}", found.exact);
        };
        assert!(exact.context != 0 && exact.flavor.is_some());
        assert!(
            exact
                .multi_thread
                .is_some_and(|fields| fields.worker_index.is_some())
        );
        // The table knows the Tokio that the tests are built with.
        assert!(found.candidates.contains(&TokioLayout {
            current_thread: exact.current_thread,
            ..*exact
        }));
    }

    #[test]
    fn a_twin_of_another_build_is_refused() {
        let same = discover(&own(), Some(&own())).unwrap();
        assert_eq!(same, discover(&own(), None).unwrap());
        let error = discover(&own(), Some(Path::new("/bin/sleep"))).unwrap_err();
        let failure = error.downcast::<Failure>().unwrap();
        assert!(failure.what.contains("another build"), "{failure}");
    }

    #[test]
    fn what_is_no_executable_is_an_error() {
        assert!(discover(Path::new("/dev/null"), None).is_err());
        assert!(discover(Path::new("/etc/passwd"), None).is_err());
        assert!(discover(Path::new("/nonexistent"), None).is_err());
    }

    proptest! {
        /// Damage to the ELF headers, section table included, never panics.
        #[test]
        fn damaged_files_are_survived(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
            keep in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let mut bytes = std::fs::read("/bin/sleep").unwrap();
            let headers = 1024.min(bytes.len() / 2);
            let table = bytes.len() - headers;
            for (at, byte) in damage {
                // Half of it at the start, half in the section table at the end.
                let at = at.index(2 * headers);
                let at = if at < headers { at } else { table + at - headers };
                bytes[at] = byte;
            }
            if let Some(keep) = keep {
                bytes.truncate(keep.index(bytes.len()));
            }
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(&bytes).unwrap();
            let _ = discover(file.path(), None);
        }
    }
}
