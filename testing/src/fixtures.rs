//! The scenarios as executables of other kinds: with other versions of Tokio, other profiles and
//! compiler flags, or without symbols.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::target::target_dir;

/// Which executable of the scenarios.
#[derive(Clone, Debug)]
pub enum Build {
    /// `cargo build --release`: no debug info, no frame pointers.
    Release,
    Dev,
    Other(PathBuf),
}

impl Build {
    /// The executable's path.
    ///
    /// # Panics
    ///
    /// If it is not built.
    pub fn program(&self) -> PathBuf {
        let profiles = target_dir();
        let path = match self {
            Build::Release => profiles.join("release/examples/scenarios"),
            Build::Dev => profiles.join("debug/examples/scenarios"),
            Build::Other(path) => path.clone(),
        };
        assert!(path.exists(), "{} is not built", path.display());
        path
    }
}

/// How to build the scenarios.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fixture<'a> {
    /// Names its folder.
    pub name: &'a str,
    /// The version requirement for Tokio.
    pub tokio: &'a str,
    /// Other crates, as lines of a manifest.
    pub dependencies: &'a str,
    /// Settings of the release profile.
    pub profile: &'a str,
    /// Flags for the compiler, unstable ones included.
    pub rustflags: &'a str,
}

impl Fixture<'_> {
    const NEWEST: Fixture<'static> = Fixture {
        name: "newest",
        tokio: "1",
        dependencies: "",
        profile: "",
        rustflags: "",
    };
}

/// With the oldest supported version of Tokio.
pub const OLDEST: Fixture<'static> = Fixture {
    name: "tokio-1-20",
    tokio: "=1.20.6",
    ..Fixture::NEWEST
};

/// Its layout stands in no table.
pub const RANDOM_LAYOUT: Fixture<'static> = Fixture {
    name: "random-layout",
    rustflags: "-Zrandomize-layout -Zlayout-seed=1",
    ..Fixture::NEWEST
};

/// As much is inlined as can be.
pub const FAT_LTO: Fixture<'static> = Fixture {
    name: "fat-lto",
    profile: "lto = \"fat\"\ncodegen-units = 1",
    ..Fixture::NEWEST
};

/// Folder of all fixtures.
fn fixtures_dir() -> PathBuf {
    target_dir().join("fixtures")
}

/// Builds the scenarios as a package of their own in the target directory. All fixtures share one
/// target directory, so procedural macros and build scripts are compiled once.
///
/// # Panics
///
/// If the build fails.
pub fn build(fixture: &Fixture) -> Build {
    let Fixture {
        name,
        tokio,
        dependencies,
        profile,
        rustflags,
    } = fixture;
    // From the build to the copy of what it built, the shared target directory is one fixture's own.
    static BUILDING: Mutex<()> = Mutex::new(());
    let _building = BUILDING.lock();
    let package = fixtures_dir().join(name);
    copy_scenarios(&package.join("src"));
    let manifest = format!(
        "[package]\nname = \"scenarios\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [dependencies]\nlibc = \"0.2\"\nserde_json = \"1\"\n\
         tokio = {{ version = \"{tokio}\", features = [\"full\"] }}\n{dependencies}\n\
         [profile.release]\n{profile}\n\n[workspace]\n"
    );
    write_if_changed(&package.join("Cargo.toml"), manifest.as_bytes());
    let target = fixtures_dir().join("target");
    // With a target triple, cargo does not pass RUSTFLAGS to procedural macros, which cannot be
    // linked statically, and can share them between fixtures.
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(cargo())
        .args(["build", "--release", "--quiet", "--target", &triple])
        .current_dir(&package)
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTFLAGS", rustflags)
        .env("RUSTC_BOOTSTRAP", "1")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {errors}");
    // The next fixture's executable takes the same path in the target directory.
    let built = target.join(triple).join("release");
    let program = package.join("scenarios");
    copy_if_changed(&built.join("scenarios"), &program);
    let package_file = built.join("scenarios.dwp");
    if profile.contains("split-debuginfo") {
        copy_if_changed(&package_file, &program.with_extension("dwp"));
    }
    Build::Other(program)
}

/// The cargo that runs the test, else the one in the PATH.
fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

fn copy_scenarios(folder: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/scenarios");
    fs::create_dir_all(folder).unwrap();
    for entry in fs::read_dir(source).unwrap() {
        let entry = entry.unwrap();
        copy_if_changed(&entry.path(), &folder.join(entry.file_name()));
    }
}

/// Keeps a file that is the same already, so that cargo sees no change, and so that a running copy of
/// an executable is left alone.
fn copy_if_changed(from: &Path, to: &Path) {
    let same = fs::read(to).is_ok_and(|old| old == fs::read(from).unwrap());
    if !same {
        let _ = fs::remove_file(to);
        fs::copy(from, to).unwrap();
    }
}

fn write_if_changed(path: &Path, content: &[u8]) {
    if fs::read(path).ok().as_deref() != Some(content) {
        fs::write(path, content).unwrap();
    }
}

/// The same executable without its symbols.
pub fn stripped(build: &Build) -> Build {
    let program = build.program();
    let folder = match build {
        Build::Other(path) => path.parent().unwrap().join("stripped"),
        Build::Release => fixtures_dir().join("release-stripped"),
        Build::Dev => fixtures_dir().join("dev-stripped"),
    };
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("scenarios");
    let output = Command::new("strip")
        .args(["--strip-all", "-o"])
        .args([&path, &program])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "strip: {errors}");
    Build::Other(path)
}
