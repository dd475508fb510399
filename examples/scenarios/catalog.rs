//! The scenarios by name.

use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Instant;

use crate::options::Options;
use crate::{causes, hangs, healthy, roots, runtimes};

/// What a scenario runs with.
#[derive(Clone)]
pub struct Context {
    pub options: Options,
    /// Worker threads of a `multi_thread` runtime.
    pub workers: usize,
    pub deadline: Instant,
}

/// What the future given to `block_on` does beside waiting for the end, if anything.
pub type Root = fn(Context) -> Pin<Box<dyn Future<Output = ()>>>;

/// One entry of the catalogue.
pub struct Scenario {
    pub name: &'static str,
    about: &'static str,
    pub needs_multi_thread: bool,
    /// Some poll of it never returns.
    pub never_ends: bool,
    /// Worker threads unless `--workers` says otherwise.
    pub workers: usize,
    pub root: Option<Root>,
    /// Starts its tasks and threads.
    pub start: fn(&Context) -> io::Result<()>,
}

const fn scenario(
    name: &'static str,
    about: &'static str,
    start: fn(&Context) -> io::Result<()>,
) -> Scenario {
    Scenario {
        name,
        about,
        needs_multi_thread: false,
        never_ends: false,
        workers: 2,
        root: None,
        start,
    }
}

/// A scenario whose root future works.
const fn rooted(name: &'static str, about: &'static str, root: Root) -> Scenario {
    let mut scenario = scenario(name, about, nothing);
    scenario.root = Some(root);
    scenario
}

impl Scenario {
    const fn multi_thread(mut self) -> Scenario {
        self.needs_multi_thread = true;
        self
    }

    const fn never_ends(mut self) -> Scenario {
        self.never_ends = true;
        self
    }

    const fn workers(mut self, workers: usize) -> Scenario {
        self.workers = workers;
        self
    }
}

static SCENARIOS: &[Scenario] = &[
    // Slow polls, by cause.
    scenario("cpu", "computes", causes::cpu),
    scenario("lock", "waits for another thread's mutex", causes::lock),
    scenario("channel", "receives from std::sync::mpsc", causes::channel),
    scenario("sleep", "std::thread::sleep", causes::sleep),
    scenario("file_io", "reads a file from the disk", causes::file_io),
    scenario("fsync", "writes and syncs a file", causes::fsync),
    scenario("network", "reads a blocking socket", causes::network),
    scenario("pipe", "reads a pipe of its own process", causes::pipe),
    scenario("child_process", "Command::output", causes::child),
    scenario("page_fault", "touches fresh memory", causes::page_fault),
    // Slow polls in unusual places.
    scenario(
        "unconstrained",
        "cpu, in unconstrained",
        causes::unconstrained,
    ),
    scenario("late_runtime", "cpu, in a second runtime", runtimes::late),
    scenario(
        "late_current_thread",
        "slow polls at once, in a current_thread runtime that starts late",
        runtimes::late_current_thread,
    ),
    scenario(
        "short_lived",
        "cpu, in runtimes that come and go",
        runtimes::short_lived,
    ),
    scenario(
        "thread_burst",
        "sleep, in a late runtime of 300 workers",
        runtimes::thread_burst,
    ),
    scenario("local_set", "cpu, in a LocalSet", runtimes::local_set),
    #[cfg(actix)]
    scenario("actix", "cpu and sleep, in actix-web", crate::actix::serve),
    scenario(
        "relay",
        "sleeps of 2 ms in tasks that wake each other",
        runtimes::relay,
    ),
    scenario(
        "nested_runtime",
        "sleep, in a runtime inside block_in_place",
        runtimes::nested_runtime,
    )
    .multi_thread(),
    scenario("exec", "sleep, then another program", runtimes::exec).never_ends(),
    // Root futures.
    rooted("root", "cpu, in the future given to block_on", roots::cpu),
    rooted(
        "root_busy",
        "the root future computes and sleeps in turn, the workers idle",
        roots::busy,
    )
    .multi_thread(),
    // Hangs.
    scenario(
        "deadlock",
        "a worker waits for a lock that it holds",
        hangs::deadlock,
    )
    .never_ends(),
    scenario(
        "all_locked",
        "all workers wait for one lock",
        hangs::all_locked,
    )
    .never_ends(),
    scenario(
        "block_on",
        "a future driven by hand inside a poll",
        hangs::block_on_inside,
    )
    .never_ends(),
    scenario(
        "no_driver",
        "all workers wait for their own timers",
        hangs::no_driver,
    )
    .never_ends(),
    scenario(
        "hang_soon",
        "a worker hangs 0.3 to 0.9 s after the start, the others idle",
        hangs::soon,
    )
    .never_ends(),
    // Healthy programs.
    scenario(
        "block_in_place",
        "blocks in block_in_place",
        healthy::block_in_place,
    )
    .multi_thread(),
    scenario(
        "spawn_blocking",
        "blocks in spawn_blocking",
        healthy::spawn_blocking,
    ),
    scenario(
        "healthy_busy",
        "short polls, workers never park",
        healthy::busy,
    ),
    scenario(
        "yields",
        "polls that only yield, workers never park",
        healthy::yields,
    ),
    scenario(
        "thousand_cuts",
        "polls of 2 ms, workers never park",
        healthy::thousand_cuts,
    ),
    scenario(
        "nested_block_on",
        "block_on inside block_in_place",
        runtimes::nested_block_on,
    )
    .multi_thread(),
    scenario("timers", "many timers, short polls", healthy::timers),
    scenario(
        "many_parked",
        "short polls on 32 workers that park for long",
        healthy::many_parked,
    )
    .workers(32),
    scenario("idle", "does nothing", nothing),
    rooted(
        "root_many_short",
        "the root future is busy with short polls",
        roots::many_short,
    ),
    rooted(
        "root_waits",
        "the root future waits for its tasks",
        roots::waits,
    ),
    scenario(
        "foreign_busy",
        "threads outside the runtime compute, the runtime idles",
        healthy::foreign_busy,
    ),
    scenario(
        "stolen",
        "short polls while other processes hold the CPUs",
        healthy::stolen,
    ),
    scenario(
        "starved",
        "polls of 4 ms that other processes stretch sevenfold",
        healthy::starved,
    ),
];

fn nothing(_: &Context) -> io::Result<()> {
    Ok(())
}

/// The scenarios of these names, which are separated by commas.
pub fn find(names: &str) -> Result<Vec<&'static Scenario>, String> {
    let find = |name: &str| {
        SCENARIOS
            .iter()
            .find(|scenario| scenario.name == name)
            .ok_or_else(|| format!("no such scenario: {name} (--list names them)"))
    };
    names.split(',').map(find).collect()
}

/// The text of `--list`.
pub fn list() -> String {
    SCENARIOS.iter().fold(String::new(), |mut text, scenario| {
        let _ = writeln!(text, "{:<20} {}", scenario.name, scenario.about);
        text
    })
}
