//! Opens the file that a mapping shows, in the target's own mount namespace, deleted or not. What
//! cannot be opened is copied from the target's memory.

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::mappings::Mapping;
use super::memory::{Memory, ProcessMemory};

/// Limit of what is copied of a file that cannot be opened.
const MAX_COPY_BYTES: u64 = 64 << 20;

/// Copied at a time.
const CHUNK: u64 = 1 << 20;

/// The root directory of the process.
pub fn root_of(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/root"))
}

/// A path in the process's mount namespace, as hud opens it under `root`.
pub fn under(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Opens the file that this mapping shows. `is_main` says that it is the process's executable; `all`
/// are all mappings of the process.
///
/// `/proc/PID/exe` leads to the executable that runs, even if another file is at its path by now. A
/// library that was replaced is reachable only through `map_files`, which needs
/// CAP_CHECKPOINT_RESTORE. Without that, hud copies what is in memory: code, unwind tables and
/// build-id, but no symbols and no section headers.
///
/// # Errors
/// When the file cannot be opened, or is not a regular file.
pub fn open(pid: u32, mapping: &Mapping, is_main: bool, all: &[Mapping]) -> io::Result<File> {
    if mapping.is_vdso() {
        copy(pid, c"vdso", std::iter::once((&mapping.range, 0)))
    } else if is_main {
        open_regular(Path::new(&format!("/proc/{pid}/exe")))
    } else {
        open_in_namespace(pid, mapping).or_else(|_| {
            let of_file = |other: &&Mapping| {
                other.is_constant
                    && other.identity == mapping.identity
                    && other.path == mapping.path
            };
            let pieces = all.iter().filter(of_file);
            copy(
                pid,
                c"library",
                pieces.map(|piece| (&piece.range, piece.offset)),
            )
        })
    }
}

/// Opens the file under the target's root. Paths of a target in a chroot start outside of it, so the
/// plain path is tried as well, and the inode decides.
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
    // On many kernels the inodes of overlay file systems differ: a match is preferred, not required.
    for path in [Path::new(&by_range), mapping.path.as_path()] {
        if let Ok(file) = open_regular(path)
            && right(&file)
        {
            return Ok(file);
        }
    }
    in_root
}

/// Opens without blocking: the target controls the path, and it could be a FIFO by now.
///
/// # Errors
/// When it cannot be opened, or is not a regular file.
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

/// Copies ranges of the target's memory to these offsets of an anonymous file, so that callers need
/// not distinguish the two.
fn copy<'a>(
    pid: u32,
    name: &CStr,
    pieces: impl Iterator<Item = (&'a Range<u64>, u64)>,
) -> io::Result<File> {
    // SAFETY: the name is a C string; the descriptor is new and owned by the File alone.
    let file = unsafe {
        let fd = libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        File::from_raw_fd(fd)
    };
    let memory = ProcessMemory::new(pid);
    let mut room = MAX_COPY_BYTES;
    let mut buffer = Vec::new();
    for (range, offset) in pieces {
        let mut at = range.start;
        while at < range.end && room > 0 {
            let length = (range.end - at).min(CHUNK).min(room);
            buffer.resize(length as usize, 0);
            memory.read(at, &mut buffer)?;
            let place = offset.checked_add(at - range.start);
            file.write_all_at(&buffer, place.ok_or(io::ErrorKind::InvalidData)?)?;
            at += length;
            room -= length;
        }
    }
    Ok(file)
}

/// A path that opens this file again, with its own position, while the file is held open.
pub fn reopen_path(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::elf;

    #[test]
    fn a_copy_from_memory_unwinds_like_its_file() {
        let text = std::fs::read("/proc/self/maps").unwrap();
        let lines = text.split(|byte| *byte == b'\n');
        let all: Vec<Mapping> = lines.filter_map(Mapping::parse).collect();
        let is_libc = |mapping: &&Mapping| {
            mapping.is_code && mapping.path.to_string_lossy().contains("libc.so")
        };
        let libc = all.iter().find(is_libc).unwrap();
        let file = open_regular(&libc.path).unwrap();
        // A mapping whose path leads nowhere.
        let lost = Mapping {
            range: libc.range.start..libc.range.end - 1,
            path: "/nowhere/libc.so.6".into(),
            deleted: true,
            ..*libc
        };
        assert!(
            open(std::process::id(), &lost, false, &[])
                .is_ok_and(|empty| { elf::build_id(&empty).is_none() })
        );
        let all: Vec<Mapping> = all
            .into_iter()
            .filter(|mapping| mapping.identity == lost.identity)
            .map(|mapping| Mapping {
                path: lost.path.clone(),
                ..mapping
            })
            .collect();
        let copy = open(std::process::id(), &lost, false, &all).unwrap();
        assert_eq!(elf::build_id(&copy), elf::build_id(&file));
        assert_eq!(elf::code_segments(&copy), elf::code_segments(&file));
        assert_eq!(elf::section(&copy, ".eh_frame"), None);
        let (header, table) = elf::unwind_tables(&copy).unwrap();
        let header_in_file = elf::section(&file, ".eh_frame_hdr").unwrap();
        let table_in_file = elf::section(&file, ".eh_frame").unwrap();
        assert_eq!(header, header_in_file);
        assert_eq!(table.addresses.start, table_in_file.addresses.start);
        assert_eq!(table.bytes.start, table_in_file.bytes.start);
        assert!(table.bytes.end >= table_in_file.bytes.end);
        let bytes = header.read(&copy);
        assert!(bytes.is_some() && bytes == header_in_file.read(&file));
    }
}
