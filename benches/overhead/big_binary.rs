//! Executables of the size that large services have: the scenarios, with functions added that nobody
//! calls, so that symbol tables and line tables are as long as theirs.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::programs::target_dir;
use testing::fixtures::{self, Fixture};

/// Builds the scenarios of the release profile with this many functions more, each with so many
/// bytes of code. Kept in the target directory, so that it is built once.
pub fn build(functions: u32, code_bytes: u32) -> Result<PathBuf> {
    let folder = target_dir()?.join("big");
    let object = folder.join(format!("{functions}-{code_bytes}.o"));
    if !object.exists() {
        fs::create_dir_all(&folder)?;
        let source = object.with_extension("s");
        write_functions(&source, functions, code_bytes)?;
        let half_done = object.with_extension("part");
        let mut assembler = Command::new("as");
        assembler.arg("-o").args([&half_done, &source]);
        let status = assembler.status().context("cannot run as")?;
        ensure!(status.success(), "{assembler:?} failed");
        fs::remove_file(&source)?;
        fs::rename(&half_done, &object)?;
    }
    let fixture = Fixture {
        name: &format!("big-{functions}"),
        tokio: "1",
        rustflags: &format!("-C link-arg={}", object.display()),
        ..Fixture::default()
    };
    Ok(fixtures::build(&fixture).program())
}

/// Functions with names as long as Rust's and some lines each, as assembly.
fn write_functions(path: &Path, functions: u32, code_bytes: u32) -> Result<()> {
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
        writeln!(out, ".skip {code_bytes}, 0x90\nret\n.size {name}, .-{name}")?;
    }
    Ok(out.flush()?)
}
