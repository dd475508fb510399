//! Writes the manual page and the shell completions, both generated from hud's own command line:
//! `cargo run --example manual -- DIRECTORY`.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap_complete::{Shell, generate_to};
use hud::cli;

fn main() -> Result<()> {
    let folder = std::env::args_os()
        .nth(1)
        .map(PathBuf::from)
        .context("usage: manual DIRECTORY")?;
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    write_manual(&folder)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut cli::command(), "hud", &folder)
            .with_context(|| format!("cannot write the completions for {shell}"))?;
    }
    Ok(())
}

fn write_manual(folder: &Path) -> Result<()> {
    let path = folder.join("hud.1");
    let context = || format!("cannot write {}", path.display());
    let mut file = File::create(&path).with_context(context)?;
    clap_mangen::Man::new(cli::command())
        .section("1")
        .manual("User Commands")
        .render(&mut file)
        .with_context(context)
}
