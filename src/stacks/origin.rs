//! Whose code a frame is: the target's own, a dependency's, the runtime's, or std's.
//!
//! The source path says it where there is debug info. Without, the crate in the symbol's name
//! does; which crates are dependencies stands in the executable itself, because the locations of
//! panics keep their registry paths (`registry/src/INDEX/bcrypt-0.17.1/`) even when stripped.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;

use memchr::memmem;

use super::names;
use crate::model::Origin;
use crate::target::elf;
use crate::tokio::names::is_runtime_crate;

/// Crates that come with the compiler.
const STD_CRATES: [&str; 10] = [
    "std",
    "core",
    "alloc",
    "proc_macro",
    "test",
    "std_detect",
    "panic_unwind",
    "panic_abort",
    "compiler_builtins",
    "rustc_demangle",
];

/// Dependencies so common that their name is enough: a crate that cannot panic leaves no trace in
/// the binary.
const COMMON_CRATES: &str = include_str!("common_crates.txt");

/// The C library and what is loaded with it, by the start of the file name.
const C_RUNTIME: [&str; 11] = [
    "libc.",
    "libc-",
    "libm.",
    "libm-",
    "libpthread",
    "libdl",
    "librt",
    "libgcc_s",
    "ld-",
    "libresolv",
    "[vdso]",
];

/// How much of a file is searched at a time, and by how much the pieces overlap.
const CHUNK_BYTES: usize = 1 << 20;
const OVERLAP_BYTES: usize = 512;

/// Decides whose code frames of one process are.
#[derive(Debug, Default)]
pub struct Origins {
    third_party: HashSet<String>,
    own: Option<String>,
}

impl Origins {
    /// Reads the executable's dependencies from its panic locations. `name` is its file name.
    pub fn scan(file: &File, name: &str) -> Origins {
        let mut origins = Origins {
            third_party: HashSet::new(),
            own: Some(name.replace('-', "_")),
        };
        let end = file.metadata().map_or(0, |meta| meta.len());
        let bytes = elf::section(file, ".rodata").map_or(0..end, |section| section.bytes);
        let mut chunk = vec![0u8; CHUNK_BYTES];
        let mut at = bytes.start;
        while at < bytes.end {
            let wanted =
                usize::try_from(bytes.end - at).map_or(CHUNK_BYTES, |n| n.min(CHUNK_BYTES));
            let Some(Ok(read)) = chunk.get_mut(..wanted).map(|space| file.read_at(space, at))
            else {
                break;
            };
            origins.add_packages(chunk.get(..read).unwrap_or_default());
            if read <= OVERLAP_BYTES {
                break;
            }
            at += (read - OVERLAP_BYTES) as u64;
        }
        origins
    }

    fn add_packages(&mut self, bytes: &[u8]) {
        for marker in ["registry/src/", "git/checkouts/"] {
            for at in memmem::find_iter(bytes, marker) {
                let end = bytes.len().min(at + OVERLAP_BYTES);
                let path = bytes.get(at..end).unwrap_or_default();
                // Strings lie next to each other: the path ends where text does.
                let end = path
                    .iter()
                    .position(|byte| !byte.is_ascii_graphic())
                    .unwrap_or(path.len());
                if let Some(package) = path
                    .get(..end)
                    .and_then(|path| std::str::from_utf8(path).ok())
                    .and_then(package_of_path)
                {
                    self.third_party.insert(package);
                }
            }
        }
    }

    /// Whose code the function is. `function` is its demangled name, empty where there is none;
    /// `file` the source path, if debug info has one; `module` the file name of the executable or
    /// library.
    pub fn of(&self, function: &str, file: Option<&str>, module: &str) -> Origin {
        if C_RUNTIME.iter().any(|prefix| module.starts_with(prefix)) {
            return Origin::Std;
        }
        if function.is_empty() && file.is_none() {
            return Origin::Unknown;
        }
        match file {
            Some(file) => self.of_file(file, function, module),
            None => self.of_name(function, module),
        }
    }

    fn of_file(&self, file: &str, function: &str, module: &str) -> Origin {
        if file.starts_with("/rustc/")
            || file.starts_with("/rust/deps/")
            || file.contains("/rustlib/src/rust/")
            || file.starts_with("library/")
        {
            return Origin::Std;
        }
        if let Some(package) = package_of_path(file) {
            return match is_runtime_crate(&package) {
                true => Origin::Runtime,
                false => Origin::ThirdParty,
            };
        }
        if file.starts_with("vendor/") || file.contains("/vendor/") || !file.ends_with(".rs") {
            return match self.of_name(function, module) {
                Origin::User | Origin::Unknown => Origin::ThirdParty,
                other => other,
            };
        }
        // A path dependency on Tokio itself lies in a workspace as well.
        match names::crates(function) {
            (Some(name), None) if is_runtime_crate(name) => Origin::Runtime,
            _ => Origin::User,
        }
    }

    fn of_name(&self, function: &str, module: &str) -> Origin {
        match names::crates(function) {
            (None, None) => of_c_function(function, module),
            (Some(one), None) | (None, Some(one)) => self.of_crate(one),
            (Some(ty), Some(of_trait)) => self.of_impl(ty, of_trait),
        }
    }

    /// An impl stands in the crate of the type or in that of the trait.
    fn of_impl(&self, ty: &str, of_trait: &str) -> Origin {
        match (self.of_crate(ty), self.of_crate(of_trait)) {
            // Its owner gave its own type another's trait.
            (Origin::User, _) => Origin::User,
            // A trait of an unknown crate on a dependency's type: more often one of those crates
            // of nothing but traits, which leave no trace, than the user's.
            (ty, Origin::User) if ty != Origin::Std && self.own.as_deref() != Some(of_trait) => ty,
            (_, Origin::User) => Origin::User,
            (Origin::ThirdParty, _) | (_, Origin::ThirdParty) => Origin::ThirdParty,
            (Origin::Runtime, _) | (_, Origin::Runtime) => Origin::Runtime,
            (ty, _) => ty,
        }
    }

    fn of_crate(&self, name: &str) -> Origin {
        if is_std(name) {
            Origin::Std
        } else if is_runtime_crate(name) {
            Origin::Runtime
        } else if self.own.as_deref() != Some(name)
            && (self.third_party.contains(name) || is_common(name))
        {
            Origin::ThirdParty
        } else {
            Origin::User
        }
    }
}

fn is_common(name: &str) -> bool {
    COMMON_CRATES
        .split_ascii_whitespace()
        .any(|common| common == name)
}

/// Whether the crate comes with the compiler.
pub(super) fn is_std(name: &str) -> bool {
    STD_CRATES.contains(&name)
}

/// A function without a crate: C, assembly, or the start code.
fn of_c_function(function: &str, module: &str) -> Origin {
    let start_code = matches!(
        function,
        "main" | "start_thread" | "clone3" | "clone" | "syscall"
    );
    // Static executables hold the C library themselves; its inner names start like this.
    if start_code || function.starts_with('_') || module.is_empty() {
        Origin::Std
    } else {
        Origin::ThirdParty
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
    let crate_name = package_of_path(file).unwrap_or_else(|| directory.replace('-', "_"));
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
fn package_of_path(path: &str) -> Option<String> {
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

    fn origins() -> Origins {
        Origins {
            third_party: HashSet::from(["sqlx_postgres".to_owned()]),
            own: Some("my_app".to_owned()),
        }
    }

    #[test]
    fn the_path_decides_where_there_is_one() {
        let registry = "/home/u/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f";
        for (file, expected) in [
            (
                "/rustc/59807616e1/library/core/src/option.rs".to_owned(),
                Origin::Std,
            ),
            (
                "/rust/deps/hashbrown-0.15.2/src/map.rs".to_owned(),
                Origin::Std,
            ),
            (
                format!("{registry}/tokio-1.54.1/src/task/spawn.rs"),
                Origin::Runtime,
            ),
            (
                format!("{registry}/futures-util-0.3.31/src/lib.rs"),
                Origin::Runtime,
            ),
            (
                format!("{registry}/hyper-1.6.0/src/lib.rs"),
                Origin::ThirdParty,
            ),
            (
                "/c/git/checkouts/quinn-0123456789abcdef/a1b2c3d/src/lib.rs".to_owned(),
                Origin::ThirdParty,
            ),
            ("src/main.rs".to_owned(), Origin::User),
            (
                "/srv/build/crates/store/src/lib.rs".to_owned(),
                Origin::User,
            ),
            ("vendor/serde/src/de.rs".to_owned(), Origin::ThirdParty),
            ("zstd/lib/compress.c".to_owned(), Origin::ThirdParty),
        ] {
            assert_eq!(
                origins().of("run", Some(&file), "my-app"),
                expected,
                "{file}"
            );
        }
    }

    #[test]
    fn the_name_decides_otherwise() {
        for (function, module, expected) in [
            ("my_app::handler::{{closure}}", "my-app", Origin::User),
            ("store::load", "my-app", Origin::User),
            ("std::thread::functions::sleep", "my-app", Origin::Std),
            ("tokio::runtime::task::raw::poll", "my-app", Origin::Runtime),
            (
                "sqlx_postgres::connection::run",
                "my-app",
                Origin::ThirdParty,
            ),
            ("bcrypt::hash", "my-app", Origin::ThirdParty),
            (
                "<core::pin::Pin<P> as core::future::future::Future>::poll",
                "my-app",
                Origin::Std,
            ),
            (
                "<my_app::Hand as core::future::future::Future>::poll",
                "my-app",
                Origin::User,
            ),
            (
                "<alloc::vec::Vec<T> as my_app::Load>::load",
                "my-app",
                Origin::User,
            ),
            (
                "<F as axum::handler::Handler<(M,T1),S>>::call",
                "my-app",
                Origin::ThirdParty,
            ),
            ("clock_nanosleep", "libc.so.6", Origin::Std),
            ("clock_gettime", "[vdso]", Origin::Std),
            ("rd_kafka_poll", "librdkafka.so.1", Origin::ThirdParty),
            ("ZSTD_compress", "my-app", Origin::ThirdParty),
            ("main", "my-app", Origin::Std),
            (
                "<serde_json::de::SeqAccess<R> as serde_traits::SeqAccess>::next",
                "my-app",
                Origin::ThirdParty,
            ),
            (
                "<serde_json::value::Value as my_app::Weigh>::weigh",
                "my-app",
                Origin::User,
            ),
            ("", "my-app", Origin::Unknown),
        ] {
            assert_eq!(origins().of(function, None, module), expected, "{function}");
        }
    }

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
    fn the_executables_own_crate_is_never_a_dependency() {
        let origins = Origins {
            own: Some("warp".to_owned()),
            ..Origins::default()
        };
        assert_eq!(origins.of("warp::serve", None, "warp"), Origin::User);
        assert_eq!(
            Origins::default().of("warp::serve", None, "app"),
            Origin::ThirdParty
        );
    }

    #[test]
    fn dependencies_are_read_across_pieces() {
        let mut file = tempfile::tempfile().unwrap();
        let path = b"/home/u/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/my-dep-2-0.3.1-rc.1/src/a.rs";
        // The path crosses the end of the first piece.
        file.write_all(&vec![b'x'; CHUNK_BYTES - 40]).unwrap();
        file.write_all(path).unwrap();
        file.write_all(&[0xff; 3000]).unwrap();
        let origins = Origins::scan(&file, "app");
        assert_eq!(origins.third_party, HashSet::from(["my_dep_2".to_owned()]));
    }
}
