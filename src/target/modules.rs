//! The executables and libraries in the target's address space, each with its file held open.
//!
//! Addresses from the target mean something only through this map: [`ModuleMap::find`] gives the
//! module an address lies in and the address as the module's file states it. Files are opened in
//! the target's own mount namespace and stay open, so that they are the right ones in containers
//! and still readable once the target has exited.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::elf;
use super::memory::{Memory, ProcessMemory};

/// An unknown address makes the map be read again at most this often: code without a file
/// (generated at run time) stays unknown however often it is asked for.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// Larger than any vDSO.
const MAX_VDSO_BYTES: u64 = 1 << 20;

/// One executable or library.
#[derive(Debug)]
pub struct Module {
    /// The path as the target sees it, or `[vdso]`.
    pub path: PathBuf,
    /// The path's file name.
    pub name: Arc<str>,
    /// The very file that is mapped. None where it cannot be opened any more.
    pub file: Option<Arc<File>>,
    /// Where its code is mapped; ascending.
    pub ranges: Vec<Range<u64>>,
    /// Address in the target minus address in the file's headers; wraps.
    pub bias: u64,
    /// The process's main executable.
    pub is_main: bool,
    /// The path no longer leads to the mapped file.
    pub deleted: bool,
    /// The linker's build id.
    pub build_id: Option<Vec<u8>>,
    /// Tells mappings of one file from those of another: device, inode.
    identity: (u64, u64),
}

impl Module {
    /// The address as the file's headers and symbols state it.
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
    /// Where symbols of the main executable are instead of in the executable itself.
    twin: Option<Arc<File>>,
    generation: u64,
    read_at: Instant,
}

impl ModuleMap {
    /// Reads the process's map and opens its files.
    ///
    /// A file that cannot be opened leaves its module without one. Fails if `/proc/PID/maps`
    /// cannot be read: no such process, or no permission.
    pub fn read(pid: u32) -> io::Result<ModuleMap> {
        let mut map = ModuleMap {
            pid,
            modules: Vec::new(),
            by_address: Vec::new(),
            twin: None,
            generation: 0,
            read_at: Instant::now(),
        };
        map.refresh()?;
        Ok(map)
    }

    /// Takes the main executable's symbols from another file, such as an unstripped twin.
    pub fn set_twin(&mut self, file: File) {
        self.twin = Some(Arc::new(file));
        self.generation += 1;
    }

    /// The modules. One that a refresh found unchanged stays the same `Arc`.
    pub fn modules(&self) -> &[Arc<Module>] {
        &self.modules
    }

    /// The main executable.
    pub fn main(&self) -> Option<&Arc<Module>> {
        self.modules.iter().find(|module| module.is_main)
    }

    /// The file to look symbols of this module up in.
    pub fn symbol_file<'a>(&'a self, module: &'a Module) -> Option<&'a Arc<File>> {
        match &self.twin {
            Some(twin) if module.is_main => Some(twin),
            _ => module.file.as_ref(),
        }
    }

    /// Changes whenever the modules do: what was derived from an older one is stale.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The module this code address lies in, and the address as that module's file states it.
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

    /// Reads the map again if one of these addresses is unknown, as after `dlopen`, but at most
    /// once a second. Returns whether the modules changed. A target that has exited keeps the
    /// modules it had.
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
        let text = std::fs::read(format!("/proc/{}/maps", self.pid))?;
        let main = std::fs::read_link(format!("/proc/{}/exe", self.pid)).ok();
        let mappings: Vec<Mapping> = text
            .split(|&byte| byte == b'\n')
            .filter_map(Mapping::parse)
            .collect();
        // An exiting process has an empty map.
        if mappings.is_empty() {
            return Ok(());
        }
        let mut modules: Vec<Module> = Vec::new();
        for mapping in &mappings {
            if let Some(known) = modules.iter_mut().find(|module| mapping.continues(module)) {
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
                    ..**known
                },
                None => mapping.open(self.pid, main.as_deref()),
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
}

/// One executable, file-backed line of `/proc/PID/maps`.
#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    range: Range<u64>,
    offset: u64,
    identity: (u64, u64),
    path: PathBuf,
    deleted: bool,
}

impl Mapping {
    /// The mapping of a line, if it is code that comes from a file or is the vDSO.
    fn parse(line: &[u8]) -> Option<Mapping> {
        let mut rest = line;
        let mut field = || {
            let end = rest.iter().position(|&byte| byte == b' ')?;
            let (field, tail) = rest.split_at(end);
            rest = tail.get(1..)?;
            std::str::from_utf8(field).ok()
        };
        let (start, end) = field()?.split_once('-')?;
        let permissions = field()?;
        let offset = field()?;
        let device = field()?;
        let inode = field()?.parse().ok()?;
        let path = rest.trim_ascii_start();
        let is_vdso = path == b"[vdso]";
        if permissions.as_bytes().get(2) != Some(&b'x') || !(path.starts_with(b"/") || is_vdso) {
            return None;
        }
        let (major, minor) = device.split_once(':')?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let range = hex(start)?..hex(end)?;
        if range.is_empty() {
            return None;
        }
        let (path, deleted) = match path.strip_suffix(b" (deleted)") {
            Some(path) => (path, true),
            None => (path, false),
        };
        Some(Mapping {
            range,
            offset: hex(offset)?,
            identity: ((hex(major)? << 32) | hex(minor)?, inode),
            path: PathBuf::from(std::ffi::OsString::from_vec(unescape(path))),
            deleted,
        })
    }

    fn is_vdso(&self) -> bool {
        self.path.as_os_str() == "[vdso]"
    }

    /// Whether this is one more piece of a module that is known already.
    fn continues(&self, module: &Module) -> bool {
        module.identity == self.identity
            && module.path == self.path
            && bias(module.file.as_deref(), self) == module.bias
    }

    /// Opens the mapped file and reads what its headers say.
    fn open(&self, pid: u32, main: Option<&Path>) -> Module {
        // The link of `/proc/PID/exe` is written the way the map writes paths.
        let is_main = main.is_some_and(|main| {
            let main = main.as_os_str().as_bytes();
            main.strip_suffix(b" (deleted)").unwrap_or(main) == self.path.as_os_str().as_bytes()
        });
        let file = if self.is_vdso() {
            vdso_file(pid, &self.range)
        } else if is_main {
            open_regular(Path::new(&format!("/proc/{pid}/exe")))
        } else {
            self.open_in_namespace(pid)
        };
        let file = file.ok().map(Arc::new);
        let name = self.path.file_name().unwrap_or(self.path.as_os_str());
        Module {
            name: name.to_string_lossy().into(),
            path: self.path.clone(),
            ranges: vec![self.range.clone()],
            bias: bias(file.as_deref(), self),
            is_main,
            deleted: self.deleted,
            build_id: file.as_deref().and_then(elf::build_id),
            identity: self.identity,
            file,
        }
    }

    /// The file under the target's root. A target in a chroot prints paths from outside of it,
    /// so the plain path is tried as well; the inode tells which one is right.
    fn open_in_namespace(&self, pid: u32) -> io::Result<File> {
        let inside = self.path.strip_prefix("/").unwrap_or(&self.path);
        let by_range = format!(
            "/proc/{pid}/map_files/{:x}-{:x}",
            self.range.start, self.range.end
        );
        if self.deleted {
            return open_regular(Path::new(&by_range));
        }
        let in_root = open_regular(&Path::new(&format!("/proc/{pid}/root")).join(inside));
        let right = |file: &File| {
            file.metadata()
                .is_ok_and(|meta| meta.ino() == self.identity.1)
        };
        if in_root.as_ref().is_ok_and(right) {
            return in_root;
        }
        // On overlay file systems the inodes differ on many kernels: a match is preferred, not
        // demanded.
        for path in [Path::new(&by_range), self.path.as_path()] {
            if let Ok(file) = open_regular(path)
                && right(&file)
            {
                return Ok(file);
            }
        }
        in_root
    }
}

/// Undoes the escape that the kernel's `seq_path` uses for newlines.
fn unescape(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&first, tail)) = rest.split_first() {
        match rest.strip_prefix(b"\\012") {
            Some(after) => {
                plain.push(b'\n');
                rest = after;
            }
            None => {
                plain.push(first);
                rest = tail;
            }
        }
    }
    plain
}

/// How far the mapping lies from where the file's headers put it.
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

/// Opens without waiting: the path is the target's to choose and could be a FIFO by now.
fn open_regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    Ok(file)
}

/// The vDSO has no file: its bytes are copied from the target's memory into one of our own, so
/// that everything else need not know the difference.
fn vdso_file(pid: u32, range: &Range<u64>) -> io::Result<File> {
    let length = (range.end - range.start).min(MAX_VDSO_BYTES);
    let mut bytes = vec![0u8; length as usize];
    ProcessMemory::new(pid).read(range.start, &mut bytes)?;
    // SAFETY: the name is a C string; the descriptor is new and owned by the File alone.
    let mut file = unsafe {
        let fd = libc::memfd_create(c"vdso".as_ptr(), libc::MFD_CLOEXEC);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        File::from_raw_fd(fd)
    };
    file.write_all(&bytes)?;
    Ok(file)
}

/// A path that opens this very file again, with a position of its own, for as long as it is held.
pub fn reopen_path(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_code_from_files_is_kept() {
        let line =
            b"55d0c8a3f000-55d0c8b00000 r-xp 0002f000 fd:01 1234       /srv/my app\\012x (deleted)";
        let mapping = Mapping::parse(line).unwrap();
        assert_eq!(mapping.range, 0x55d0_c8a3_f000..0x55d0_c8b0_0000);
        assert_eq!(mapping.offset, 0x2f000);
        assert_eq!(mapping.path, Path::new("/srv/my app\nx"));
        assert!(mapping.deleted);
        for other in [
            &b"55d0c8a3f000-55d0c8b00000 r--p 00000000 fd:01 1234   /srv/app"[..],
            b"7ffd1000-7ffd2000 rw-p 00000000 00:00 0   [stack]",
            b"7f0000000000-7f0000001000 rwxp 00000000 00:00 0 ",
            b"2000-1000 r-xp 00000000 00:00 0   /srv/app",
            b"",
        ] {
            assert_eq!(Mapping::parse(other), None);
        }
    }

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
    fn a_library_loaded_later_is_found_at_the_next_look() {
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
        assert!(!map.refresh_for(&[address]), "asked again too soon");
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
            "what has not changed is kept"
        );
    }

    proptest! {
        #[test]
        fn any_line_is_survived(line in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = Mapping::parse(&line);
        }
    }
}
