//! Starts targets and hud, and ends them again.

use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// hud of the release profile.
const HUD: &str = env!("CARGO_BIN_EXE_hud");

/// cargo's target directory.
pub fn target_dir() -> Result<PathBuf> {
    let folder = Path::new(HUD).ancestors().nth(2);
    Ok(folder
        .context("hud lies in no target directory")?
        .to_owned())
}

/// An example program: of the release profile, or of the dev profile where debug info matters.
pub fn example(profile: &str, name: &str) -> Result<PathBuf> {
    let path = target_dir()?.join(profile).join("examples").join(name);
    ensure!(
        path.exists(),
        "{} is not built: use `make bench`",
        path.display()
    );
    Ok(path)
}

/// A program that runs until it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Something for hud to watch.
pub struct Target {
    child: Running,
    lines: Lines<BufReader<ChildStdout>>,
    pub pid: u32,
}

impl Target {
    /// Starts a program and waits until its first line says that it is running.
    pub fn start(program: &Path, arguments: &[&str]) -> Result<Target> {
        let mut child = Running(
            Command::new(program)
                .args(arguments)
                .stdout(Stdio::piped())
                .spawn()
                .with_context(|| format!("cannot run {}", program.display()))?,
        );
        let output = child.0.stdout.take().context("piped")?;
        let mut lines = BufReader::new(output).lines();
        lines.next().context("the target ended early")??;
        let pid = child.0.id();
        Ok(Target { child, lines, pid })
    }

    /// A target of `bench-targets`, which counts for so long.
    pub fn bench(arguments: &[&str], seconds: Duration) -> Result<Target> {
        Target::bench_of(&example("release", "bench-targets")?, arguments, seconds)
    }

    /// The same of another build of `bench-targets`.
    pub fn bench_of(program: &Path, arguments: &[&str], seconds: Duration) -> Result<Target> {
        let seconds = seconds.as_secs_f64().to_string();
        let mut all = arguments.to_vec();
        all.extend(["--seconds", &seconds]);
        Target::start(program, &all)
    }

    /// Waits for the end of a target of `bench-targets`, and for what it counted.
    pub fn finish(mut self) -> Result<Counted> {
        let counted = self.finish_counting()?;
        ensure!(self.child.0.wait()?.success(), "the target failed");
        Ok(counted)
    }

    /// Waits for what it counted; it may still run.
    pub fn finish_counting(&mut self) -> Result<Counted> {
        let line = self.lines.next().context("the target told no result")??;
        let value: Value = serde_json::from_str(&line)?;
        let number = |name: &str| value[name].as_f64().with_context(|| format!("no {name}"));
        Ok(Counted {
            ops: number("ops")?,
            seconds: number("seconds")?,
            cpu_seconds: number("cpu_seconds")?,
            start_ns: number("start_ns")? as u64,
            end_ns: number("end_ns")? as u64,
        })
    }
}

/// What a target of `bench-targets` got done, in what time and with how much CPU time.
pub struct Counted {
    pub ops: f64,
    pub seconds: f64,
    pub cpu_seconds: f64,
    /// When it counted, on `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    pub end_ns: u64,
}

/// Another tool, watching the same target.
pub struct Other(Running);

impl Other {
    /// Starts it; what it prints is dropped. Its own way to end does not matter: it is killed.
    pub fn start(command: &[String]) -> Result<Other> {
        let (program, arguments) = command.split_first().context("no command")?;
        let child = Command::new(program)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot run {program}"))?;
        Ok(Other(Running(child)))
    }

    /// Whether it has not given up.
    pub fn still_runs(&mut self) -> bool {
        matches!(self.0.0.try_wait(), Ok(None))
    }
}

/// hud, headless, watching.
pub struct Hud {
    child: Running,
    started: Instant,
    first_finding: Receiver<Instant>,
    pub pid: u32,
}

impl Hud {
    /// Points hud at a target and waits until it is attached.
    pub fn watch(target: &Target) -> Result<Hud> {
        Hud::watch_with(target, &[])
    }

    /// The same, with more arguments.
    pub fn watch_with(target: &Target, arguments: &[&str]) -> Result<Hud> {
        let started = Instant::now();
        let mut child = Running(
            Command::new(HUD)
                .args(["--headless", "--pid", &target.pid.to_string()])
                .args(arguments)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .context("cannot run hud")?,
        );
        let findings = BufReader::new(child.0.stdout.take().context("piped")?).lines();
        let notes = child.0.stderr.take().context("piped")?;
        let (first, first_finding) = mpsc::channel();
        // Read to the end, so that hud never waits for a reader.
        thread::spawn(move || {
            for _ in findings {
                let _ = first.send(Instant::now());
            }
        });
        wait_until_attached(notes)?;
        let pid = child.0.id();
        Ok(Hud {
            child,
            started,
            first_finding,
            pid,
        })
    }

    /// From the start of hud's process to the first finding it printed.
    pub fn until_first_finding(&self) -> Result<Duration> {
        let at = self.first_finding.recv_timeout(Duration::from_secs(10));
        Ok(at.context("hud found nothing")? - self.started)
    }

    /// From the start of hud's process.
    pub fn since_start(&self) -> Duration {
        self.started.elapsed()
    }

    /// CPU time of the process so far.
    pub fn cpu_time(&self) -> Result<Duration> {
        let mut clock = 0;
        // SAFETY: writes to a local.
        let error = unsafe { libc::clock_getcpuclockid(self.pid as libc::pid_t, &mut clock) };
        ensure!(error == 0, "hud has ended");
        // SAFETY: `timespec` is integers only, so zeroes are a valid value.
        let mut time: libc::timespec = unsafe { std::mem::zeroed() };
        // SAFETY: writes to a local.
        let error = unsafe { libc::clock_gettime(clock, &mut time) };
        ensure!(error == 0, "hud has ended");
        Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    }

    /// The most memory it ever held, in MiB.
    pub fn peak_mib(&self) -> Result<f64> {
        let status = procfs::process::Process::new(self.pid as i32)?.status()?;
        let kib = status.vmhwm.context("the kernel tells no VmHWM")?;
        Ok(kib as f64 / 1024.0)
    }

    /// Detaches and waits for the end.
    pub fn stop(mut self) -> Result<()> {
        // SAFETY: no preconditions; the child has not been waited for, so the PID is its own.
        unsafe { libc::kill(self.pid as libc::pid_t, libc::SIGINT) };
        ensure!(self.child.0.wait()?.success(), "hud failed");
        Ok(())
    }
}

/// Reads hud's progress until it is attached; the rest is read by a thread.
fn wait_until_attached(notes: ChildStderr) -> Result<()> {
    let mut said = Vec::new();
    let mut lines = BufReader::new(notes).lines();
    for line in lines.by_ref() {
        let line = line?;
        if line.contains("watching") {
            thread::spawn(move || lines.for_each(drop));
            return Ok(());
        }
        said.push(line);
    }
    bail!("hud did not attach: {}", said.join("; "))
}
