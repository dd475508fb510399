//! Split debug info: the target's DWARF in a package (`.dwp`) beside it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use hud::model::Frame;
use testing::fixtures::{self, Build, Fixture};
use testing::run::{Run, assert_named_and_placed};
use testing::target::Target;

#[test]
fn split_debug_info_in_a_package() {
    // Unoptimised, since that is built faster.
    let build = fixtures::build(&Fixture {
        name: "split-debug-info",
        tokio: "1",
        profile: "opt-level = 0\ndebug = 2\nsplit-debuginfo = \"packed\"",
        ..Fixture::default()
    });
    let run = Run::new(&build, "sleep").seconds(2).watch();
    assert_named_and_placed(&run);
    let inlined = |frame: &Arc<Frame>| frame.inlined;
    let polls = run.polls();
    let mut stacks = polls.iter().flat_map(|poll| &poll.stacks);
    assert!(stacks.any(|stack| stack.frames.iter().any(inlined)));
    // hud ignores the package of another build, and says so.
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("scenarios");
    fs::copy(build.program(), &program).unwrap();
    let package = build.program().with_extension("dwp");
    let mut bytes = fs::read(&package).unwrap();
    let ids = section(&package, ".debug_cu_index");
    // The ids follow a header of 16 bytes; its last four hold the number of slots for ids.
    let (header, ids) = bytes[ids].split_at_mut(16);
    let slots = u32::from_le_bytes(header[12..].try_into().unwrap());
    ids.chunks_mut(8)
        .take(slots as usize)
        .for_each(|id| id[0] ^= 0x55);
    fs::write(program.with_extension("dwp"), bytes).unwrap();
    let target = Target::scenario(&Build::Other(program), "idle");
    let output = target.hud(&["--duration", "1"]).output().unwrap();
    let notes = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{notes}");
    assert!(notes.contains(".dwp file"), "{notes}");
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(report.contains("tier 2"), "{report}");
}

/// Where the bytes of a section lie in the file.
fn section(file: &Path, name: &str) -> std::ops::Range<usize> {
    let file = fs::File::open(file).unwrap();
    let bytes = hud::target::elf::section(&file, name).unwrap().bytes;
    bytes.start as usize..bytes.end as usize
}
