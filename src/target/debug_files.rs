//! Finds the file with a module's symbols and debug info where the module itself lacks them.
//!
//! Symbolisation and the search for Tokio's layout both use it. A file is used only if it belongs to
//! the build that is mapped: its build-id is the same, or where the module has none, its checksum is
//! that of the debug link.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::debuginfod::Debuginfod;
use super::elf::{self, BuildId};
use super::mapped_file::{open_regular, reopen_path, root_of, under};

/// Where distributions install debug files, in the target's file system and in hud's.
pub const SYSTEM_DIR: &str = "/usr/lib/debug";

/// Name of the link to a debug file.
const LINK: &str = "debug";

/// Bytes read at a time for a checksum.
const CHUNK: usize = 1 << 18;

/// Where to look for debug files; by default in the usual places of this machine.
#[derive(Clone, Debug, Default)]
pub struct DebugFiles {
    dirs: Vec<PathBuf>,
    server: Option<Debuginfod>,
}

/// A module whose debug file is searched.
#[derive(Clone, Copy, Debug)]
pub struct ModuleFile<'a> {
    /// The mapped file.
    pub file: &'a Arc<File>,
    /// Its path in the process's mount namespace.
    pub path: &'a Path,
    /// The process that has it mapped.
    pub pid: u32,
    pub build_id: Option<&'a BuildId>,
}

/// A file with symbols, debug info, or both.
#[derive(Clone, Debug)]
pub struct DebugFile {
    pub file: Arc<File>,
    /// Where it was found, for messages.
    pub path: PathBuf,
    /// Links to the file and to the DWARF package (`.dwp`) of its split debug info, so that one is
    /// found beside the other.
    links: Option<Arc<Links>>,
}

impl DebugFile {
    /// The file, with the package that lies beside it, if there is one.
    pub fn new(file: Arc<File>, path: PathBuf) -> DebugFile {
        let package = open_regular(&package_path(&path)).ok();
        DebugFile::with_package(file, path, package)
    }

    /// Opens the file at `path`, with its package.
    ///
    /// # Errors
    /// When the file cannot be opened, or is not a regular file.
    pub fn open(path: &Path) -> io::Result<DebugFile> {
        let file = Arc::new(open_regular(path)?);
        Ok(DebugFile::new(file, path.to_owned()))
    }

    fn with_package(file: Arc<File>, path: PathBuf, package: Option<File>) -> DebugFile {
        let links = package.and_then(|package| match Links::make(&file, package) {
            Ok(links) => Some(Arc::new(links)),
            Err(error) => {
                log::warn!(
                    "split debug info of {} is not used: {error}",
                    path.display()
                );
                None
            }
        });
        DebugFile { file, path, links }
    }

    /// A path that opens the file, and with `.dwp` appended its package.
    pub fn open_path(&self) -> PathBuf {
        match &self.links {
            Some(links) => links.directory.path().join(LINK),
            None => reopen_path(&self.file),
        }
    }
}

/// Links to files that are held open, whatever is at their paths by now.
#[derive(Debug)]
struct Links {
    directory: TempDir,
    _package: File,
}

impl Links {
    fn make(file: &File, package: File) -> io::Result<Links> {
        let directory = tempfile::Builder::new().prefix("hud-").tempdir()?;
        let link = directory.path().join(LINK);
        symlink(reopen_path(file), &link)?;
        symlink(reopen_path(&package), package_path(&link))?;
        Ok(Links {
            directory,
            _package: package,
        })
    }
}

/// `FILE.dwp`, as linkers name it.
pub fn package_path(file: &Path) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(".dwp");
    PathBuf::from(path)
}

impl DebugFiles {
    /// Searches these directories first, and asks the server for what is not on this machine.
    pub fn new(dirs: Vec<PathBuf>, server: Option<Debuginfod>) -> DebugFiles {
        DebugFiles { dirs, server }
    }

    /// The debug file of a module on this machine; None where there is none beside the module itself.
    pub fn find(&self, module: &ModuleFile<'_>) -> Option<DebugFile> {
        if elf::has_section(module.file, ".debug_info") {
            let (package, path) = self.package(module)?;
            let file = Arc::clone(module.file);
            return Some(DebugFile::with_package(file, path, Some(package)));
        }
        let link = elf::debug_link(module.file);
        let name = module.path.file_name();
        let by_id = module.build_id.map(|id| {
            let usual = [under(&root_of(module.pid), Path::new(SYSTEM_DIR))];
            self.by_build_id(id, name, &usual)
        });
        let by_link = link.as_ref().map(|link| self.by_link(module, &link.name));
        by_id.into_iter().chain(by_link).flatten().find_map(|path| {
            let file = open_regular(&path).ok()?;
            let same_build = match module.build_id {
                Some(id) => elf::build_id(&file).as_ref() == Some(id),
                None => link
                    .as_ref()
                    .is_some_and(|link| crc(&file).is_ok_and(|crc| crc == link.crc)),
            };
            let useful = same_build && has_names(&file);
            useful.then(|| DebugFile::new(Arc::new(file), path))
        })
    }

    /// The debug file of a module from a server, if one was given.
    pub fn download(
        &self,
        module: &ModuleFile<'_>,
        progress: &mut dyn FnMut(&str),
    ) -> Option<DebugFile> {
        let (server, id) = (self.server.as_ref()?, module.build_id?);
        if elf::has_section(module.file, ".debug_info") {
            return None;
        }
        let (file, path) = server.fetch(id, &module.path.to_string_lossy(), progress)?;
        Some(DebugFile::new(Arc::new(file), path))
    }

    /// The debug file of a build whose module is not on this machine. `name` is the module's.
    pub fn of_build(
        &self,
        id: &BuildId,
        name: &str,
        progress: &mut dyn FnMut(&str),
    ) -> Option<DebugFile> {
        let found = self
            .by_build_id(id, Some(name.as_ref()), &[])
            .into_iter()
            .find_map(|path| {
                let file = open_regular(&path).ok()?;
                let useful = elf::build_id(&file).as_ref() == Some(id) && has_names(&file);
                useful.then(|| DebugFile::new(Arc::new(file), path))
            });
        found.or_else(|| {
            let (file, path) = self.server.as_ref()?.fetch(id, name, progress)?;
            Some(DebugFile::new(Arc::new(file), path))
        })
    }

    /// Paths where a debug file with that build-id may be: in the user's directories, in `more`, and
    /// in this machine's. The user's may hold it under the module's name as well.
    fn by_build_id(&self, id: &BuildId, name: Option<&OsStr>, more: &[PathBuf]) -> Vec<PathBuf> {
        let id = id.to_string();
        let (first, rest) = id.split_at(2);
        let file = format!(".build-id/{first}/{rest}.debug");
        let system = [PathBuf::from(SYSTEM_DIR)];
        let directories = self.dirs.iter().chain(more).chain(&system);
        let mut paths: Vec<PathBuf> = directories.map(|dir| dir.join(&file)).collect();
        if let Some(name) = name.and_then(|name| Path::new(name).file_name()) {
            let mut debug = name.to_owned();
            debug.push(".debug");
            let both = |dir: &PathBuf| [dir.join(&debug), dir.join(name)];
            paths.extend(self.dirs.iter().flat_map(both));
        }
        paths
    }

    /// Paths where the file of a debug link may be: beside the module, and in every directory of debug
    /// files with and without the module's directory.
    fn by_link(&self, module: &ModuleFile<'_>, name: &OsStr) -> Vec<PathBuf> {
        // Only the file name: an untrusted file must not choose the directory.
        let Some(name) = Path::new(name).file_name() else {
            return Vec::new();
        };
        let parent = module.path.parent().unwrap_or(Path::new("/"));
        let beside = under(&root_of(module.pid), parent);
        let mut paths = vec![beside.join(name), beside.join(".debug").join(name)];
        let system = Path::new(SYSTEM_DIR);
        let usual = [under(&root_of(module.pid), system), system.to_owned()];
        for dir in self.dirs.iter().chain(&usual) {
            paths.push(under(dir, parent).join(name));
            paths.push(dir.join(name));
        }
        paths
    }

    /// The package of a module whose debug info is split.
    fn package(&self, module: &ModuleFile<'_>) -> Option<(File, PathBuf)> {
        let path = package_path(module.path);
        let name = path.file_name()?;
        let dirs = self.dirs.iter().map(|dir| dir.join(name));
        let beside = under(&root_of(module.pid), &path);
        dirs.chain([beside])
            .find_map(|path| Some((open_regular(&path).ok()?, path)))
    }
}

/// Whether the file has symbols or debug info.
fn has_names(file: &File) -> bool {
    [".debug_info", ".symtab"]
        .iter()
        .any(|section| elf::has_section(file, section))
}

/// The checksum of debug links: CRC-32 of the whole file.
fn crc(file: &File) -> io::Result<u32> {
    let mut file = File::open(reopen_path(file))?;
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            read => hasher.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    /// This test's own executable without its symbols, and the debug file for it.
    struct Stripped {
        directory: TempDir,
        program: PathBuf,
        debug: PathBuf,
    }

    fn run(program: &str, arguments: &[&std::ffi::OsStr]) {
        let status = Command::new(program).args(arguments).status();
        assert!(status.is_ok_and(|status| status.success()), "{program}");
    }

    impl Stripped {
        fn new() -> Stripped {
            let directory = tempfile::tempdir().unwrap();
            let program = directory.path().join("app");
            let debug = directory.path().join("elsewhere.debug");
            // Any small program will do; the C compiler is needed to build hud as well.
            let source = directory.path().join("app.c");
            fs::write(&source, "int main(void) { return 0; }\n").unwrap();
            let arguments = ["-g", "-Wl,--build-id", "-o"].map(std::ffi::OsStr::new);
            run(
                "cc",
                &[&arguments[..], &[program.as_ref(), source.as_ref()]].concat(),
            );
            run(
                "objcopy",
                &[
                    "--only-keep-debug".as_ref(),
                    program.as_ref(),
                    debug.as_ref(),
                ],
            );
            run("strip", &[program.as_ref()]);
            Stripped {
                directory,
                program,
                debug,
            }
        }

        fn link(&self) {
            let mut option = std::ffi::OsString::from("--add-gnu-debuglink=");
            option.push(&self.debug);
            run("objcopy", &[&option, self.program.as_ref()]);
        }

        fn forget_build_id(&self) {
            for file in [&self.program, &self.debug] {
                let option = "--remove-section=.note.gnu.build-id";
                run("objcopy", &[option.as_ref(), file.as_ref()]);
            }
        }

        fn find(&self, dirs: &[&Path]) -> Option<PathBuf> {
            let file = Arc::new(File::open(&self.program).unwrap());
            let build_id = elf::build_id(&file);
            let dirs = dirs.iter().map(|dir| dir.to_path_buf()).collect();
            let found = DebugFiles::new(dirs, None).find(&ModuleFile {
                file: &file,
                path: &self.program,
                pid: std::process::id(),
                build_id: build_id.as_ref(),
            });
            found.map(|found| found.path)
        }
    }

    #[test]
    fn a_directory_of_build_ids_is_searched() {
        let stripped = Stripped::new();
        let dir = stripped.directory.path().join("dir");
        assert_eq!(stripped.find(&[&dir]), None);
        let id = elf::build_id(&File::open(&stripped.program).unwrap()).unwrap();
        let id = id.to_string();
        let (first, rest) = id.split_at(2);
        let place = dir.join(".build-id").join(first);
        fs::create_dir_all(&place).unwrap();
        let path = place.join(format!("{rest}.debug"));
        fs::copy(&stripped.debug, &path).unwrap();
        assert_eq!(stripped.find(&[&dir]), Some(path.clone()));
        // A file of another build under this name is not used.
        fs::copy("/proc/self/exe", &path).unwrap();
        assert_eq!(stripped.find(&[&dir]), None);
        // Under the program's own name it is found as well.
        let named = dir.join("app.debug");
        fs::copy(&stripped.debug, &named).unwrap();
        assert_eq!(stripped.find(&[&dir]), Some(named));
    }

    #[test]
    fn a_debug_link_is_followed_if_the_file_is_the_same() {
        for without_build_id in [false, true] {
            let stripped = Stripped::new();
            if without_build_id {
                stripped.forget_build_id();
            }
            stripped.link();
            let name = stripped.debug.file_name().unwrap();
            let beside = stripped.directory.path().canonicalize().unwrap().join(name);
            let found = stripped.find(&[]).unwrap();
            assert_eq!(found.canonicalize().unwrap(), beside);
            // In a directory of debug files, and no longer beside the program.
            let other = tempfile::tempdir().unwrap();
            fs::rename(&stripped.debug, other.path().join(name)).unwrap();
            assert_eq!(stripped.find(&[]), None);
            let moved = other.path().join(name);
            assert_eq!(stripped.find(&[other.path()]), Some(moved.clone()));
            // Another file there has another checksum or build-id.
            fs::copy("/proc/self/exe", &moved).unwrap();
            assert_eq!(stripped.find(&[other.path()]), None);
        }
    }

    #[test]
    fn a_package_is_found_beside_its_program() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app");
        fs::copy("/proc/self/exe", &path).unwrap();
        let alone = DebugFile::open(&path).unwrap();
        assert_eq!(alone.open_path(), reopen_path(&alone.file));
        fs::write(package_path(&path), "a package").unwrap();
        let both = DebugFile::open(&path).unwrap();
        // The files stay those that were opened.
        fs::remove_file(package_path(&path)).unwrap();
        let package = fs::read(package_path(&both.open_path())).unwrap();
        assert_eq!(package, b"a package");
        let bytes = |path: &Path| fs::metadata(path).unwrap().len();
        assert_eq!(bytes(&both.open_path()), bytes(&path));
    }
}
