//! Opens the very file behind a mapping: in the target's own mount namespace, deleted or not.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::mappings::Mapping;
use super::memory::{Memory, ProcessMemory};

/// Larger than any vDSO.
const MAX_VDSO_BYTES: u64 = 1 << 20;

/// The directory that is `/` to the process.
pub fn root_of(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/root"))
}

/// A path of the process's mount namespace as it is reached from here.
pub fn under(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Opens the file that this mapping shows; `is_main` for the process's own executable.
///
/// `/proc/PID/exe` leads to the executable that runs, whatever its path leads to by now. Other
/// deleted files are reached through `map_files` only, which needs CAP_CHECKPOINT_RESTORE.
///
/// # Errors
/// When the file cannot be opened, or is no ordinary file.
pub fn open(pid: u32, mapping: &Mapping, is_main: bool) -> io::Result<File> {
    if mapping.is_vdso() {
        vdso(pid, &mapping.range)
    } else if is_main {
        open_regular(Path::new(&format!("/proc/{pid}/exe")))
    } else {
        open_in_namespace(pid, mapping)
    }
}

/// The file under the target's root. A target in a chroot prints paths from outside of it, so the
/// plain path is tried as well; the inode tells which one is right.
fn open_in_namespace(pid: u32, mapping: &Mapping) -> io::Result<File> {
    let by_range = format!(
        "/proc/{pid}/map_files/{:x}-{:x}",
        mapping.range.start, mapping.range.end
    );
    if mapping.deleted {
        return open_regular(Path::new(&by_range));
    }
    let in_root = open_regular(&under(&root_of(pid), &mapping.path));
    let right = |file: &File| {
        file.metadata()
            .is_ok_and(|meta| meta.ino() == mapping.identity.1)
    };
    if in_root.as_ref().is_ok_and(right) {
        return in_root;
    }
    // On overlay file systems the inodes differ on many kernels: a match is preferred, not
    // demanded.
    for path in [Path::new(&by_range), mapping.path.as_path()] {
        if let Ok(file) = open_regular(path)
            && right(&file)
        {
            return Ok(file);
        }
    }
    in_root
}

/// Opens without waiting: the path is the target's to choose and could be a FIFO by now.
///
/// # Errors
/// When it cannot be opened, or is no ordinary file.
pub fn open_regular(path: &Path) -> io::Result<File> {
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
fn vdso(pid: u32, range: &Range<u64>) -> io::Result<File> {
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
