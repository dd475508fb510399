//! The command line: raw arguments, and the validated configuration they become.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory, Parser, error::ErrorKind};

const EXAMPLES: &str = "\
Examples:
  hud my-app                              watch the process of that name
  hud --pid 1234 --target ./my-app        take the symbols from an unstripped twin
  hud my-app --debug-dir ./symbols        or from a directory of debug files
  hud my-app --container-pid 1            the one that is PID 1 in its container
  hud my-app --census --duration 2        who holds what while it hangs: every thread's stack
  hud my-app --headless --duration 30     print findings for 30 seconds, then a summary
  hud my-app --export trace.json          record a trace while watching
  hud my-app --headless --all-poll-time   also where all poll time goes, slow or not
  hud --replay trace.json                 look at a recorded trace
  hud --replay trace.json --target ./my-app
                                          name what was recorded of a stripped binary
  hud --replay trace.json --headless      print the report of a recorded trace

Thresholds:
  Tokio polls tasks cooperatively: a worker that is held runs nothing else. A poll should take
  10 to 100 us; over 1 ms other tasks notice.
    --threshold 1     services with tail latencies of a few milliseconds
    --threshold 5     the default: what is slow in any service
    --threshold 20    only the worst
  A lower threshold also samples the CPUs more often: 250 times a second at 5 ms, 1000 at 1 ms.

Exit codes:
  0 done    1 failed    2 wrong usage    77 a privilege or permission is missing";

/// Names the code that blocks a live Tokio process: which poll, for how long, on CPU or asleep,
/// and the blocker's own stack. The process needs no change and no rebuild.
#[derive(Debug, Parser)]
#[command(name = "hud", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Args {
    /// The process to watch, by name: exact, or part of its name or executable
    #[arg(value_name = "PROCESS")]
    process: Option<String>,

    /// The process to watch, by number, as hud itself sees it: for containers, the host's PID
    #[arg(short, long, value_name = "PID")]
    pid: Option<u32>,

    /// The process to watch, by its number inside its container; where several containers have
    /// that number, PROCESS may name it as well
    #[arg(long, value_name = "PID")]
    container_pid: Option<u32>,

    /// The binary whose symbols to use: an unstripped twin of the executable that runs, or, with
    /// --replay, that was recorded
    #[arg(short, long, value_name = "BINARY")]
    target: Option<PathBuf>,

    /// Look here first for debug files of the same build: DIR/.build-id/ab/cdef.debug, DIR/NAME,
    /// DIR/NAME.debug, DIR/NAME.dwp. May be given more than once
    #[arg(long, value_name = "DIR")]
    debug_dir: Vec<PathBuf>,

    /// Ask the servers in DEBUGINFOD_URLS for debug info that this machine does not have
    #[arg(long)]
    debuginfod: bool,

    /// Record a trace that Perfetto, chrome://tracing, speedscope and --replay open
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,

    /// Look at a recorded trace instead of a process
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,

    /// Print findings as they come and a summary at the end, instead of the interactive view
    #[arg(long)]
    headless: bool,

    /// At the end print every thread of the process: its state, its stack and, for workers, its
    /// poll, and what hangs, in words. Without it that is done only if a poll hangs then. SIGQUIT
    /// (Ctrl+\) prints it at once
    #[arg(long)]
    census: bool,

    /// End after this many seconds
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    duration: Option<Duration>,

    /// Report polls that hold their worker at least this many milliseconds; of a recording, those
    /// of them that it has
    #[arg(long, value_name = "MS", default_value = "5", value_parser = threshold)]
    threshold: Duration,

    /// Show only the last seconds instead of everything since the start
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    window: Option<Duration>,

    /// Show only workers whose thread name starts with this
    #[arg(long, value_name = "PREFIX")]
    workers: Option<String>,

    /// Sample all poll time, too: where the workers' CPU time in polls goes, slow polls or not. In
    /// the interactive view, x switches it
    #[arg(long)]
    all_poll_time: bool,

    /// Know polls by the workers' frames even where Tokio's state could be read, to try tier 4
    #[arg(long, hide = true)]
    by_frames: bool,

    /// Print no progress and no notes, only findings, summary and errors
    #[arg(short, long)]
    quiet: bool,
}

/// Where records come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A live process, by name.
    Name(String),
    /// A live process, by number.
    Pid(u32),
    /// A live process, by its number in a PID namespace other than hud's, and perhaps its name.
    ContainerPid(u32, Option<String>),
    /// A recorded trace.
    Trace(PathBuf),
}

/// What to do: arguments that make sense together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub source: Source,
    /// An unstripped twin of the executable.
    pub symbols: Option<PathBuf>,
    /// Directories of debug files that are looked into first.
    pub debug_dirs: Vec<PathBuf>,
    /// Servers may be asked for debug info.
    pub debuginfod: bool,
    pub export: Option<PathBuf>,
    pub headless: bool,
    /// List every thread at the end, whether something hangs or not.
    pub census: bool,
    pub duration: Option<Duration>,
    pub threshold: Duration,
    /// The threshold was given, not defaulted.
    pub threshold_given: bool,
    pub window: Option<Duration>,
    pub workers_prefix: Option<String>,
    /// Sample all poll time from the start.
    pub all_poll_time: bool,
    /// Know polls by the workers' frames (tier 4) even where Tokio's state could be read.
    pub by_frames: bool,
    pub quiet: bool,
}

impl Args {
    /// Checks what clap cannot express.
    ///
    /// # Errors
    /// A usage error that clap prints (exit code 2).
    pub fn into_config(self, threshold_given: bool) -> Result<Config, clap::Error> {
        let conflict =
            |message: &str| Err(Args::command().error(ErrorKind::ArgumentConflict, message));
        if self.pid.is_some() && self.container_pid.is_some() {
            return conflict("give the PID on the host or the PID in the container, not both");
        }
        let is_live = self.process.is_some() || self.pid.is_some() || self.container_pid.is_some();
        if is_live && self.replay.is_some() {
            return conflict("--replay reads a trace: it takes no process");
        }
        let source = match (self.process, self.pid, self.container_pid, self.replay) {
            (Some(_), Some(_), ..) => {
                return conflict("name the process either by its name or by --pid, not both");
            }
            (name, None, Some(pid), _) => Source::ContainerPid(pid, name),
            (Some(name), ..) => Source::Name(name),
            (None, Some(pid), ..) => Source::Pid(pid),
            (.., Some(trace)) => Source::Trace(trace),
            _ => {
                return Err(Args::command().error(
                    ErrorKind::MissingRequiredArgument,
                    "name a process (hud my-app, or --pid PID) or a trace (--replay FILE)",
                ));
            }
        };
        if matches!(source, Source::Trace(_)) {
            if self.export.is_some() {
                return conflict("--replay already reads a trace: --export would only copy it");
            }
            if self.all_poll_time {
                return conflict(
                    "--all-poll-time goes with a live process: a trace has what was sampled",
                );
            }
            if self.duration.is_some() {
                return conflict("--duration goes with a live process");
            }
            if self.census {
                return conflict("--census goes with a live process: a trace shows its own");
            }
        }
        Ok(Config {
            source,
            symbols: self.target,
            debug_dirs: self.debug_dir,
            debuginfod: self.debuginfod,
            export: self.export,
            headless: self.headless || self.census,
            census: self.census,
            duration: self.duration,
            threshold: self.threshold,
            threshold_given,
            window: self.window,
            workers_prefix: self.workers,
            all_poll_time: self.all_poll_time,
            by_frames: self.by_frames,
            quiet: self.quiet,
        })
    }
}

/// Parses the process's own arguments; prints help, version and usage errors itself.
pub fn parse() -> Config {
    parse_from(std::env::args_os()).unwrap_or_else(|error| error.exit())
}

/// Parses arguments, the first of them the program's own name.
///
/// # Errors
/// What is wrong with them, as clap words it; `--help` and `--version` likewise.
pub fn parse_from(
    arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<Config, clap::Error> {
    let matches = Args::command().try_get_matches_from(arguments)?;
    let given = matches.value_source("threshold") == Some(clap::parser::ValueSource::CommandLine);
    <Args as clap::FromArgMatches>::from_arg_matches(&matches)?.into_config(given)
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err("not a number above 0".into()),
    }
}

/// Seconds, fractions allowed, up to a century.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = positive(text)?;
    if seconds > 3.2e9 {
        return Err("longer than a century".into());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Milliseconds, fractions allowed, from 1 on: below, polls come and go between two samples.
fn threshold(text: &str) -> Result<Duration, String> {
    let ms = positive(text)?;
    if !(1.0..=3_600_000.0).contains(&ms) {
        return Err("not between 1 and 3600000 milliseconds".into());
    }
    Ok(Duration::from_secs_f64(ms / 1e3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(arguments: &[&str]) -> Result<Config, clap::Error> {
        Args::try_parse_from([&["hud"], arguments].concat())?.into_config(false)
    }

    #[test]
    fn one_source_is_needed_and_only_one() {
        assert_eq!(config(&["app"]).unwrap().source, Source::Name("app".into()));
        assert_eq!(config(&["-p", "7"]).unwrap().source, Source::Pid(7));
        let inside = config(&["app", "--container-pid", "1"]).unwrap().source;
        assert_eq!(inside, Source::ContainerPid(1, Some("app".into())));
        for wrong in [
            &[][..],
            &["app", "--pid", "7"],
            &["--container-pid", "1", "--pid", "7"],
            &["--container-pid", "1", "--replay", "t.json"],
            &["app", "--replay", "t.json"],
            &["--replay", "t.json", "--export", "u.json"],
            &["--replay", "t.json", "--duration", "3"],
            &["--replay", "t.json", "--all-poll-time"],
        ] {
            assert_eq!(config(wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
    }

    #[test]
    fn thresholds_and_durations_take_fractions_and_refuse_nonsense() {
        let ok = config(&["app", "--threshold", "2.5", "--duration", "0.5"]).unwrap();
        assert_eq!(ok.threshold, Duration::from_micros(2500));
        assert_eq!(ok.duration, Some(Duration::from_millis(500)));
        assert_eq!(
            config(&["app"]).unwrap().threshold,
            Duration::from_millis(5)
        );
        for wrong in ["0", "-1", "0.5", "x", "nan", "inf", "1e300"] {
            let wrong = format!("--threshold={wrong}");
            assert!(config(&["app", &wrong]).is_err(), "{wrong}");
        }
        assert!(config(&["app", "--duration", "1e300"]).is_err());
    }

    #[test]
    fn the_command_is_consistent() {
        Args::command().debug_assert();
    }
}
