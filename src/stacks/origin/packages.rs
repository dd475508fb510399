//! Packages by the paths of their source files.
//!
//! Locations of panics keep their registry paths (`registry/src/INDEX/bcrypt-0.17.1/`) even in a
//! stripped executable.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;

use memchr::memmem;

use crate::target::elf;

/// How much of a file is searched at a time, and by how much the pieces overlap.
const CHUNK_BYTES: usize = 1 << 20;
const OVERLAP_BYTES: usize = 512;

/// The crates of an executable whose sources lie in a registry or a git checkout.
pub(super) fn scan(file: &File) -> HashSet<String> {
    let mut crates = HashSet::new();
    let end = file.metadata().map_or(0, |meta| meta.len());
    let bytes = elf::section(file, ".rodata").map_or(0..end, |section| section.bytes);
    let mut chunk = vec![0u8; CHUNK_BYTES];
    let mut at = bytes.start;
    while at < bytes.end {
        let length = usize::try_from(bytes.end - at).map_or(CHUNK_BYTES, |n| n.min(CHUNK_BYTES));
        let Some(Ok(read)) = chunk.get_mut(..length).map(|space| file.read_at(space, at)) else {
            break;
        };
        add_packages(&mut crates, chunk.get(..read).unwrap_or_default());
        if read <= OVERLAP_BYTES {
            break;
        }
        at += (read - OVERLAP_BYTES) as u64;
    }
    crates
}

fn add_packages(crates: &mut HashSet<String>, bytes: &[u8]) {
    for marker in ["registry/src/", "git/checkouts/"] {
        for at in memmem::find_iter(bytes, marker) {
            let end = bytes.len().min(at + OVERLAP_BYTES);
            let path = bytes.get(at..end).unwrap_or_default();
            // Strings are adjacent: the path ends where graphic characters do.
            let end = path
                .iter()
                .position(|byte| !byte.is_ascii_graphic())
                .unwrap_or(path.len());
            let path = path
                .get(..end)
                .and_then(|path| std::str::from_utf8(path).ok());
            crates.extend(path.and_then(of_path));
        }
    }
}

/// The module path that a source file usually has: `tokio::runtime::task` for
/// `.../tokio-1.54.1/src/runtime/task/mod.rs`.
pub fn module_path(file: &str) -> Option<String> {
    let (before, inside) = match file.rsplit_once("/src/") {
        Some(parts) => parts,
        None => ("", file.strip_prefix("src/")?),
    };
    let directory = before.rsplit('/').next().unwrap_or_default();
    let crate_name = of_path(file).unwrap_or_else(|| directory.replace('-', "_"));
    let inside = inside.strip_suffix(".rs")?;
    let modules = inside
        .split('/')
        .filter(|part| !matches!(*part, "lib" | "main" | "mod"));
    let path: Vec<&str> = std::iter::once(crate_name.as_str())
        .filter(|name| !name.is_empty())
        .chain(modules)
        .collect();
    (!path.is_empty()).then(|| path.join("::"))
}

/// The crate name of the package a source path belongs to: `tokio_util` for
/// `.../registry/src/INDEX/tokio-util-0.7.1/src/lib.rs`.
pub(super) fn of_path(path: &str) -> Option<String> {
    let directory = if let Some((_, rest)) = path.split_once("registry/src/") {
        rest.split('/').nth(1)?
    } else {
        path.split_once("git/checkouts/")?.1.split('/').next()?
    };
    // Both `name-1.2.3-beta.1` and `name-0123456789abcdef`.
    let name = directory
        .match_indices('-')
        .find(|&(at, _)| {
            let rest = directory.get(at + 1..).unwrap_or_default();
            let major = rest.split('.').next().unwrap_or_default();
            let version = major.len() < rest.len()
                && !major.is_empty()
                && major.bytes().all(|byte| byte.is_ascii_digit());
            let hash = rest.len() == 16 && rest.bytes().all(|byte| byte.is_ascii_hexdigit());
            version || hash
        })
        .and_then(|(at, _)| directory.get(..at))?;
    let plain = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    plain.then(|| name.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn files_stand_for_modules() {
        for (file, expected) in [
            (
                "/c/registry/src/index.crates.io-1949cf8c6b5b557f/tokio-1.54.1/src/runtime/task/mod.rs",
                Some("tokio::runtime::task"),
            ),
            (
                "/rustc/59807616e1/library/core/src/ops/function.rs",
                Some("core::ops::function"),
            ),
            ("/srv/my-app/src/main.rs", Some("my_app")),
            ("src/store/cache.rs", Some("store::cache")),
            ("src/main.rs", None),
            ("./nptl/pthread_create.c", None),
        ] {
            assert_eq!(module_path(file).as_deref(), expected, "{file}");
        }
    }

    #[test]
    fn dependencies_are_read_across_pieces() {
        let mut file = tempfile::tempfile().unwrap();
        let path = b"/home/u/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/my-dep-2-0.3.1-rc.1/src/a.rs";
        // The path crosses the end of the first piece.
        file.write_all(&vec![b'x'; CHUNK_BYTES - 40]).unwrap();
        file.write_all(path).unwrap();
        file.write_all(&[0xff; 3000]).unwrap();
        assert_eq!(scan(&file), HashSet::from(["my_dep_2".to_owned()]));
    }
}
