//! The builds and scenarios that are tried: which kinds of binaries users deploy, and what may
//! hold their workers.

use testing::compare::Expect;
use testing::fixtures::Fixture;

/// A kind of binary.
pub struct Kind {
    /// What the table calls it.
    pub title: &'static str,
    pub fixture: Fixture<'static>,
    /// Without its symbols.
    pub stripped: bool,
    /// All scenarios, not only the ones that differ most.
    pub all: bool,
    /// More arguments for hud.
    pub hud: &'static [&'static str],
    /// More arguments for the program.
    program: &'static [&'static str],
    /// Milliseconds of the shortest blocks, other than the scenarios' own.
    block_ms: Option<&'static str>,
}

const NEWEST: &str = "1";
const DEV: &str = "opt-level = 0\ndebug = 2\ndebug-assertions = true";
const FAT_LTO: &str = "lto = \"fat\"\ncodegen-units = 1";
const STATIC: &str = "-C target-feature=+crt-static";
const V0: &str = "-C symbol-mangling-version=v0";

const fn kind(title: &'static str, name: &'static str, tokio: &'static str) -> Kind {
    Kind {
        title,
        fixture: Fixture {
            name,
            tokio,
            dependencies: "",
            profile: "",
            rustflags: "",
        },
        stripped: false,
        all: false,
        hud: &[],
        program: &[],
        block_ms: None,
    }
}

impl Kind {
    const fn stripped(mut self) -> Kind {
        self.stripped = true;
        self
    }

    const fn profile(mut self, profile: &'static str) -> Kind {
        self.fixture.profile = profile;
        self
    }

    const fn dependencies(mut self, dependencies: &'static str) -> Kind {
        self.fixture.dependencies = dependencies;
        self
    }

    const fn rustflags(mut self, rustflags: &'static str) -> Kind {
        self.fixture.rustflags = rustflags;
        self
    }

    const fn all(mut self) -> Kind {
        self.all = true;
        self
    }

    /// hud knows polls by the workers' frames alone, as where Tokio's state cannot be read.
    const fn by_frames(mut self) -> Kind {
        self.hud = &["--by-frames"];
        self
    }

    /// One runtime of one thread.
    const fn current_thread(mut self) -> Kind {
        self.program = &["--flavor", "current_thread"];
        self
    }

    /// With the lowest threshold, and blocks from twice that on.
    const fn threshold_of_1_ms(mut self) -> Kind {
        self.hud = &["--threshold", "1"];
        self.block_ms = Some("2");
        self
    }
}

/// Every kind of binary, the plainest first.
pub const KINDS: &[Kind] = &[
    kind("release", "newest", NEWEST).all(),
    kind("release, stripped", "newest", NEWEST).stripped().all(),
    kind("release, threshold 1 ms", "newest", NEWEST)
        .threshold_of_1_ms()
        .all(),
    kind("release, current_thread", "newest", NEWEST).current_thread(),
    kind("release, stripped, current_thread", "newest", NEWEST)
        .stripped()
        .current_thread(),
    kind("dev", "dev", NEWEST).profile(DEV),
    kind("debug = 1", "debug-1", NEWEST).profile("debug = 1"),
    kind("line-tables-only", "lines", NEWEST).profile("debug = \"line-tables-only\""),
    kind("fat LTO", "fat-lto", NEWEST).profile(FAT_LTO),
    kind("panic = abort", "abort", NEWEST).profile("panic = \"abort\""),
    kind("opt-level = z", "opt-z", NEWEST).profile("opt-level = \"z\""),
    kind("v0 mangling", "v0", NEWEST).rustflags(V0),
    kind("tokio_unstable", "unstable", NEWEST).rustflags("--cfg tokio_unstable"),
    kind("static-PIE", "static-pie", NEWEST).rustflags(STATIC),
    kind("no PIE", "no-pie", NEWEST).rustflags("-C relocation-model=static"),
    kind("jemalloc", "jemalloc", NEWEST)
        .dependencies("tikv-jemallocator = \"0.6\"\n")
        .rustflags("--cfg allocator=\"jemalloc\""),
    kind("mimalloc", "mimalloc", NEWEST)
        .dependencies("mimalloc = \"0.1\"\n")
        .rustflags("--cfg allocator=\"mimalloc\""),
    kind("fat LTO, stripped", "fat-lto", NEWEST)
        .profile(FAT_LTO)
        .stripped(),
    kind("randomised layout, seed 1", "random-1", NEWEST)
        .rustflags("-Zrandomize-layout -Zlayout-seed=1"),
    kind("randomised layout, seed 2", "random-2", NEWEST)
        .rustflags("-Zrandomize-layout -Zlayout-seed=2"),
    kind("randomised layout, seed 3", "random-3", NEWEST)
        .rustflags("-Zrandomize-layout -Zlayout-seed=3"),
    kind("randomised layout, seed 4, stripped", "random-4", NEWEST)
        .rustflags("-Zrandomize-layout -Zlayout-seed=4")
        .stripped(),
    kind("release", "tokio-1-47", "=1.47.1"),
    kind("release", "tokio-1-44", "=1.44.2"),
    kind("release, stripped", "tokio-1-44", "=1.44.2").stripped(),
    kind("release", "tokio-1-38", "=1.38.2"),
    kind("release", "tokio-1-32", "=1.32.1"),
    kind("fat LTO, stripped", "tokio-1-32-lto", "=1.32.1")
        .profile(FAT_LTO)
        .stripped(),
    kind("release", "tokio-1-28", "=1.28.2"),
    kind("release, stripped", "tokio-1-28", "=1.28.2").stripped(),
    kind("static-PIE", "tokio-1-28-static", "=1.28.2").rustflags(STATIC),
    kind("release", "tokio-1-25", "=1.25.3"),
    kind("release", "tokio-1-20", "=1.20.6"),
    kind("release, stripped", "tokio-1-20", "=1.20.6").stripped(),
    kind("dev", "tokio-1-20-dev", "=1.20.6").profile(DEV),
    kind("fat LTO", "tokio-1-20-lto", "=1.20.6").profile(FAT_LTO),
    kind("v0 mangling", "tokio-1-20-v0", "=1.20.6").rustflags(V0),
    kind("release, frames alone", "newest", NEWEST)
        .by_frames()
        .all(),
    kind("dev, frames alone", "dev", NEWEST)
        .profile(DEV)
        .by_frames(),
    kind("fat LTO, frames alone", "fat-lto", NEWEST)
        .profile(FAT_LTO)
        .by_frames(),
    kind("opt-level = z, frames alone", "opt-z", NEWEST)
        .profile("opt-level = \"z\"")
        .by_frames(),
    kind("release, frames alone", "tokio-1-44", "=1.44.2").by_frames(),
    kind("release, frames alone", "tokio-1-38", "=1.38.2").by_frames(),
    kind("release, frames alone", "tokio-1-32", "=1.32.1").by_frames(),
    kind("release, frames alone", "tokio-1-28", "=1.28.2").by_frames(),
    kind("release, frames alone", "tokio-1-24", "=1.24.2").by_frames(),
    kind("release, frames alone", "tokio-1-20", "=1.20.6").by_frames(),
];

/// What a program does while hud watches.
pub struct Scenario {
    pub name: &'static str,
    /// Milliseconds of its shortest blocks.
    block_ms: &'static str,
    pub blocks: bool,
    /// Only in builds that try everything.
    pub rare: bool,
}

const fn blocking(name: &'static str, block_ms: &'static str) -> Scenario {
    Scenario {
        name,
        block_ms,
        blocks: true,
        rare: true,
    }
}

const fn healthy(name: &'static str) -> Scenario {
    Scenario {
        name,
        block_ms: "20",
        blocks: false,
        rare: true,
    }
}

impl Scenario {
    const fn often(mut self) -> Scenario {
        self.rare = false;
        self
    }

    pub fn arguments(&self, kind: &Kind) -> Vec<&'static str> {
        let block_ms = kind.block_ms.unwrap_or(self.block_ms);
        [&["--block-ms", block_ms], kind.program].concat()
    }

    pub fn expect(&self) -> Expect {
        match self.blocks {
            true => Expect::blocking(),
            false => Expect::nothing(),
        }
    }
}

/// Every cause, and the controls.
pub const SCENARIOS: &[Scenario] = &[
    blocking("cpu", "50").often(),
    blocking("lock", "20").often(),
    blocking("channel", "20"),
    blocking("sleep", "20"),
    blocking("file_io", "20"),
    blocking("fsync", "20"),
    blocking("network", "20"),
    blocking("pipe", "20"),
    blocking("child_process", "20"),
    blocking("page_fault", "50"),
    healthy("healthy_busy").often(),
    healthy("spawn_blocking"),
    healthy("block_in_place"),
    healthy("idle"),
    healthy("stolen"),
    healthy("root_busy"),
    healthy("timers"),
];
