//! What hud costs: its BPF programs per event, its target's throughput, itself at rest, and how
//! long it takes to the first finding. Prints one table, with the goals.
//!
//! Needs root and the built examples: `make bench`. With `--quick`, short rounds to see that it
//! works; their figures say little.

mod kernel;
mod measure;
mod programs;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use comfy_table::{Cell, CellAlignment, Table, presets};
use measure::{Effort, Figures};

fn main() -> ExitCode {
    env_logger::init();
    // cargo adds `--bench`; the rest is of no matter.
    let quick = std::env::args().any(|argument| argument == "--quick");
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
    match run(&effort) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("overhead: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(effort: &Effort) -> Result<()> {
    // SAFETY: no preconditions.
    ensure!(
        unsafe { libc::geteuid() } == 0,
        "this loads BPF programs and needs root: use `make bench`"
    );
    println!("{}", machine());
    let mut rows = Rows::new();

    let events = measure::events(effort)?;
    rows.ns("an empty program at sched_switch", &events.empty, "");
    let over = "  over it: another process's switch";
    rows.ns(over, &events.others_switch, "<= 20");
    rows.ns("  over it: a park", &events.park, "<= 100");
    let observed = "  over it: an observed switch in a poll";
    rows.ns(observed, &events.observed, "<= 350");
    rows.ns(
        "  over it: the same with a stack captured",
        &events.capture,
        "",
    );
    rows.ns("a tick of the CPU clock in a poll", &events.tick, "");

    for (name, arguments, goal) in [
        ("yield storm", &["yield"][..], ">= 0.98"),
        ("HTTP hello", &["http"], ">= 0.98"),
        (
            "ping-pong on one CPU",
            &["ping-pong", "--cpu", "1"],
            ">= 0.93",
        ),
    ] {
        let ratios = measure::throughput(arguments, effort)?;
        let what = format!("throughput with hud, {name}");
        rows.add(&what, "ratio", &ratios.throughput, 3, goal);
        rows.add("  per CPU time", "ratio", &ratios.per_cpu_time, 3, "");
    }

    let (percent, mib) = measure::at_rest(effort)?;
    rows.one("hud at rest, of one core", "%", percent, "<= 1");
    rows.one("hud at rest, peak memory", "MiB", mib, "<= 64");
    let (seconds, mib) = measure::first_finding(effort)?;
    rows.add(
        &format!("start to first finding, {mib:.0} MiB binary"),
        "s",
        &seconds,
        2,
        "<= 1",
    );
    println!("{}", rows.0);
    println!("{}", machine());
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

    fn ns(&mut self, what: &str, figures: &Figures, goal: &str) {
        self.add(what, "ns", figures, 0, goal);
    }

    fn one(&mut self, what: &str, unit: &str, figure: f64, goal: &str) {
        let [least, most] = [""; 2];
        self.0
            .add_row([what, unit, &format!("{figure:.2}"), least, most, goal]);
    }
}
