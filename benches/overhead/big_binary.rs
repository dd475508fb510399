//! Executables of the size that large services have: the scenarios, with functions added that nobody
//! calls, so that symbol tables and line tables are as long as theirs.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::programs::target_dir;

/// Builds the scenarios of the release profile with this many functions more. Kept in the target
/// directory, so that it is built once.
pub fn build(functions: u32) -> Result<PathBuf> {
    let folder = target_dir()?.join("big").join(functions.to_string());
    let program = folder.join("release/examples/scenarios");
    if program.exists() {
        return Ok(program);
    }
    fs::create_dir_all(&folder)?;
    let (source, object) = (folder.join("big.s"), folder.join("big.o"));
    write_functions(&source, functions)?;
    run(Command::new("as").args(["-o".as_ref(), object.as_os_str(), source.as_os_str()]))?;
    fs::remove_file(&source)?;
    let link = format!("link-arg={}", object.display());
    run(Command::new(env!("CARGO"))
        .args(["rustc", "--quiet", "--release", "--example", "scenarios"])
        .args(["--", "-C", &link])
        .env("CARGO_TARGET_DIR", &folder))?;
    fs::remove_file(&object)?;
    Ok(program)
}

/// Functions with names as long as Rust's, and a line for each instruction, as assembly.
fn write_functions(path: &Path, functions: u32) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut out = BufWriter::new(file);
    // `R`: the linker keeps it although nobody refers to it.
    writeln!(
        out,
        ".file 1 \"big.rs\"\n.section .text.big,\"axR\",@progbits"
    )?;
    for n in 0..functions {
        let hash = u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let name = format!(
            "_ZN3big9module{n:04}7service7handler28_$u7b$$u7b$closure$u7d$$u7d$17h{hash:016x}E"
        );
        writeln!(out, ".globl {name}\n.type {name},@function\n{name}:")?;
        for line in 0..16 {
            writeln!(
                out,
                ".loc 1 {} 5\nnopl 8(%rax,%rax)",
                n % 50_000 + line * 3 + 1
            )?;
        }
        writeln!(out, "ret\n.size {name}, .-{name}")?;
    }
    Ok(out.flush()?)
}

fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} failed");
    Ok(())
}
