//! Whose code a frame is: the application's own, a dependency's, the runtime's, or std's.
//!
//! Decided by the source path where there is debug info, else by the crate in the symbol's name. The
//! executable itself tells which crates are dependencies (`packages`).

mod packages;

use std::collections::HashSet;
use std::fs::File;

use super::crates::{is_common, is_std};
use super::names;
use crate::model::Origin;
use crate::tokio::names::is_runtime_crate;

pub use self::packages::module_path;

/// The C library and the libraries that belong to it, by the start of their file names.
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

/// Decides whose code frames of one process are.
#[derive(Debug, Default)]
pub struct Origins {
    third_party: HashSet<String>,
    own: Option<String>,
}

impl Origins {
    /// Reads the dependencies of an executable; `name` is its file name.
    pub fn scan(file: &File, name: &str) -> Origins {
        Origins {
            third_party: packages::scan(file),
            own: Some(name.replace('-', "_")),
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
        if let Some(package) = packages::of_path(file) {
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
        // A workspace may hold a path dependency on Tokio itself.
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

    /// An impl is in the crate of the type or in that of the trait.
    fn of_impl(&self, ty: &str, of_trait: &str) -> Origin {
        match (self.of_crate(ty), self.of_crate(of_trait)) {
            // An own type with any trait.
            (Origin::User, _) => Origin::User,
            // An unknown crate's trait on a dependency's type: more often from a crate of traits
            // only, which leaves no trace in the binary, than from the application.
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

/// The origin of a function without a crate: C, assembly, or the start code.
fn of_c_function(function: &str, module: &str) -> Origin {
    let start_code = matches!(
        function,
        "main" | "start_thread" | "clone3" | "clone" | "syscall"
    );
    // Static executables contain the C library, whose internal names start with an underscore.
    if start_code || function.starts_with('_') || module.is_empty() {
        Origin::Std
    } else {
        Origin::ThirdParty
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
