//! The command line: raw arguments, and the validated configuration they become.

mod help;
mod values;

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches, Parser};

pub use self::values::{Moment, Wall};

/// Names the code that blocks a live Tokio process: which poll of a task held a worker thread, for
/// how long, on the CPU or asleep, why, and on which stack. The process needs no change, no rebuild
/// and no restart.
#[derive(Debug, Parser)]
#[command(
    name = "hud",
    version,
    long_version = help::VERSION,
    about = "Names the code that blocks a live Tokio process",
    override_usage = "hud [OPTIONS] [PROCESS | --pid PID]\n       hud [OPTIONS] --replay FILE",
    disable_help_flag = true,
    disable_version_flag = true,
    long_about,
    after_help = help::SHORT,
    after_long_help = help::LONG,
    max_term_width = 100
)]
struct Args {
    /// Process to watch, by name or part of it; none: list them
    ///
    /// The name of the process or of its executable, or part of one; or the path of an executable,
    /// with a slash in it; or the path of a recorded trace, as with --replay. Without PROCESS, hud
    /// lists the Tokio processes that it can watch and, in a terminal, lets you choose one.
    #[arg(value_name = "PROCESS", conflicts_with_all = ["pid", "replay"])]
    process: Option<String>,

    /// Process to watch, by its PID
    ///
    /// The PID is the one that hud itself sees: for a process in a container, the host's.
    #[arg(short, long, value_name = "PID", help_heading = PROCESS, conflicts_with_all = ["container_pid", "replay"])]
    pid: Option<u32>,

    /// Process to watch, by its PID inside its container
    ///
    /// Where several containers have a process of that PID, PROCESS selects one by its name.
    #[arg(
        long,
        value_name = "PID",
        help_heading = PROCESS,
        conflicts_with = "replay",
        hide_short_help = true
    )]
    container_pid: Option<u32>,

    /// Look at a recorded trace instead of a process
    #[arg(long, value_name = "FILE", help_heading = PROCESS)]
    replay: Option<PathBuf>,

    /// With --replay, begin at this moment of the recording
    ///
    /// A time since its start (90s, 2min; a plain number is in seconds) or a wall-clock time: 14:03:20,
    /// '2026-11-28 14:03:20', 2026-11-28T14:03:20Z. Slow polls that overlap the span are kept whole.
    #[arg(long, value_name = "TIME", help_heading = PROCESS, hide_short_help = true)]
    from: Option<Moment>,

    /// With --replay, end at this moment of the recording
    #[arg(long, value_name = "TIME", help_heading = PROCESS, hide_short_help = true)]
    to: Option<Moment>,

    /// Report polls of at least this length
    ///
    /// 100us to 1h; a plain number is in milliseconds.
    /// With --replay, only narrows the recorded polls: shorter ones are not in the trace.
    #[arg(long, value_name = "TIME", default_value = "5ms", value_parser = values::threshold, help_heading = WHAT)]
    threshold: Duration,

    /// Stop after this long
    ///
    /// A plain number is in seconds.
    #[arg(long, value_name = "TIME", value_parser = values::seconds, help_heading = WHAT, conflicts_with = "replay")]
    duration: Option<Duration>,

    /// Watch only workers whose thread name starts with this
    #[arg(long, value_name = "PREFIX", help_heading = WHAT, hide_short_help = true)]
    workers: Option<String>,

    /// Also sample where all of the workers' CPU time in polls goes, slow polls or not
    ///
    /// Costs the process 2 to 4 % of its throughput. The key x in the interactive view switches it.
    #[arg(long, help_heading = WHAT, conflicts_with = "replay", hide_short_help = true)]
    all_poll_time: bool,

    /// Print findings and a summary, no interactive view
    ///
    /// Findings are printed as they come, one line each. This is also what hud does where standard
    /// output is not a terminal.
    #[arg(long, help_heading = OUTPUT)]
    headless: bool,

    /// At the end, print every thread: for a process that hangs
    ///
    /// Each thread with its state and stack and, for workers, its poll; and what hangs, in words.
    /// Implies --headless. Without this option the threads are printed only if a poll hangs at the
    /// end. SIGQUIT (Ctrl+\) prints them at any time.
    #[arg(long, help_heading = OUTPUT, conflicts_with = "replay")]
    census: bool,

    /// Stacks in the summary
    #[arg(long, value_name = "WHICH", value_enum, default_value_t, help_heading = OUTPUT, hide_short_help = true)]
    stacks: Stacks,

    /// Record a trace, for --replay and for Perfetto
    ///
    /// The file is in the Chrome trace event format, which chrome://tracing and speedscope open as
    /// well. It is complete after every write: what was recorded survives if hud is killed.
    ///
    /// An existing file is refused without --force. - is standard output: the trace is written there
    /// at the end, and nothing else. With --replay, writes the recording anew without showing it: cut
    /// by --from, --to and --threshold, with the names that --symbols gives.
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    export: Option<Export>,

    /// With --export, overwrite an existing file
    #[arg(long, help_heading = OUTPUT, requires = "export", hide_short_help = true)]
    force: bool,

    /// In the interactive view, count only the polls of the last while
    ///
    /// A plain number is in seconds.
    #[arg(
        long,
        value_name = "TIME",
        value_parser = values::seconds,
        help_heading = OUTPUT,
        conflicts_with_all = ["headless", "census"],
        hide_short_help = true
    )]
    window: Option<Duration>,

    /// Print no progress and no notes, only findings, summary and errors
    #[arg(short, long, help_heading = OUTPUT, hide_short_help = true)]
    quiet: bool,

    /// Take symbols and debug info from this file
    ///
    /// An unstripped copy of the executable, of the same build. With --replay, names the functions
    /// that were recorded without symbols.
    #[arg(long, value_name = "FILE", help_heading = SYMBOLS, hide_short_help = true, alias = "target", short_alias = 't')]
    symbols: Option<PathBuf>,

    /// Search this directory first for debug files; may be given more than once
    ///
    /// Looks for DIR/.build-id/ab/cdef.debug, DIR/NAME, DIR/NAME.debug and DIR/NAME.dwp, and takes
    /// a file only if it is of the same build.
    #[arg(long, value_name = "DIR", help_heading = SYMBOLS, hide_short_help = true)]
    debug_dir: Vec<PathBuf>,

    /// Ask the servers in DEBUGINFOD_URLS for debug info that this machine does not have
    #[arg(long, help_heading = SYMBOLS, hide_short_help = true)]
    debuginfod: bool,

    /// Use tier 4 even where Tokio's state could be read: for tests of that tier
    #[arg(long, hide = true, conflicts_with = "replay")]
    by_frames: bool,

    /// Print help; -h prints a summary
    #[arg(short, long, action = ArgAction::Help, help_heading = ABOUT, hide_short_help = true)]
    help: Option<bool>,

    /// Print the version
    #[arg(short = 'V', long, action = ArgAction::Version, help_heading = ABOUT, hide_short_help = true)]
    version: Option<bool>,
}

const PROCESS: &str = "Process or trace";
const WHAT: &str = "What to watch";
const OUTPUT: &str = "Output";
const SYMBOLS: &str = "Symbols";
const ABOUT: &str = "About hud";

/// How much of the stacks is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Stacks {
    /// The heaviest stack of each of the first three culprits, folded around the user's own code
    #[default]
    Top,
    /// All stacks of all culprits in the table, with every frame
    All,
}

/// Where records come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A live process that the user chooses from a list.
    Choice,
    /// A live process, by name.
    Name(String),
    /// A live process, by its executable file.
    Executable(PathBuf),
    /// A live process, by its PID in hud's own PID namespace.
    Pid(u32),
    /// A live process, by its PID in another PID namespace, and optionally its name.
    ContainerPid(u32, Option<String>),
    /// A recorded trace.
    Trace(PathBuf),
}

impl Source {
    /// What a PROCESS on the command line means: a trace file, an executable with a slash in its
    /// path, or a name.
    fn named(name: String) -> Source {
        let path = Path::new(&name);
        if looks_like_trace(path) {
            Source::Trace(path.to_owned())
        } else if name.contains('/') {
            Source::Executable(path.to_owned())
        } else {
            Source::Name(name)
        }
    }
}

/// Whether there is a file at the path that begins as JSON.
fn looks_like_trace(path: &Path) -> bool {
    let mut first = [0];
    path.is_file()
        && File::open(path).is_ok_and(|mut file| file.read_exact(&mut first).is_ok())
        && first == *b"{"
}

/// Where a trace is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Export {
    File(PathBuf),
    Stdout,
}

impl FromStr for Export {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Export, Infallible> {
        Ok(match text {
            "-" => Export::Stdout,
            path => Export::File(path.into()),
        })
    }
}

/// What to do: arguments that make sense together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub source: Source,
    /// An unstripped copy of the executable, to take symbols and debug info from.
    pub symbols: Option<PathBuf>,
    /// Directories that are searched first for debug files.
    pub debug_dirs: Vec<PathBuf>,
    /// Whether debuginfod servers may be asked for debug info.
    pub debuginfod: bool,
    /// The part of a recorded trace to replay.
    pub from: Option<Moment>,
    pub to: Option<Moment>,
    /// Where to record a trace.
    pub export: Option<Export>,
    /// Overwrite the file of the trace.
    pub force: bool,
    /// Print instead of opening the interactive view.
    pub headless: bool,
    /// List every thread at the end, whether something hangs or not.
    pub census: bool,
    /// Stacks in the summary.
    pub stacks: Stacks,
    pub duration: Option<Duration>,
    /// Polls that hold their worker at least this long are slow.
    pub threshold: Duration,
    /// Whether the threshold was given on the command line.
    pub threshold_given: bool,
    /// Length of the rolling window that the interactive view counts over; None: since the start.
    pub window: Option<Duration>,
    /// Only workers whose thread name starts with this.
    pub workers_prefix: Option<String>,
    /// Sample all poll time from the start.
    pub all_poll_time: bool,
    /// Use tier 4 even where Tokio's state could be read.
    pub by_frames: bool,
    /// No notes about hud's own progress.
    pub quiet: bool,
}

/// The command line's definition: the manual page and the completions are generated from it.
pub fn command() -> Command {
    Args::command()
}

/// Parses the process's own arguments; prints help, version and usage errors itself.
pub fn parse() -> Config {
    parse_from(std::env::args_os()).unwrap_or_else(|error| error.exit())
}

/// Parses arguments, the first of them the program's own name.
///
/// # Errors
/// A usage error as clap words it (exit code 2); `--help` and `--version` likewise.
pub fn parse_from(
    arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<Config, clap::Error> {
    let mut arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    if let [_, only] = &mut arguments[..]
        && only == OsStr::new("help")
    {
        *only = "--help".into();
    }
    let matches = command().try_get_matches_from(arguments)?;
    let args = Args::from_arg_matches(&matches)?;
    config(args, &matches)
}

fn config(args: Args, matches: &ArgMatches) -> Result<Config, clap::Error> {
    let source = match (args.process, args.pid, args.container_pid, args.replay) {
        (.., Some(trace)) => Source::Trace(trace),
        (name, _, Some(pid), _) => Source::ContainerPid(pid, name),
        (_, Some(pid), ..) => Source::Pid(pid),
        (Some(name), ..) => Source::named(name),
        _ => Source::Choice,
    };
    let refused = match source {
        // What --replay refuses, a trace in place of a process refuses as well.
        Source::Trace(_) if args.export.is_some() => {
            given(matches, |id, conflicts| conflicts || SHOWN.contains(&id))
        }
        Source::Trace(_) => given(matches, |_, conflicts| conflicts),
        _ => given(matches, |id, _| ["from", "to"].contains(&id)),
    };
    if let Some(option) = refused {
        let mode = match source {
            Source::Trace(_) if SHOWN.contains(&option.get_id().as_str()) => {
                "--replay with --export, which shows nothing"
            }
            Source::Trace(_) => "a recorded trace",
            _ => "a live process",
        };
        let message = format!("the argument '{option}' has no effect on {mode}");
        return Err(command().error(ErrorKind::ArgumentConflict, message));
    }
    Ok(Config {
        source,
        symbols: args.symbols,
        debug_dirs: args.debug_dir,
        debuginfod: args.debuginfod,
        from: args.from,
        to: args.to,
        export: args.export,
        force: args.force,
        headless: args.headless || args.census,
        census: args.census,
        stacks: args.stacks,
        duration: args.duration,
        threshold: args.threshold,
        threshold_given: matches.value_source("threshold") == Some(ValueSource::CommandLine),
        window: args.window,
        workers_prefix: args.workers,
        all_poll_time: args.all_poll_time,
        by_frames: args.by_frames,
        quiet: args.quiet,
    })
}

/// Options about how a recording is shown.
const SHOWN: [&str; 3] = ["headless", "window", "workers"];

/// The first option on the command line that `is_refused` by its id and whether it conflicts with
/// --replay.
fn given(matches: &ArgMatches, is_refused: impl Fn(&str, bool) -> bool) -> Option<clap::Arg> {
    let mut command = command();
    command.build();
    let mut options = command
        .get_arguments()
        .filter(|option| !option.is_positional());
    let refused = options.find(|option| {
        let id = option.get_id().as_str();
        let conflicts = command.get_arg_conflicts_with(option);
        let with_replay = conflicts.iter().any(|other| other.get_id() == "replay");
        matches.value_source(id) == Some(ValueSource::CommandLine) && is_refused(id, with_replay)
    });
    refused.cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(arguments: &[&str]) -> Result<Config, clap::Error> {
        parse_from([&["hud"], arguments].concat())
    }

    #[test]
    fn the_command_is_consistent() {
        Args::command().debug_assert();
    }

    /// A terminal of 24 rows keeps one for the prompt.
    #[test]
    fn the_short_help_fits_one_screen() {
        let help = Args::command().term_width(80).render_help().to_string();
        assert!(help.lines().count() <= 23, "{help}");
        assert!(
            help.lines().all(|line| line.chars().count() <= 80),
            "{help}"
        );
    }

    #[test]
    fn one_source_is_needed_and_only_one() {
        assert_eq!(config(&["app"]).unwrap().source, Source::Name("app".into()));
        assert_eq!(config(&["-p", "7"]).unwrap().source, Source::Pid(7));
        let inside = config(&["app", "--container-pid", "1"]).unwrap().source;
        assert_eq!(inside, Source::ContainerPid(1, Some("app".into())));
        assert_eq!(config(&[]).unwrap().source, Source::Choice);
        for wrong in [
            &["app", "--pid", "7"][..],
            &["--container-pid", "1", "--pid", "7"],
            &["--container-pid", "1", "--replay", "t.json"],
            &["app", "--replay", "t.json"],
        ] {
            assert_eq!(config(wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
    }

    #[test]
    fn options_without_effect_are_refused() {
        for wrong in [
            &["--replay", "t.json", "--duration", "3"][..],
            &["--replay", "t.json", "--all-poll-time"],
            &["--replay", "t.json", "--census"],
            &["--replay", "t.json", "--headless", "--window", "3"],
            &["app", "--census", "--window", "3"],
            &["app", "--from", "3"],
            &["--pid", "7", "--to", "3"],
            &["app", "--force"],
            &["--replay", "t.json", "--export", "u.json", "--headless"],
            &["--replay", "t.json", "--export", "u.json", "--workers", "a"],
        ] {
            assert_eq!(config(wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
    }

    #[test]
    fn times_take_units_or_those_of_the_option() {
        let plain = config(&[
            "app",
            "--threshold",
            "2.5",
            "--duration",
            "0.5",
            "--window",
            "10",
        ]);
        let units = config(&[
            "app",
            "--threshold=2500us",
            "--duration=500ms",
            "--window=10s",
        ]);
        assert_eq!(plain.unwrap(), units.unwrap());
        let default = config(&["app"]).unwrap();
        assert_eq!(default.threshold, Duration::from_millis(5));
        assert!(!default.threshold_given);
        assert!(config(&["app", "--threshold=5"]).unwrap().threshold_given);
    }

    #[test]
    fn the_symbol_file_keeps_its_old_names() {
        for name in ["--symbols", "--target", "-t"] {
            let config = config(&["app", name, "./app.unstripped"]).unwrap();
            assert_eq!(config.symbols, Some("./app.unstripped".into()), "{name}");
        }
    }

    #[test]
    fn a_census_needs_no_terminal() {
        assert!(config(&["app", "--census"]).unwrap().headless);
    }

    #[test]
    fn a_trace_in_place_of_a_process_is_replayed() {
        let trace = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/trace-v1.json");
        assert_eq!(
            config(&[trace]).unwrap().source,
            Source::Trace(trace.into())
        );
        assert_eq!(
            config(&[trace, "--duration", "3"]).unwrap_err().exit_code(),
            2
        );
        assert!(config(&[trace, "--from", "3"]).is_ok());
        let program = Source::Executable("/bin/sleep".into());
        assert_eq!(config(&["/bin/sleep"]).unwrap().source, program);
    }

    #[test]
    fn help_is_help() {
        let error = config(&["help"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DisplayHelp);
        assert!(error.to_string().contains("Exit codes"));
    }
}
