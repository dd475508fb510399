//! Targets that are large or busy: many workers, threads, slow polls.

use std::time::Duration;

use anyhow::{Context as _, Result};
use hud::export::read_trace;
use hud::model::Record;

use crate::measure::{Effort, Figures, WARM_UP};
use crate::programs::{Hud, Target};

/// What came of a target with slow polls at a steady rate.
pub struct SlowPolls {
    /// How many there really were, a second.
    pub rate: Figures,
    /// Of them, how many hud reported.
    pub found: Figures,
    /// What hud itself says it lost, in all rounds.
    pub lost: u64,
    /// hud's CPU time, percent of one core, and its peak memory in MiB.
    pub cpu_percent: Figures,
    pub peak_mib: Figures,
}

/// Measures that for so many slow polls a second, which take so many workers.
pub fn slow_polls(rate: u32, workers: u32, effort: &Effort) -> Result<SlowPolls> {
    // At the lowest rate, some there must be.
    let round = effort.round.max(Duration::from_secs(5) / rate.max(1));
    let (rate, workers) = (rate.to_string(), workers.to_string());
    let warm_up = WARM_UP.as_secs_f64().to_string();
    let arguments = [
        "slow",
        "--rate",
        &rate,
        "--workers",
        &workers,
        "--warm-up",
        &warm_up,
    ];
    let folder = tempfile::tempdir()?;
    let trace = folder.path().join("trace.json");
    let mut lost = 0;
    let (mut rates, mut found) = (Vec::new(), Vec::new());
    let (mut cpu_percent, mut peak_mib) = (Vec::new(), Vec::new());
    for _ in 0..effort.pairs {
        let mut target = Target::bench(&arguments, round)?;
        let hud = Hud::watch_with(&target, &["--export", trace.to_str().context("a path")?])?;
        let before = hud.cpu_time()?;
        let counted = target.finish_counting()?;
        let used = hud.cpu_time()? - before;
        peak_mib.push(hud.peak_mib()?);
        hud.stop()?;
        let window = counted.start_ns..counted.end_ns;
        let mut reported = 0;
        read_trace(&trace, |record| match record {
            Record::SlowPoll(poll) if window.contains(&poll.end_ns) => reported += 1,
            Record::Losses(losses) => lost = lost.max(losses.total()),
            _ => {}
        })?;
        rates.push(counted.ops / counted.seconds);
        found.push(f64::from(reported) / counted.ops);
        cpu_percent.push(100.0 * used.as_secs_f64() / counted.seconds);
    }
    Ok(SlowPolls {
        rate: Figures::of(rates)?,
        found: Figures::of(found)?,
        lost,
        cpu_percent: Figures::of(cpu_percent)?,
        peak_mib: Figures::of(peak_mib)?,
    })
}

/// What hud needs beside a target with this many threads that do nothing: seconds until it is
/// attached, CPU time in percent of one core from then on, and peak memory in MiB.
pub fn many_threads(threads: u32, effort: &Effort) -> Result<(f64, f64, f64)> {
    let threads = threads.to_string();
    let arguments = ["slow", "--idle-threads", &threads];
    let target = Target::bench(&arguments, effort.rest * 2)?;
    let hud = Hud::watch(&target)?;
    let attached = hud.since_start();
    let before = hud.cpu_time()?;
    std::thread::sleep(effort.rest);
    let used = hud.cpu_time()? - before;
    let peak = hud.peak_mib()?;
    hud.stop()?;
    let percent = 100.0 * used.as_secs_f64() / effort.rest.as_secs_f64();
    Ok((attached.as_secs_f64(), percent, peak))
}

/// Timer interrupts of the whole machine a second, while it rests: alone, and with hud watching.
pub fn timer_interrupts(effort: &Effort) -> Result<(f64, f64)> {
    let target = Target::bench(&["slow", "--rate", "1"], effort.rest * 3 + WARM_UP * 3)?;
    std::thread::sleep(WARM_UP);
    let alone = interrupts_while_resting(effort.rest)?;
    let hud = Hud::watch(&target)?;
    std::thread::sleep(WARM_UP);
    let watched = interrupts_while_resting(effort.rest)?;
    hud.stop()?;
    Ok((alone, watched))
}

fn interrupts_while_resting(rest: Duration) -> Result<f64> {
    let before = timer_interrupts_so_far()?;
    std::thread::sleep(rest);
    Ok((timer_interrupts_so_far()? - before) / rest.as_secs_f64())
}

/// The sum over all CPUs of the line that x86 calls `LOC`, and aarch64 `arch_timer`.
fn timer_interrupts_so_far() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/interrupts")?;
    let line = text
        .lines()
        .find(|line| line.trim_start().starts_with("LOC:") || line.contains("arch_timer"));
    let counts = line.context("/proc/interrupts tells of no timer")?;
    let counts = counts.split_whitespace().skip(1);
    Ok(counts.map_while(|count| count.parse::<f64>().ok()).sum())
}
