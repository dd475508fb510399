//! The command line, parsed by hand to keep the dependencies of the scenarios few.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// What `--help` prints.
pub const USAGE: &str = "\
Usage: scenarios --scenario NAME [options]
       scenarios --list

Options:
  --scenario NAME    what to run; several, separated by commas, run side by side
  --list             name the scenarios and end
  --truth FILE       write every poll over 1 ms as a JSON line
  --duration SECS    end after this time [10]
  --flavor FLAVOR    multi_thread or current_thread [multi_thread]
  --workers N        worker threads of a multi_thread runtime [2, or the scenario's own]
  --tasks N          tasks that block [2]
  --block-ms N       shortest block; each lasts one to three times as long [20]
  --gap-ms N         mean time between the blocks of a task [20]
  --after SECS       when a hang, a late runtime or another program starts [1]
  --dir DIR          where file_io keeps its file; must be on a disk [beside the program]";

/// What to do.
pub enum Command {
    Help,
    List,
    /// Hold one CPU; what `stolen` starts as child processes.
    Burn {
        cpu: usize,
        duration: Duration,
    },
    Run(Options),
}

/// Which of Tokio's schedulers to run on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    MultiThread,
    CurrentThread,
}

/// How to run a scenario.
#[derive(Clone)]
pub struct Options {
    pub scenario: String,
    pub truth: Option<PathBuf>,
    pub duration: Duration,
    pub flavor: Flavor,
    pub workers: Option<usize>,
    pub tasks: usize,
    pub block: Duration,
    pub gap: Duration,
    pub after: Duration,
    pub dir: Option<PathBuf>,
}

impl Options {
    /// Reads the arguments that follow the program's name.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Command, String> {
        let mut options = Options {
            scenario: String::new(),
            truth: None,
            duration: Duration::from_secs(10),
            flavor: Flavor::MultiThread,
            workers: None,
            tasks: 2,
            block: Duration::from_millis(20),
            gap: Duration::from_millis(20),
            after: Duration::from_secs(1),
            dir: None,
        };
        let mut burn = None;
        while let Some(name) = args.next() {
            if name == "--help" || name == "-h" {
                return Ok(Command::Help);
            }
            if name == "--list" {
                return Ok(Command::List);
            }
            let value = args.next().ok_or(format!("{name} needs a value"))?;
            match name.as_str() {
                "--scenario" => options.scenario = value,
                "--truth" => options.truth = Some(value.into()),
                "--dir" => options.dir = Some(value.into()),
                "--duration" => options.duration = seconds(&name, &value)?,
                "--workers" => options.workers = Some(positive(&name, &value)?),
                "--after" => options.after = seconds(&name, &value)?,
                "--tasks" => options.tasks = positive(&name, &value)?,
                "--block-ms" => options.block = millis(&name, &value)?,
                "--gap-ms" => options.gap = millis(&name, &value)?,
                "--burn" => burn = Some(number(&name, &value)?),
                "--flavor" => {
                    options.flavor = match value.as_str() {
                        "multi_thread" => Flavor::MultiThread,
                        "current_thread" => Flavor::CurrentThread,
                        _ => return Err(format!("no such flavor: {value}")),
                    }
                }
                _ => return Err(format!("no such option: {name}")),
            }
        }
        match burn {
            Some(cpu) => Ok(Command::Burn {
                cpu,
                duration: options.duration,
            }),
            None if options.scenario.is_empty() => Err("--scenario is missing".to_owned()),
            None => Ok(Command::Run(options)),
        }
    }
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T, String> {
    value
        .parse()
        .map_err(|_| format!("{name}: not a number: {value}"))
}

fn positive(name: &str, value: &str) -> Result<usize, String> {
    match number(name, value)? {
        0 => Err(format!("{name} must be at least 1")),
        n => Ok(n),
    }
}

fn seconds(name: &str, value: &str) -> Result<Duration, String> {
    Duration::try_from_secs_f64(number(name, value)?)
        .map_err(|error| format!("{name} {value}: {error}"))
}

fn millis(name: &str, value: &str) -> Result<Duration, String> {
    Ok(Duration::from_millis(number(name, value)?))
}
