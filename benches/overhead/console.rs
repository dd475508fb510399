//! `bench-targets` with tokio-console's subscriber built in: what its users run instead of hud.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::programs::target_dir;

/// Its own package: hud's needs none of this, and the subscriber wants a flag for all of it.
const MANIFEST: &str = r#"[package]
name = "console-targets"
version = "0.0.0"
edition = "2024"

[dependencies]
anyhow = "1"
axum = "0.8"
clap = { version = "4.6", features = ["derive"] }
console-subscriber = "0.5"
libc = "0.2"
serde_json = "1"
tokio = { version = "1.44", features = ["full", "tracing"] }

[[bin]]
name = "bench-targets"
path = "bench-targets/main.rs"

[lints.rust]
unexpected_cfgs = { level = "warn", check-cfg = ["cfg(tokio_console)"] }

[workspace]
"#;

/// Builds it in the target directory.
pub fn build() -> Result<PathBuf> {
    let package = target_dir()?.join("console");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for folder in ["bench-targets", "load"] {
        fs::create_dir_all(package.join(folder))?;
        for entry in fs::read_dir(examples.join(folder))? {
            let entry = entry?;
            fs::copy(entry.path(), package.join(folder).join(entry.file_name()))?;
        }
    }
    fs::write(package.join("Cargo.toml"), MANIFEST)?;
    let target = package.join("target");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release", "--quiet"])
        .current_dir(&package)
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTFLAGS", "--cfg tokio_unstable --cfg tokio_console")
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "cannot build with console-subscriber");
    Ok(target.join("release/bench-targets"))
}
