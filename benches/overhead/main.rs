//! What hud costs: its BPF programs per event, its target's throughput beside what other tools
//! leave of it, itself at rest, and how it does on large and busy targets. Prints tables, with the
//! goals.
//!
//! Needs root and the built examples: `make bench`. With `--quick`, short rounds to see that it
//! works; their figures say little. Of the parts `events`, `throughput`, `frames`, `rest`, `large`,
//! `busy` and `others` only those named as arguments are measured, or all.

mod big_binary;
mod console;
mod kernel;
mod measure;
mod others;
mod programs;
mod scale;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use comfy_table::{Cell, CellAlignment, Table, presets};
use measure::{Contender, Effort, Figures, Ratios};
use programs::{Hud, Other};

fn main() -> ExitCode {
    env_logger::init();
    // cargo adds `--bench`; the rest is of no matter.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let parts: Vec<String> = arguments
        .into_iter()
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let effort = if quick {
        Effort {
            pairs: 1,
            round: Duration::from_millis(500),
            rest: Duration::from_secs(2),
        }
    } else {
        Effort {
            pairs: 5,
            round: Duration::from_secs(3),
            rest: Duration::from_secs(20),
        }
    };
    match run(&effort, &parts) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("overhead: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(effort: &Effort, parts: &[String]) -> Result<()> {
    // SAFETY: no preconditions.
    let user = unsafe { libc::geteuid() };
    ensure!(
        user == 0,
        "this loads BPF programs and needs root: use `make bench`"
    );
    println!("{}", machine());
    let mut rows = Rows::new();
    for (name, measure) in PARTS {
        if parts.is_empty() || parts.iter().any(|part| part == name) {
            measure(effort, &mut rows)?;
        }
    }
    println!("{}", rows.0);
    println!("{}", machine());
    Ok(())
}

type Part = fn(&Effort, &mut Rows) -> Result<()>;

const PARTS: [(&str, Part); 7] = [
    ("events", events),
    ("throughput", throughput),
    ("frames", frames),
    ("rest", rest),
    ("large", large),
    ("busy", busy),
    ("others", others),
];

fn events(effort: &Effort, rows: &mut Rows) -> Result<()> {
    let events = measure::events(effort)?;
    rows.ns("an empty program at sched_switch", &events.empty, "");
    let over = "  over it: another process's switch";
    rows.ns(over, &events.others_switch, "<= 20");
    rows.ns("  over it: a park", &events.park, "<= 100");
    let observed = "  over it: an observed switch in a poll";
    rows.ns(observed, &events.observed, "<= 350");
    let captured = "  over it: the same with a stack captured";
    rows.ns(captured, &events.capture, "");
    let [others, parked, in_poll] = &events.wakes;
    rows.ns("  over it: another process's wake-up", others, "<= 10");
    rows.ns("  over it: a parked worker's wake-up", parked, "");
    rows.ns(
        "  over it: a wake-up out of a short wait in a poll",
        in_poll,
        "",
    );
    rows.ns("a sample of a poll", &events.tick, "");
    Ok(())
}

fn throughput(effort: &Effort, rows: &mut Rows) -> Result<()> {
    for (name, arguments, goal) in [
        ("yield storm", &["yield"][..], ">= 0.98"),
        (
            "yield storm, 1 worker",
            &["yield", "--workers", "1"],
            ">= 0.98",
        ),
        (
            "yield storm, 8 workers",
            &["yield", "--workers", "8"],
            ">= 0.98",
        ),
        (
            "yield storm, 64 workers",
            &["yield", "--workers", "64", "--tasks", "256"],
            ">= 0.98",
        ),
        ("HTTP hello", &["http"], ">= 0.98"),
        (
            "ping-pong on one CPU",
            &["ping-pong", "--cpu", "1"],
            ">= 0.95",
        ),
        ("polls that compute for 20 ms", &["compute"], ""),
    ] {
        let ratios = measure::throughput(arguments, &[], effort)?;
        rows.throughput(&format!("throughput with hud, {name}"), &ratios, goal);
    }
    let floor = measure::floor(&["ping-pong", "--cpu", "1"], effort)?;
    let what = "throughput with an empty program at sched_switch, ping-pong on one CPU";
    rows.throughput(what, &floor, "");
    Ok(())
}

/// Tier 4.
fn frames(effort: &Effort, rows: &mut Rows) -> Result<()> {
    let [park, observed] = measure::events_by_frames(effort)?;
    rows.ns("by frames, over an empty program: a park", &park, "");
    rows.ns("  an observed switch in a poll", &observed, "");
    for (name, arguments) in [
        ("yield storm", &["yield"][..]),
        ("HTTP hello", &["http"]),
        ("ping-pong on one CPU", &["ping-pong", "--cpu", "1"]),
    ] {
        let ratios = measure::throughput(arguments, &measure::BY_FRAMES, effort)?;
        let what = format!("throughput with hud by frames, {name}");
        rows.throughput(&what, &ratios, "");
    }
    Ok(())
}

fn rest(effort: &Effort, rows: &mut Rows) -> Result<()> {
    let (percent, mib) = measure::at_rest(effort)?;
    rows.one("hud at rest, of one core", "%", percent, "<= 1");
    rows.one("hud at rest, peak memory", "MiB", mib, "<= 64");
    let (alone, watched) = scale::timer_interrupts(effort)?;
    rows.one("timer interrupts of a resting machine", "per s", alone, "");
    rows.one("  with hud", "per s", watched, "");
    let (seconds, percent, mib) = scale::many_threads(10_000, effort)?;
    rows.one(
        "beside 10,000 idle threads: until attached",
        "s",
        seconds,
        "",
    );
    rows.one("  of one core", "%", percent, "");
    rows.one("  peak memory", "MiB", mib, "");
    Ok(())
}

fn large(effort: &Effort, rows: &mut Rows) -> Result<()> {
    let programs = [
        (programs::example("debug", "scenarios")?, "<= 1", "<= 64"),
        (big_binary::build(600_000, 16)?, "<= 1", "<= 128"),
        (big_binary::build(1_400_000, 200)?, "<= 2", "<= 128"),
    ];
    for (program, soon, small) in &programs {
        let start = measure::start(program, effort)?;
        let what = format!("start to first finding, {:.0} MiB binary", start.binary_mib);
        rows.add(&what, "s", &start.first_finding, 2, soon);
        rows.add("  peak memory", "MiB", &start.peak_mib, 1, small);
    }
    Ok(())
}

fn busy(effort: &Effort, rows: &mut Rows) -> Result<()> {
    for (rate, workers, goal) in [(1, 2, ">= 0.99"), (1_000, 16, ">= 0.99"), (8_000, 96, "")] {
        let slow = scale::slow_polls(rate, workers, effort)?;
        let what = format!("slow polls, {workers} workers");
        rows.add(&what, "per s", &slow.rate, 0, "");
        rows.add("  of them found", "ratio", &slow.found, 3, goal);
        rows.one("  counted as lost", "", slow.lost as f64, "");
        rows.add("  hud, of one core", "%", &slow.cpu_percent, 1, "");
        rows.add("  hud's peak memory", "MiB", &slow.peak_mib, 1, "");
    }
    Ok(())
}

/// Rounds that are enough for differences as large as those of other tools.
const OTHERS_ROUNDS: usize = 3;

fn others(effort: &Effort, rows: &mut Rows) -> Result<()> {
    let plain = programs::example("release", "bench-targets")?;
    let console = console::build()?;
    let mut tools = Vec::new();
    for tool in others::TOOLS {
        if tool.is_installed() && measure::works(tool)? {
            tools.push(tool);
        } else {
            println!("not measured, since it does not run here: {}", tool.title);
        }
    }
    let loads = [&["http"][..], &["yield"], &["ping-pong", "--cpu", "1"]];
    for load in &loads {
        let (soon, later) = ((measure::WARM_UP, effort), (others::WARM_UP, effort));
        let mut contenders = vec![
            Contender::new("alone", (&plain, load), soon, |_| Ok(())),
            Contender::new("hud", (&plain, load), soon, Hud::watch),
        ];
        contenders.extend(tools.iter().map(|tool| {
            let watch = |target: &_| Other::start(&tool.command(target));
            Contender::new(tool.title, (&plain, load), later, watch)
        }));
        let subscriber = "tokio-console's subscriber built in, nobody connected";
        contenders.push(Contender::new(subscriber, (&console, load), soon, |_| {
            Ok(())
        }));
        let ratios = measure::interleaved(&contenders, effort.pairs.min(OTHERS_ROUNDS))?;
        for (contender, ratios) in contenders.iter().skip(1).zip(&ratios) {
            let what = format!("throughput of {} with {}", load[0], contender.title);
            rows.add(&what, "ratio", &ratios.throughput, 3, "");
        }
    }
    Ok(())
}

/// The machine, and how busy it is: whatever else runs is in the figures.
fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    format!(
        "{}, {} CPUs, Linux {}, load average {}",
        model.map_or("unknown CPU", |(_, name)| name.trim()),
        std::thread::available_parallelism().map_or(1, usize::from),
        read("/proc/sys/kernel/osrelease").trim(),
        read("/proc/loadavg")
            .split(' ')
            .take(2)
            .collect::<Vec<_>>()
            .join(" ")
    )
}

/// The table that is printed.
struct Rows(Table);

impl Rows {
    fn new() -> Rows {
        let mut table = Table::new();
        table
            .load_style(presets::ASCII_MARKDOWN)
            .set_header(["what", "unit", "median", "least", "most", "goal"]);
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        Rows(table)
    }

    fn add(&mut self, what: &str, unit: &str, figures: &Figures, digits: usize, goal: &str) {
        let number = |figure: f64| Cell::new(format!("{figure:.digits$}"));
        self.0.add_row([
            Cell::new(what),
            Cell::new(unit),
            number(figures.median),
            number(figures.least),
            number(figures.most),
            Cell::new(goal),
        ]);
    }

    fn throughput(&mut self, what: &str, ratios: &Ratios, goal: &str) {
        self.add(what, "ratio", &ratios.throughput, 3, goal);
        self.add("  per CPU time", "ratio", &ratios.per_cpu_time, 3, "");
    }

    fn ns(&mut self, what: &str, figures: &Figures, goal: &str) {
        self.add(what, "ns", figures, 0, goal);
    }

    fn one(&mut self, what: &str, unit: &str, figure: f64, goal: &str) {
        let [least, most] = [""; 2];
        self.0
            .add_row([what, unit, &format!("{figure:.2}"), least, most, goal]);
    }
}
