//! How right hud is: runs every scenario in every kind of binary with hud beside it, holds what it
//! reports against what the program timed from inside, and writes docs/ACCURACY.md.
//!
//! Needs root: `make accuracy`. Arguments narrow it down to the builds whose names or titles contain
//! one of them; then the result is only printed.

mod matrix;

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use hud::analysis::late_names::LateNames;
use hud::model::{Record, Tier};
use hud::target::debug_files::{DebugFile, DebugFiles};
use matrix::{KINDS, Kind, SCENARIOS, Scenario};
use testing::compare;
use testing::fixtures::{self, Build};
use testing::run::Run;
use testing::tally::{COLUMNS, Tally};

/// How long hud watches each program.
const SECONDS: u32 = 4;

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    match run(&wanted) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("accuracy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(wanted: &[String]) -> Result<()> {
    let is_wanted = |kind: &&Kind| {
        let named = |name: &String| kind.fixture.name.contains(name) || kind.title.contains(name);
        wanted.is_empty() || wanted.iter().any(named)
    };
    let mut summary = heading(&["Tokio", "build"]);
    let mut cells = heading(&["Tokio", "build", "scenario"]);
    let mut refusals = String::new();
    let mut below = String::new();
    for kind in KINDS.iter().filter(is_wanted) {
        let twin = fixtures::build(&kind.fixture);
        let build = match kind.stripped {
            true => fixtures::stripped(&twin),
            false => twin.clone(),
        };
        let mut all = Tally::default();
        let mut tokio = kind.fixture.tokio.trim_start_matches('=').to_owned();
        for scenario in SCENARIOS
            .iter()
            .filter(|scenario| kind.all || !scenario.rare)
        {
            match try_cell(kind, &build, &twin, scenario) {
                Ok((version, tally)) => {
                    tokio = version.unwrap_or(tokio);
                    let names = [&tokio, kind.title, scenario.name];
                    row(&mut cells, &names, &tally.cells())?;
                    let what = tally.below_goals().join(", ");
                    if !what.is_empty() {
                        let [tokio, title, scenario] = names;
                        writeln!(below, "- Tokio {tokio}, {title}, {scenario}: {what}")?;
                    }
                    all.merge(&tally);
                }
                Err(refusal) => {
                    let line = refusal.lines().last().unwrap_or("").to_owned();
                    eprintln!("{} {}: {refusal}", kind.fixture.name, scenario.name);
                    writeln!(refusals, "- Tokio {tokio}, {}: {line}", kind.title)?;
                    // It would be the same for every scenario.
                    break;
                }
            }
        }
        if !all.is_empty() {
            row(&mut summary, &[&tokio, kind.title], &all.cells())?;
        }
        print!("{}", last_line(&summary));
        if wanted.is_empty() {
            // Each time, so that a run that is ended early was not in vain.
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ACCURACY.md");
            std::fs::write(&path, document(&summary, &cells, &below, &refusals)?)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    if !wanted.is_empty() {
        print!("{}", document(&summary, &cells, &below, &refusals)?);
    }
    Ok(())
}

/// Runs one scenario: which Tokio the program has, and what came of it. What a stripped build's
/// functions are called is taken from its twin, afterwards. An error is hud's refusal.
fn try_cell(
    kind: &Kind,
    build: &Build,
    twin: &Build,
    scenario: &Scenario,
) -> Result<(Option<String>, Tally), String> {
    let arguments = scenario.arguments(kind);
    let run = Run::new(build, scenario.name)
        .arguments(&arguments)
        .hud(kind.hud)
        .seconds(SECONDS);
    let mut run = run.try_watch()?;
    if kind.stripped {
        let twin = DebugFile::open(&twin.program()).map_err(|error| error.to_string())?;
        let mut names = LateNames::new(Some(twin), DebugFiles::default());
        let named = run.records.into_iter().map(|record| names.name(record));
        run.records = named
            .collect::<Result<_, _>>()
            .map_err(|failure| failure.to_string())?;
    }
    let version = run.records.iter().find_map(|record| match record {
        Record::Header(header) => header.tokio_version.clone(),
        _ => None,
    });
    let tiers = run.tiers().into_iter().map(|(_, tier)| tier);
    let worst = tiers.max().unwrap_or(Tier::Scheduler);
    let verdict = compare::compare(&run, &scenario.expect());
    eprintln!("{build:?} {}: {verdict}", scenario.name);
    let mut tally = Tally::default();
    tally.add(worst, &verdict, scenario.blocks);
    Ok((version, tally))
}

/// The head of a table whose rows begin with these columns.
fn heading(names: &[&str]) -> String {
    let columns: Vec<&str> = names.iter().chain(&COLUMNS).copied().collect();
    let rule = |column: &&str| {
        if names.contains(column) {
            "---"
        } else {
            "---:"
        }
    };
    let rules: Vec<&str> = columns.iter().map(rule).collect();
    format!("| {} |\n|{}|\n", columns.join(" | "), rules.join("|"))
}

fn row(table: &mut String, names: &[&str], cells: &[String]) -> Result<()> {
    let names = names.join(" | ");
    Ok(writeln!(table, "| {names} | {} |", cells.join(" | "))?)
}

fn last_line(table: &str) -> &str {
    let lines = table.trim_end_matches('\n');
    &table[lines.rfind('\n').map_or(0, |at| at + 1)..]
}

fn document(summary: &str, cells: &str, below: &str, refusals: &str) -> Result<String> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let kernel = kernel
        .split('-')
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned();
    let cpus = std::thread::available_parallelism()?;
    let today = jiff::Zoned::now().strftime("%-d %B %Y");
    let refused = match refusals {
        "" => String::new(),
        refusals => format!("\nRefused, with the reason hud gives:\n\n{refusals}"),
    };
    let below = match below {
        "" => " none.\n".to_owned(),
        below => format!("\n\n{below}"),
    };
    Ok(format!(
        "# How right hud is\n\n\
         `make accuracy` builds `examples/scenarios` in every way listed, runs each scenario with hud \
         beside it for {SECONDS} s, and\nholds hud's trace against what the program timed from inside: \
         thread, start, end, function and cause of\nevery poll. It writes this file. Last written on \
         {today}: Linux {kernel}, {cpus} CPUs, {}.\n\n\
         - **recall**: of the polls that blocked for twice the threshold (5 ms unless given) or more, how \
         many were\n  found.\n\
         - **precision**: of the findings that blame code, how many are true.\n\
         - **cause**, **function**: of the polls found, how many have the right cause, and the function \
         that blocked\n  in the stack.\n\
         - **duration error**: of the polls found. Blocks last 20 to 60 ms, and 50 to 150 ms where they \
         compute: those\n  edges come from samples. With a threshold of 1 ms they last 2 to 6 ms.\n\
         - **tier**: how polls were tracked ([DETECTION](DETECTION.md)).\n\n\
         The goals, for each cell below: in tiers 1 to 3 recall, precision, cause and function of 0.99, a \
         median duration\nerror of 1 %, and no finding in a healthy program; in tier 4 a recall of 0.9 and a \
         precision of 0.95. Cells that\nmiss one:{below}\n\
         Stripped programs with Tokio before 1.22 have no task ids, and their layout is always learnt. \
         Where workers hardly\never park, that takes from 2 s on, and after 20 s hud gives up: it says \
         so, and goes on in tier 5, which sees no\npolls.\n\n\
         ## By build\n\n{summary}{refused}\n\
         ## Every cell\n\n{cells}",
        std::env::consts::ARCH
    ))
}
