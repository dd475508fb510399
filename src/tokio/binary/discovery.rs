//! All that an executable's file says of where Tokio keeps its state.

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::elf::Elf;
use super::sections::Sections;
use super::symbols::{self, LocalSymbols};
use super::versions::{self, Version};
use super::{dwarf, package, types};
use crate::failure::{Failure, Kind};
use crate::target::debug_files::package_path;
use crate::target::elf::{build_id, cached};
use crate::target::mapped_file::open_regular;
use crate::tokio::{FlavorPaths, PollPaths, Source, ThreadLocals, TokioLayout, table};

/// What a file gave. Nothing in it has been tried on a live thread yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// The versions of Tokio linked in, ascending, from source paths in the constants.
    pub tokio_versions: Vec<String>,
    /// Layouts from the debug info. More than one where several Tokio versions are linked in.
    pub exact: Vec<TokioLayout>,
    /// Layouts from the version table at the place that a symbol names, likeliest first.
    pub candidates: Vec<TokioLayout>,
    /// Whether the symbol table names Tokio's thread-locals. If not, only `shapes` are left.
    pub context_symbol: bool,
    /// The range that those thread-locals span, in bytes from the thread pointer.
    pub locals: Option<Range<i64>>,
    /// Paths from the version table, to be placed by a scan of the thread-local block.
    pub shapes: Vec<PollPaths>,
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

    /// Removes a layout that was seen to be wrong from those to try.
    pub fn forget(&mut self, refuted: &TokioLayout) {
        self.candidates.retain(|other| other != refuted);
        self.shapes
            .retain(|shape| !same_offsets(shape, &refuted.poll));
    }

    /// The layouts that differ from this one from the version table in their ticks alone: what may
    /// hold instead once a flavor starts that had not run yet. None for a layout from elsewhere.
    pub fn other_ticks(&self, layout: &TokioLayout) -> Vec<TokioLayout> {
        let without_ticks = |paths: &PollPaths| {
            let without =
                |flavor: Option<FlavorPaths>| flavor.map(|paths| FlavorPaths { tick: 0, ..paths });
            PollPaths {
                current_thread: without(paths.current_thread),
                multi_thread: without(paths.multi_thread),
                ..*paths
            }
        };
        let others = self.shapes.iter().filter(|shape| {
            layout.poll.source.is_table()
                && same_offsets(&without_ticks(shape), &without_ticks(&layout.poll))
                && !same_offsets(shape, &layout.poll)
        });
        let placed = others.map(|shape| TokioLayout {
            poll: PollPaths {
                source: layout.poll.source,
                ..*shape
            },
            ..*layout
        });
        placed.collect()
    }
}

/// Whether the paths are the same, wherever they came from.
fn same_offsets(one: &PollPaths, other: &PollPaths) -> bool {
    let source = other.source;
    PollPaths { source, ..*one } == *other
}

/// Reads the file of the running executable (`/proc/PID/exe`). Symbols and debug info come from
/// `symbol_file` instead where one is given (its unstripped copy or debug file), and from the
/// package of split debug info beside that.
///
/// # Errors
/// When a file cannot be read or is no ELF executable of a known processor; a [`Failure`] when the
/// symbol file is of another build. Damaged debug info is no error: the result says so.
pub fn discover(executable: &Path, symbol_file: Option<&Path>) -> Result<Discovery> {
    let file = open(executable)?;
    let data = cached(&file);
    let elf = Elf::parse(&data).with_context(|| executable.display().to_string())?;
    let found = versions::tokio(&file, &elf);
    let mut discovery = Discovery {
        tokio_versions: found.iter().map(ToString::to_string).collect(),
        thread_local_block: elf.thread_local_block(),
        ..Discovery::default()
    };
    let Some(path) = symbol_file else {
        discovery.add_layouts(&elf, &elf, None, &found);
        return Ok(discovery);
    };
    let debug_file = open(path)?;
    let debug_data = cached(&debug_file);
    let mut debug = Elf::parse(&debug_data).with_context(|| path.display().to_string())?;
    same_build((&file, &elf), (&debug_file, &debug), path)?;
    // A debug file is never loaded, so its program headers need not be right.
    debug.tls = elf.tls;
    // A debug file may hold the debug info alone, while the executable kept its symbols.
    let symbols = match symbols::thread_locals(&debug).has_state() {
        true => &debug,
        false => &elf,
    };
    let package = open_regular(&package_path(path)).ok();
    let package_data = package.as_ref().map(cached);
    let package = package_data.as_ref().map(Elf::parse).transpose();
    let package = package.context("the .dwp file");
    match package {
        Ok(package) => discovery.add_layouts(symbols, &debug, package.as_ref(), &found),
        Err(error) => {
            discovery.add_layouts(symbols, &debug, None, &found);
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

/// Refuses a symbol file whose build-id, or else whose thread-local segment, differs.
fn same_build(
    (file, elf): (&File, &Elf<'_>),
    (debug_file, debug): (&File, &Elf<'_>),
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
    match (build_id(file), build_id(debug_file)) {
        (Some(running), Some(given)) if running != given => Err(refuse(format!(
            "build-id {given}, and the process has {running}"
        ))),
        (Some(_), Some(_)) => Ok(()),
        _ if elf.machine != debug.machine || elf.tls != debug.tls => {
            Err(refuse("its thread-local segment differs".into()))
        }
        _ => Ok(()),
    }
}

impl Discovery {
    /// Takes the places of thread-locals from one file and the debug info from another or the same.
    fn add_layouts(
        &mut self,
        symbols: &Elf<'_>,
        debug: &Elf<'_>,
        package: Option<&Elf<'_>>,
        versions: &[Version],
    ) {
        let locals = symbols::thread_locals(symbols);
        self.context_symbol = locals.has_state();
        self.locals = locals.span();
        self.has_symbols = symbols.has_symbols();
        self.has_lines = debug.has_section(".debug_line");
        let table = table::candidates(versions);
        let source = Source::Scan;
        let shapes = table.iter().map(|paths| PollPaths { source, ..*paths });
        self.shapes = shapes.collect();
        if !locals.has_state() {
            return;
        }
        self.candidates = placed(&table, &locals);
        match debug_info(debug, package) {
            Ok(exact) => self.exact = placed(&exact, &locals),
            Err(error) => self.debug_info_problem = Some(format!("{error:#}")),
        }
    }
}

/// The paths from every place where their thread-locals may lie.
fn placed(paths: &[PollPaths], symbols: &LocalSymbols) -> Vec<TokioLayout> {
    let placed = paths.iter().flat_map(|paths| {
        let locals = thread_locals(paths, symbols);
        locals.map(|locals| TokioLayout {
            locals,
            poll: *paths,
        })
    });
    placed.collect()
}

/// Every choice of one symbol for each thread-local that the paths start at.
fn thread_locals(paths: &PollPaths, symbols: &LocalSymbols) -> impl Iterator<Item = ThreadLocals> {
    let contexts = match paths.context.task_id {
        Some(_) => &symbols.contexts,
        None => &symbols.budgets,
    };
    let has_pointers = paths.context.scheduler.is_none();
    let places = |flavor: Option<FlavorPaths>, found: &[symbols::Place]| -> Vec<Option<i64>> {
        match has_pointers && flavor.is_some() && !found.is_empty() {
            true => found.iter().map(|place| Some(place.offset)).collect(),
            false => vec![None],
        }
    };
    let current_thread = places(paths.current_thread, &symbols.current_thread);
    let multi_thread = places(paths.multi_thread, &symbols.multi_thread);
    let mut all = Vec::new();
    for context in contexts {
        for current_thread in &current_thread {
            all.extend(multi_thread.iter().map(|multi_thread| ThreadLocals {
                context: context.offset,
                current_thread: *current_thread,
                multi_thread: *multi_thread,
            }));
        }
    }
    all.into_iter()
}

/// What the debug info says, or where it is split off, what its package says.
fn debug_info(elf: &Elf<'_>, package: Option<&Elf<'_>>) -> Result<Vec<PollPaths>> {
    let Some(sections) = Sections::load(elf)? else {
        return Ok(Vec::new());
    };
    let dwarf = dwarf::Dwarf::new(&sections)?;
    let found = types::poll_paths(&dwarf)?;
    match package.filter(|_| found.is_empty()) {
        Some(package) => package::with_units(package, &dwarf.split_ids(), types::poll_paths),
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
        assert!(exact.locals.context != 0 && exact.poll.flavor_tag.is_some());
        assert!(
            exact
                .poll
                .multi_thread
                .is_some_and(|paths| paths.worker_index.is_some())
        );
        // The table knows the Tokio that the tests are built with.
        let mut candidates = found.candidates.iter();
        assert!(candidates.any(|candidate| candidate.locals == exact.locals
            && same_offsets(&candidate.poll, &exact.poll)));
    }

    #[test]
    fn a_symbol_file_of_another_build_is_refused() {
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
