//! The file of a trace: opens it, and explains why it cannot be opened or written.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use crate::failure::{Failure, Kind};

/// Creates the file. An existing one is emptied with `overwrite`, and refused without.
///
/// # Errors
/// As [`check`], and when the path cannot be written.
pub fn open(path: &Path, overwrite: bool) -> Result<File, Failure> {
    check(path, overwrite)?;
    let shown = path.display();
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    options.open(path).map_err(|error| {
        let what = format!("cannot write the trace to {shown}: {error}");
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Failure::new(Kind::Permission, what)
                    .hint("choose a place you may write to: --export FILE")
            }
            io::ErrorKind::NotFound => Failure::new(Kind::Failed, what)
                .hint("the directory does not exist: create it, or choose another"),
            _ => Failure::new(Kind::Failed, what),
        }
    })
}

/// Checks that a trace can be put at this path.
///
/// # Errors
/// When it is a directory, pipe or socket, or without `overwrite` an existing file.
pub fn check(path: &Path, overwrite: bool) -> Result<(), Failure> {
    let shown = path.display();
    if let Ok(metadata) = fs::metadata(path) {
        let kind = metadata.file_type();
        if kind.is_file() && !overwrite {
            let what = format!("{shown} exists already");
            return Err(Failure::new(Kind::Usage, what)
                .hint("choose another name, or overwrite it with --force"));
        }
        if kind.is_dir() {
            let name = path.join("trace.json");
            return Err(Failure::new(
                Kind::Usage,
                format!("cannot write the trace to {shown}: it is a directory"),
            )
            .hint(format!("name a file, such as {}", name.display())));
        }
        if kind.is_fifo() || kind.is_socket() {
            return Err(Failure::new(
                Kind::Usage,
                format!("cannot write the trace to {shown}: it is a pipe or a socket"),
            )
            .hint(
                "name an ordinary file, since parts of it are rewritten while it grows, or write \
                 to standard output at the end: --export - | ...",
            ));
        }
    }
    Ok(())
}

/// Explains a failed write; `consequence` says what it means for the recording.
pub fn write_failure(path: &str, error: &io::Error, consequence: &str) -> Failure {
    let what = format!("cannot write {path}: {error}; {consequence}");
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Failure::new(Kind::Failed, what).hint("make room, or record to another disk")
        }
        _ => Failure::new(Kind::Failed, what),
    }
}
