//! The scenarios built against other versions of Tokio and with other profiles.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::program::{Build, target_dir};

/// What the scenarios are built with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fixture<'a> {
    /// Names its folder.
    pub name: &'a str,
    /// Which version of Tokio.
    pub tokio: &'a str,
    /// Other crates, as lines of a manifest.
    pub dependencies: &'a str,
    /// Settings of the release profile.
    pub profile: &'a str,
    /// Flags for the compiler, unstable ones included.
    pub rustflags: &'a str,
}

/// Builds the scenarios as a package of their own. Kept in the target directory, so that it is
/// built once.
pub fn build(fixture: &Fixture) -> Build {
    let Fixture {
        name,
        tokio,
        dependencies,
        profile,
        rustflags,
    } = fixture;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let package = target_dir().join("fixtures").join(name);
    let source = root.join("examples/scenarios");
    fs::create_dir_all(package.join("src")).unwrap();
    for entry in fs::read_dir(source).unwrap() {
        let entry = entry.unwrap();
        let copy = package.join("src").join(entry.file_name());
        write_if_other(&copy, &fs::read(entry.path()).unwrap());
    }
    let manifest = format!(
        "[package]\nname = \"scenarios\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [dependencies]\nlibc = \"0.2\"\nserde_json = \"1\"\n\
         tokio = {{ version = \"{tokio}\", features = [\"full\"] }}\n{dependencies}\n\
         [profile.release]\n{profile}\n\n[workspace]\n"
    );
    write_if_other(&package.join("Cargo.toml"), manifest.as_bytes());
    // With a target named, the flags are not those of procedural macros, which cannot be static.
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["build", "--release", "--quiet", "--target", &target])
        .current_dir(&package)
        .env("CARGO_TARGET_DIR", package.join("target"))
        .env("RUSTFLAGS", rustflags)
        .env("RUSTC_BOOTSTRAP", "1")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {errors}");
    Build::Other(
        package
            .join("target")
            .join(target)
            .join("release/scenarios"),
    )
}

/// Leaves a file that says the same already, so that nothing is built anew.
fn write_if_other(path: &Path, content: &[u8]) {
    if fs::read(path).ok().as_deref() != Some(content) {
        fs::write(path, content).unwrap();
    }
}

/// The same program without its symbols.
pub fn stripped(build: &Build) -> Build {
    let name = match build {
        Build::Other(path) => path.ancestors().nth(4).and_then(Path::file_name),
        Build::Release | Build::Dev => None,
    };
    let folder = target_dir().join("fixtures/stripped");
    let folder = name.map_or(folder.clone(), |name| folder.join(name));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("scenarios");
    let output = Command::new("strip")
        .args(["--strip-all", "-o"])
        .args([&path, &build.program()])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "strip: {errors}");
    Build::Other(path)
}
