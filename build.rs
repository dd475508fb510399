//! Compiles the BPF programs in `src/bpf` and generates their skeletons into `OUT_DIR`.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use libbpf_cargo::SkeletonBuilder;

const SOURCES: &str = "src/bpf";
const KERNEL_TYPES: &str = "vmlinux";
/// The BPF objects: each becomes `OUT_DIR/NAME.skel.rs`.
const OBJECTS: [&str; 2] = ["hud", "tasks"];

fn main() -> Result<()> {
    println!("cargo:rerun-if-env-changed=CLANG");
    for folder in [SOURCES, KERNEL_TYPES] {
        // Every file by name: a folder alone is only watched for additions on some systems.
        println!("cargo:rerun-if-changed={folder}");
        for entry in std::fs::read_dir(folder).with_context(|| format!("cannot list {folder}"))? {
            println!("cargo:rerun-if-changed={}", entry?.path().display());
        }
    }

    describe_build()?;
    let clang = find_clang()?;
    // For tests/verifier.rs: how much work the verifier has depends on the compiler.
    println!("cargo:rustc-env=BPF_CLANG={}", major_version(&clang));
    let out = PathBuf::from(env::var_os("OUT_DIR").context("cargo sets OUT_DIR")?);
    for name in OBJECTS {
        SkeletonBuilder::new()
            .source(Path::new(SOURCES).join(format!("{name}.bpf.c")))
            .obj(out.join(format!("{name}.bpf.o")))
            .clang(&clang)
            .clang_args([
                "-I",
                KERNEL_TYPES,
                "-Wall",
                "-Werror",
                "-Wno-unused-function",
            ])
            .reference_obj(true)
            .build_and_generate(out.join(format!("{name}.skel.rs")))
            .with_context(|| {
                format!("{} cannot compile {SOURCES}/{name}.bpf.c", clang.display())
            })?;
    }
    Ok(())
}

/// Sets what `hud --version` says about the build.
fn describe_build() -> Result<()> {
    let target = env::var("TARGET").context("cargo sets TARGET")?;
    let profile = env::var("PROFILE").context("cargo sets PROFILE")?;
    println!("cargo:rustc-env=HUD_TARGET={target}, {profile}");
    let features: Vec<String> = env::vars()
        .filter_map(|(name, _)| Some(name.strip_prefix("CARGO_FEATURE_")?.to_lowercase()))
        .filter(|feature| feature != "default")
        .collect();
    let features = if features.is_empty() {
        "none".to_owned()
    } else {
        features.join(", ")
    };
    println!("cargo:rustc-env=HUD_FEATURES={features}");
    // Not in other profiles: each commit would compile everything again.
    let commit = if profile == "release" { commit() } else { None };
    println!(
        "cargo:rustc-env=HUD_COMMIT={}",
        commit.as_deref().unwrap_or("not recorded")
    );
    Ok(())
}

/// The commit that is built, from git or from the file that `cargo package` adds.
fn commit() -> Option<String> {
    const PACKAGED: &str = ".cargo_vcs_info.json";
    if let Ok(info) = std::fs::read_to_string(PACKAGED) {
        println!("cargo:rerun-if-changed={PACKAGED}");
        let rest = info.split("\"sha1\":").nth(1)?;
        return Some(rest.split('"').nth(1)?.chars().take(12).collect());
    }
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    // Every commit and checkout adds a line.
    println!(
        "cargo:rerun-if-changed={}",
        git(&["rev-parse", "--git-path", "logs/HEAD"])?
    );
    git(&["rev-parse", "--short=12", "HEAD"])
}

/// The versions that distributions name in their programs; scripts/setup looks for the same.
const CLANG_VERSIONS: std::ops::RangeInclusive<u32> = 14..=30;

/// A clang that can target BPF: `$CLANG`, or the first that runs of `clang` and `clang-VERSION`,
/// newest first.
fn find_clang() -> Result<PathBuf> {
    if let Some(clang) = env::var_os("CLANG") {
        if targets_bpf(&clang) {
            return Ok(clang.into());
        }
        bail!(
            "CLANG={} does not run or cannot compile for BPF",
            clang.to_string_lossy()
        );
    }
    std::iter::once("clang".to_owned())
        .chain(
            CLANG_VERSIONS
                .rev()
                .map(|version| format!("clang-{version}")),
        )
        .find(|name| targets_bpf(name.as_ref()))
        .map(PathBuf::from)
        .context(
            "no clang that can compile for BPF was found; install it:\n  \
             Debian, Ubuntu:  apt install clang\n  \
             Fedora:          dnf install clang\n  \
             Arch:            pacman -S clang\n\
             or name one with CLANG=/path/to/clang",
        )
}

/// The first number that a clang says of itself.
fn major_version(clang: &Path) -> String {
    let output = Command::new(clang).arg("--version").output();
    let text = output.map_or_else(|_| Vec::new(), |output| output.stdout);
    let text = String::from_utf8_lossy(&text);
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.chars().take_while(char::is_ascii_digit).collect()
}

fn targets_bpf(clang: &OsStr) -> bool {
    Command::new(clang)
        .args(["-target", "bpf", "--version"])
        .output()
        .is_ok_and(|output| output.status.success())
}
