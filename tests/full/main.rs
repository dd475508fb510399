//! What `make test-full` adds to `make test`: more versions of Tokio, profiles, allocators, frameworks and
//! debug formats. Each is a fixture that takes most of a minute to build.
//!
//! As `tests/live`: root, and one test after the other.

mod frames;
mod split_debug_info;
mod versions;

use testing::compare::Expect;
use testing::fixtures::{self, FAT_LTO, Fixture};
use testing::run::Run;

#[test]
fn old_and_optimised_builds() {
    let debug_info = Fixture {
        name: "debug-info",
        tokio: "=1.47.1",
        profile: "debug = 2",
        ..Fixture::default()
    };
    for fixture in [FAT_LTO, debug_info, versions::TOKIO_1_44] {
        let build = fixtures::build(&fixture);
        for (scenario, block_ms) in [("cpu", "50"), ("lock", "20"), ("sleep", "20")] {
            Run::new(&build, scenario)
                .arguments(&["--block-ms", block_ms])
                .check(&Expect::blocking());
        }
        Run::new(&build, "healthy_busy").check(&Expect::nothing());
    }
}

#[test]
fn other_allocators() {
    for (name, dependencies, rustflags) in [
        (
            "jemalloc",
            "tikv-jemallocator = \"0.6\"\n",
            "--cfg allocator=\"jemalloc\"",
        ),
        (
            "mimalloc",
            "mimalloc = \"0.1\"\n",
            "--cfg allocator=\"mimalloc\"",
        ),
    ] {
        let build = fixtures::build(&Fixture {
            name,
            tokio: "1",
            dependencies,
            rustflags,
            ..Fixture::default()
        });
        Run::new(&build, "lock").check(&Expect::blocking());
        let stripped = fixtures::stripped(&build);
        Run::new(&stripped, "lock").check(&Expect::blocking().without_symbols());
        Run::new(&stripped, "healthy_busy").check(&Expect::nothing());
    }
}

/// A runtime of its own for each worker, and requests polled inside their connection's task.
#[test]
fn actix_web() {
    let build = fixtures::build(&Fixture {
        name: "actix",
        tokio: "1",
        dependencies: "actix-web = { version = \"4\", default-features = false }\n",
        rustflags: "--cfg actix",
        ..Fixture::default()
    });
    let run = Run::new(&build, "actix")
        .arguments(&["--block-ms", "50", "--workers", "4"])
        .check(&Expect::blocking_in(2));
    let runtimes = run.runtimes();
    assert_eq!(runtimes.len(), 4, "{runtimes:?}");
}
