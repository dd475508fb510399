//! hud in a terminal, watching a target with 1,000 slow polls a second: the latency of a key, and
//! hud's CPU time with the view and without it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::screen::Screen;

/// Keys pressed.
pub const KEYS: u32 = 60;
const SIZE: (u16, u16) = (120, 40);
const RATE: u32 = 1000;
const WORKERS: u32 = 16;
/// Fills the table and its trends before anything is measured.
const WARM_UP: Duration = Duration::from_secs(3);
/// CPU time is measured over this long.
const MEASURED: Duration = Duration::from_secs(10);
/// Between two keys; not a multiple of the redraw interval.
const BETWEEN_KEYS: Duration = Duration::from_millis(137);

/// What the view costs.
pub struct View {
    /// Findings a second, as counted by the target.
    pub rate: f64,
    /// From a key to its effect on the screen.
    pub median: Duration,
    pub longest: Duration,
    /// CPU time of hud's process, percent of one core, with the view and without.
    pub cpu_percent: f64,
    pub headless_percent: f64,
}

/// Measures it.
///
/// # Errors
/// When hud or the target fails.
pub fn view() -> Result<View> {
    let mut target = Target::start()?;
    let hud = env!("CARGO_BIN_EXE_hud");
    let pid = target.child.id().to_string();
    let mut headless = Command::new(hud);
    headless.args(["--headless", "--pid", &pid]);
    headless.stdout(Stdio::null()).stderr(Stdio::null());
    let mut headless = headless.spawn().context("cannot run hud")?;
    thread::sleep(WARM_UP);
    let headless_percent = share_of(headless.id(), || thread::sleep(MEASURED));
    headless.kill()?;
    headless.wait()?;

    let mut command = Command::new(hud);
    command.args(["--pid", &pid]);
    let mut screen = Screen::start(command, SIZE)?;
    screen.wait_for("BLOCKING", true)?;
    screen.rest(WARM_UP);
    let cpu_percent = share_of(screen.pid(), || screen.rest(MEASURED))?;
    let mut answers = Vec::new();
    for _ in 0..KEYS / 2 {
        for (key, there) in [("?", true), ("q", false)] {
            screen.rest(BETWEEN_KEYS);
            let pressed = screen.type_in(key)?;
            let answered = screen.wait_for("Esc close", there)?;
            answers.push(answered.saturating_duration_since(pressed));
        }
    }
    drop(screen);
    answers.sort();
    let at = |at: usize| answers.get(at).copied().context("no key was pressed");
    Ok(View {
        rate: target.rate()?,
        median: at(answers.len() / 2)?,
        longest: at(answers.len().saturating_sub(1))?,
        cpu_percent,
        headless_percent: headless_percent?,
    })
}

/// The percentage of one core that a process uses during a function.
fn share_of(pid: u32, during: impl FnOnce()) -> Result<f64> {
    let used = || -> Result<f64> {
        let stat = procfs::process::Process::new(i32::try_from(pid)?)?.stat()?;
        Ok((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64)
    };
    let (before, begun) = (used()?, Instant::now());
    during();
    Ok(100.0 * (used()? - before) / begun.elapsed().as_secs_f64())
}

/// The process that hud watches. Dropping it kills it.
struct Target {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Target {
    fn start() -> Result<Target> {
        let seconds =
            WARM_UP * 2 + MEASURED * 2 + (BETWEEN_KEYS + Duration::from_millis(50)) * KEYS;
        let mut child = Command::new(program()?)
            .args(["slow", "--rate", &RATE.to_string()])
            .args(["--workers", &WORKERS.to_string()])
            .args(["--seconds", &seconds.as_secs().to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("piped")?).lines();
        lines.next().context("the target ended early")??;
        Ok(Target { child, lines })
    }

    /// Slow polls a second, by its own count, once it has ended.
    fn rate(&mut self) -> Result<f64> {
        let line = self
            .lines
            .next()
            .context("the target printed no result")??;
        let result: Value = serde_json::from_str(&line)?;
        let number = |name: &str| result[name].as_f64().with_context(|| format!("no {name}"));
        Ok(number("ops")? / number("seconds")?)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_BIN_EXE_hud")).parent();
    let path = folder.context("a folder")?.join("examples/bench-targets");
    ensure!(
        path.exists(),
        "{} is not built: cargo build --release --example bench-targets",
        path.display()
    );
    Ok(path)
}
