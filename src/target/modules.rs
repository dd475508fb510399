//! The executables and libraries in the target's address space, each with its file held open.
//!
//! [`ModuleMap::find`] translates an address of the target to its module and the address in the
//! module's file. Files are opened in the target's own mount namespace and stay open, so that they
//! are the right ones in containers and readable after the target has exited.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::call_targets::CallTargets;
use super::debug_files::{DebugFile, DebugFiles, ModuleFile};
use super::elf::{self, BuildId};
use super::functions::Functions;
use super::mapped_file;
use super::mappings::{self, Mapping};

/// The shortest time between two reads of the map because of unknown addresses: code without a file
/// (generated at run time) stays unknown however often the map is read.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// One executable or library.
#[derive(Debug)]
pub struct Module {
    /// The path as the target sees it, or `[vdso]`.
    pub path: PathBuf,
    /// The path's file name.
    pub name: Arc<str>,
    /// The file that is mapped, or a copy of what is in memory. None where neither can be read.
    pub file: Option<Arc<File>>,
    /// Addresses of its code, ascending.
    pub ranges: Vec<Range<u64>>,
    /// Address in the target minus address in the file; wraps.
    pub bias: u64,
    /// The process's main executable.
    pub is_main: bool,
    /// The path no longer leads to the mapped file.
    pub deleted: bool,
    /// The linker's build id.
    pub build_id: Option<BuildId>,
    /// The file with its symbols and debug info, unless `file` has them all.
    pub debug: Option<DebugFile>,
    /// Identifies the mapped file: device, inode.
    identity: (u64, u64),
    functions: Arc<OnceLock<Functions>>,
    call_targets: Arc<OnceLock<CallTargets>>,
}

impl Module {
    /// Its functions by its unwind tables; read on the first call.
    pub fn functions(&self) -> &Functions {
        let file = self.file.as_deref();
        self.functions
            .get_or_init(|| file.map(Functions::read).unwrap_or_default())
    }

    /// Starts of its other functions, by calls and pointers to them; read on the first call, which
    /// takes a tenth of a second for 100 MB of code.
    pub fn call_targets(&self) -> &CallTargets {
        let read = |file| CallTargets::read(file, self.functions());
        let file = self.file.as_deref();
        self.call_targets
            .get_or_init(|| file.map(read).unwrap_or_default())
    }

    /// The address in the terms of the file's headers and symbols.
    pub fn svma(&self, address: u64) -> u64 {
        address.wrapping_sub(self.bias)
    }

    fn same(&self, other: &Module) -> bool {
        self.identity == other.identity
            && self.path == other.path
            && self.ranges == other.ranges
            && self.bias == other.bias
    }
}

/// All modules of a process, by address.
#[derive(Debug)]
pub struct ModuleMap {
    pid: u32,
    modules: Vec<Arc<Module>>,
    /// Code ranges with the index of their module; ascending, not overlapping.
    by_address: Vec<(Range<u64>, usize)>,
    /// The file with the main executable's symbols, if the user gave one.
    symbols: Option<DebugFile>,
    debug_files: DebugFiles,
    generation: u64,
    read_at: Instant,
}

impl ModuleMap {
    /// Reads the process's map, and opens its files and the debug files that this machine has. A
    /// module whose file cannot be opened stays without one.
    ///
    /// # Errors
    /// When `/proc/PID/maps` cannot be read: no such process, or no permission.
    pub fn read(pid: u32) -> io::Result<ModuleMap> {
        ModuleMap::with_debug_files(pid, DebugFiles::default(), &mut |_| ())
    }

    /// As [`ModuleMap::read`], with debug files from where `debug_files` says. Only this call asks
    /// servers, never a refresh during a session; `progress` takes the messages.
    ///
    /// # Errors
    /// As [`ModuleMap::read`].
    pub fn with_debug_files(
        pid: u32,
        debug_files: DebugFiles,
        progress: &mut dyn FnMut(&str),
    ) -> io::Result<ModuleMap> {
        let mut map = ModuleMap {
            pid,
            modules: Vec::new(),
            by_address: Vec::new(),
            symbols: None,
            debug_files,
            generation: 0,
            read_at: Instant::now(),
        };
        map.refresh()?;
        for module in &mut map.modules {
            if module.debug.is_none()
                && let Some(module) = Arc::get_mut(module)
                && let Some(file) = &module.file
            {
                let file = ModuleFile {
                    file,
                    path: &module.path,
                    pid,
                    build_id: module.build_id.as_ref(),
                };
                module.debug = map.debug_files.download(&file, progress);
            }
        }
        Ok(map)
    }

    /// Takes the main executable's symbols from this file, such as its unstripped copy.
    pub fn set_symbols(&mut self, symbols: DebugFile) {
        self.symbols = Some(symbols);
        self.generation += 1;
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The modules. One that a refresh found unchanged stays the same `Arc`.
    pub fn modules(&self) -> &[Arc<Module>] {
        &self.modules
    }

    /// The main executable.
    pub fn main(&self) -> Option<&Arc<Module>> {
        self.modules.iter().find(|module| module.is_main)
    }

    /// The file with this module's symbols and debug info, unless its own file has them all.
    pub fn debug_file<'a>(&'a self, module: &'a Module) -> Option<&'a DebugFile> {
        match &self.symbols {
            Some(symbols) if module.is_main => Some(symbols),
            _ => module.debug.as_ref(),
        }
    }

    /// Increases whenever the modules change: what was derived from an older one is stale.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The module that contains this code address, and the address in that module's file.
    pub fn find(&self, address: u64) -> Option<(&Arc<Module>, u64)> {
        let after = self
            .by_address
            .partition_point(|(range, _)| range.start <= address);
        let (range, index) = self.by_address.get(after.checked_sub(1)?)?;
        if !range.contains(&address) {
            return None;
        }
        let module = self.modules.get(*index)?;
        Some((module, module.svma(address)))
    }

    /// Reads the map again if one of these addresses is unknown, as after `dlopen`, but at most once
    /// per second. Returns whether the modules changed. The modules of a target that has exited stay.
    pub fn refresh_for(&mut self, addresses: &[u64]) -> bool {
        if self.read_at.elapsed() < REFRESH_INTERVAL
            || addresses
                .iter()
                .all(|&address| self.find(address).is_some())
        {
            return false;
        }
        let before = self.generation;
        self.refresh().is_ok() && self.generation != before
    }

    fn refresh(&mut self) -> io::Result<()> {
        self.read_at = Instant::now();
        let mappings = mappings::of(self.pid)?;
        let main = std::fs::read_link(format!("/proc/{}/exe", self.pid)).ok();
        // An exiting process has an empty map.
        if mappings.is_empty() {
            return Ok(());
        }
        let mut modules: Vec<Module> = Vec::new();
        for mapping in mappings.iter().filter(|mapping| mapping.is_code) {
            if let Some(known) = modules.iter_mut().find(|module| continues(mapping, module)) {
                known.ranges.push(mapping.range.clone());
                continue;
            }
            let known = self.modules.iter().find(|module| {
                module.identity == mapping.identity
                    && module.path == mapping.path
                    && module.ranges.contains(&mapping.range)
            });
            modules.push(match known {
                Some(known) => Module {
                    path: known.path.clone(),
                    name: known.name.clone(),
                    file: known.file.clone(),
                    ranges: vec![mapping.range.clone()],
                    build_id: known.build_id.clone(),
                    debug: known.debug.clone(),
                    functions: known.functions.clone(),
                    call_targets: known.call_targets.clone(),
                    ..**known
                },
                None => self.open(mapping, main.as_deref(), &mappings),
            });
        }
        let modules: Vec<Arc<Module>> = modules
            .into_iter()
            .map(|new| match self.modules.iter().find(|old| old.same(&new)) {
                Some(old) => Arc::clone(old),
                None => Arc::new(new),
            })
            .collect();
        let unchanged = modules.len() == self.modules.len()
            && modules
                .iter()
                .zip(&self.modules)
                .all(|(new, old)| Arc::ptr_eq(new, old));
        if unchanged {
            return Ok(());
        }
        self.modules = modules;
        self.by_address = self
            .modules
            .iter()
            .enumerate()
            .flat_map(|(index, module)| {
                module
                    .ranges
                    .iter()
                    .map(move |range| (range.clone(), index))
            })
            .collect();
        self.by_address.sort_by_key(|(range, _)| range.start);
        self.generation += 1;
        Ok(())
    }

    /// Opens the mapped file and reads what its headers say.
    fn open(&self, mapping: &Mapping, main: Option<&Path>, all: &[Mapping]) -> Module {
        // The link `/proc/PID/exe` has the same form as paths in the map.
        let is_main = main.is_some_and(|main| {
            let main = main.as_os_str().as_bytes();
            main.strip_suffix(b" (deleted)").unwrap_or(main) == mapping.path.as_os_str().as_bytes()
        });
        let file = mapped_file::open(self.pid, mapping, is_main, all);
        let file = file.ok().map(Arc::new);
        let build_id = file.as_deref().and_then(elf::build_id);
        let name = mapping.path.file_name().unwrap_or(mapping.path.as_os_str());
        let debug = file
            .as_ref()
            .filter(|_| !mapping.is_vdso())
            .and_then(|file| {
                self.debug_files.find(&ModuleFile {
                    file,
                    path: &mapping.path,
                    pid: self.pid,
                    build_id: build_id.as_ref(),
                })
            });
        Module {
            name: name.to_string_lossy().into(),
            path: mapping.path.clone(),
            ranges: vec![mapping.range.clone()],
            bias: bias(file.as_deref(), mapping),
            is_main,
            deleted: mapping.deleted,
            build_id,
            debug,
            identity: mapping.identity,
            functions: Arc::default(),
            call_targets: Arc::default(),
            file,
        }
    }
}

/// Whether the mapping is another piece of this module.
fn continues(mapping: &Mapping, module: &Module) -> bool {
    module.identity == mapping.identity
        && module.path == mapping.path
        && bias(module.file.as_deref(), mapping) == module.bias
}

/// Address of the mapping minus the address that the file's headers give.
fn bias(file: Option<&File>, mapping: &Mapping) -> u64 {
    let segments = file.map(elf::code_segments).unwrap_or_default();
    let base = mapping.range.start.wrapping_sub(mapping.offset);
    elf::segment_at(&segments, mapping.offset, page_size()).map_or(base, |segment| {
        base.wrapping_add(segment.offset)
            .wrapping_sub(segment.address)
    })
}

fn page_size() -> u64 {
    // SAFETY: sysconf takes no pointers.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size)
        .ok()
        .filter(|size| size.is_power_of_two())
        .unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_in_its_own_map() {
        let map = ModuleMap::read(std::process::id()).unwrap();
        let here = this_process_is_found_in_its_own_map as *const () as u64;
        let (module, svma) = map.find(here).unwrap();
        assert!(module.is_main && !module.deleted);
        assert_eq!(svma, here.wrapping_sub(module.bias));
        let file = module.file.as_ref().unwrap();
        assert!(
            elf::code_segments(file)
                .iter()
                .any(|segment| segment.contains(svma))
        );
        let vdso = map
            .modules()
            .iter()
            .find(|module| &*module.name == "[vdso]")
            .unwrap();
        assert!(elf::section(vdso.file.as_ref().unwrap(), ".eh_frame").is_some());
        assert!(map.find(0).is_none() && map.find(u64::MAX).is_none());
    }

    #[test]
    fn a_library_loaded_later_is_found_by_a_refresh() {
        let mut map = ModuleMap::read(std::process::id()).unwrap();
        let main = map.main().unwrap().clone();
        let before = map.generation();
        // SAFETY: libthread_db comes with the C library; its initialisers do nothing.
        let address = unsafe {
            let library = libc::dlopen(c"libthread_db.so.1".as_ptr(), libc::RTLD_LAZY);
            assert!(!library.is_null());
            libc::dlsym(library, c"td_init".as_ptr()) as u64
        };
        assert!(map.find(address).is_none());
        assert!(!map.refresh_for(&[address]), "it was read a moment ago");
        map.read_at = Instant::now() - REFRESH_INTERVAL;
        assert!(map.refresh_for(&[address]));
        assert!(
            map.find(address)
                .unwrap()
                .0
                .name
                .starts_with("libthread_db")
        );
        assert!(map.generation() > before);
        assert!(
            Arc::ptr_eq(map.main().unwrap(), &main),
            "unchanged modules are kept"
        );
    }
}
