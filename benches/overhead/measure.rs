//! What is measured, one function each, and how the figures of several rounds become one.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::kernel::{EmptyProgram, HudPrograms, Runs, Statistics};
use crate::others::{self, Tool};
use crate::programs::{Counted, Hud, Other, Target, example};

/// What came of several rounds.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Figures {
    /// Of at least one figure.
    pub fn of(mut figures: Vec<f64>) -> Result<Figures> {
        ensure!(
            !figures.is_empty() && figures.iter().all(|figure| figure.is_finite()),
            "nothing was measured: {figures:?}"
        );
        figures.sort_unstable_by(f64::total_cmp);
        let middle = figures.len() / 2;
        let median = if figures.len() % 2 == 1 {
            figures[middle]
        } else {
            (figures[middle - 1] + figures[middle]) / 2.0
        };
        Ok(Figures {
            median,
            least: figures[0],
            most: figures[figures.len() - 1],
        })
    }
}

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Of each throughput, with hud and without.
    pub pairs: usize,
    pub round: Duration,
    /// How long hud rests.
    pub rest: Duration,
}

/// Room for hud to attach before a target counts.
pub const WARM_UP: Duration = Duration::from_secs(1);
/// Time for what starting up leaves behind to pass.
const SETTLE: Duration = Duration::from_millis(500);

/// What hud's programs did in one round, beside the empty one.
#[derive(Debug)]
struct Round {
    switches: Runs,
    wakes: Runs,
    empty: Runs,
    reads: u64,
    captures: u64,
    ticks: Runs,
}

impl Round {
    /// All of sched_switch's time beyond that of as many empty runs.
    fn over_empty_ns(&self) -> f64 {
        self.switches.ns as f64 - self.empty.mean_ns() * self.switches.count as f64
    }

    /// A wake-up's time beyond that of an empty run.
    fn wake_ns(&self) -> f64 {
        self.wakes.mean_ns() - self.empty.mean_ns()
    }
}

/// Runs hud on a target for a round.
fn round(target: &Target, effort: &Effort) -> Result<Round> {
    round_with(target, &[], effort)
}

/// The same, with more arguments for hud.
fn round_with(target: &Target, arguments: &[&str], effort: &Effort) -> Result<Round> {
    let _statistics = Statistics::enable()?;
    let empty = EmptyProgram::attach()?;
    let hud = Hud::watch_with(target, arguments)?;
    thread::sleep(SETTLE);
    let programs = HudPrograms::of(hud.pid)?;
    let read = || -> Result<Round> {
        let work = programs.work()?;
        Ok(Round {
            switches: programs.runs("sched_switch")?,
            wakes: programs.runs("sched_waking")?,
            empty: empty.runs()?,
            reads: work.reads,
            captures: work.captures,
            ticks: programs.samples()?,
        })
    };
    let before = read()?;
    thread::sleep(effort.round);
    let after = read()?;
    hud.stop()?;
    let round = Round {
        switches: after.switches.since(before.switches),
        wakes: after.wakes.since(before.wakes),
        empty: after.empty.since(before.empty),
        reads: after.reads - before.reads,
        captures: after.captures - before.captures,
        ticks: after.ticks.since(before.ticks),
    };
    log::debug!("{round:?}");
    Ok(round)
}

/// Nanoseconds of hud's BPF programs, by kind of event.
pub struct Events {
    pub empty: Figures,
    /// Over the empty program, as the next six.
    pub others_switch: Figures,
    /// Wake-ups of another process, of parked workers, and of workers asleep inside a poll.
    pub wakes: [Figures; 3],
    pub park: Figures,
    /// At most: what the switches that are not read cost is charged to those that are.
    pub observed: Figures,
    /// With the observed switch it comes with.
    pub capture: Figures,
    /// In all: an empty program does not run there.
    pub tick: Figures,
}

/// A park, and an observed switch in a poll, where polls are known by the workers' frames: over the
/// empty program.
pub fn events_by_frames(effort: &Effort) -> Result<[Figures; 2]> {
    let long = (effort.round + WARM_UP) * 2;
    let (mut park, mut observed) = (Vec::new(), Vec::new());
    for _ in 0..effort.pairs {
        let parking = round_with(&Target::bench(&PING_PONG, long)?, &BY_FRAMES, effort)?;
        park.push(parking.over_empty_ns() / parking.switches.count as f64);
        let observing = round_with(&Target::bench(&BLOCKING, long)?, &BY_FRAMES, effort)?;
        observed.push(observing.over_empty_ns() / observing.reads as f64);
    }
    Ok([Figures::of(park)?, Figures::of(observed)?])
}

/// hud without Tokio's state: tier 4.
pub const BY_FRAMES: [&str; 1] = ["--by-frames"];

/// A load of parks.
const PING_PONG: [&str; 3] = ["ping-pong", "--cpu", "1"];
/// Polls that sleep, so long that their few captures do not count.
const BLOCKING: [&str; 5] = ["blocking", "--cpu", "1", "--blocks-per-poll", "2000"];

/// Measures every kind of event, the kinds interleaved.
pub fn events(effort: &Effort) -> Result<Events> {
    let long = (effort.round + WARM_UP) * 2;
    let (mut empty, mut others, mut park) = (Vec::new(), Vec::new(), Vec::new());
    let mut wakes = [const { Vec::new() }; 3];
    let (mut observed, mut capture, mut tick) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.pairs {
        for scenario in ["idle", "sleep"] {
            let beside = scenario_of(scenario, long)?;
            let _busy = Target::bench(&PING_PONG, long)?;
            let round = round(&beside, effort)?;
            if scenario == "sleep" {
                wakes[0].push(round.wake_ns());
            } else {
                empty.push(round.empty.mean_ns());
                others.push(round.over_empty_ns() / round.switches.count as f64);
            }
        }
        let parking = round(&Target::bench(&PING_PONG, long)?, effort)?;
        park.push(parking.over_empty_ns() / parking.switches.count as f64);

        let observing = round(&Target::bench(&BLOCKING, long)?, effort)?;
        observed.push(observing.over_empty_ns() / observing.reads as f64);

        for (load, figures) in [&PING_PONG[..], &BLOCKING[..]].iter().zip(&mut wakes[1..]) {
            let load = [*load, &["--long-waits"]].concat();
            figures.push(round(&Target::bench(&load, long)?, effort)?.wake_ns());
        }

        // Polls so short and so rare that nearly every switch in one is captured.
        let pausing = ["blocking", "--blocks-per-poll", "1", "--pause-us", "300"];
        let capturing = round(&Target::bench(&pausing, long)?, effort)?;
        capture.push(capturing.over_empty_ns() / capturing.captures as f64);

        let busy = round(&Target::bench(&["yield"], long)?, effort)?;
        tick.push(busy.ticks.mean_ns());
    }
    let [others_wake, parked_wake, poll_wake] = wakes;
    Ok(Events {
        wakes: [
            Figures::of(others_wake)?,
            Figures::of(parked_wake)?,
            Figures::of(poll_wake)?,
        ],
        empty: Figures::of(empty)?,
        others_switch: Figures::of(others)?,
        park: Figures::of(park)?,
        observed: Figures::of(observed)?,
        capture: Figures::of(capture)?,
        tick: Figures::of(tick)?,
    })
}

/// A scenario: `idle` parks its workers all the time, `sleep` lets them sleep in polls.
fn scenario_of(name: &str, lasts: Duration) -> Result<Target> {
    let seconds = (lasts.as_secs() + 1).to_string();
    let arguments = ["--scenario", name, "--duration", &seconds];
    Target::start(&example("release", "scenarios")?, &arguments)
}

/// What a target gets done with hud, over what it does without.
pub struct Ratios {
    /// Per second: what counts, if nothing else uses the machine.
    pub throughput: Figures,
    /// Per second of the target's own CPU time, which others that use the machine hardly change.
    pub per_cpu_time: Figures,
}

/// One way to run a load: alone, or with something beside it or in it.
pub struct Contender<'a> {
    pub title: String,
    run: Box<dyn Fn() -> Result<Counted> + 'a>,
}

impl<'a> Contender<'a> {
    /// A load of `bench-targets` with what `watch` points at it, which is at work after so long.
    pub fn new<W>(
        title: impl Into<String>,
        (program, load): (&'a Path, &'a [&'a str]),
        (warm_up, effort): (Duration, &'a Effort),
        watch: impl Fn(&Target) -> Result<W> + 'a,
    ) -> Contender<'a> {
        let run = move || {
            let warm_up = warm_up.as_secs_f64().to_string();
            let arguments = [load, &["--warm-up", &warm_up]].concat();
            let target = Target::bench_of(program, &arguments, effort.round)?;
            let _watcher = watch(&target)?;
            target.finish()
        };
        Contender {
            title: title.into(),
            run: Box::new(run),
        }
    }
}

/// Whether a tool gets to work here: bpftrace wants tracefs, for instance.
pub fn works(tool: &Tool) -> Result<bool> {
    let target = Target::bench(&["http"], others::WARM_UP * 2)?;
    let mut other = Other::start(&tool.command(&target))?;
    thread::sleep(others::WARM_UP);
    Ok(other.still_runs())
}

/// Runs a load alone, and with hud and these arguments.
pub fn throughput(load: &[&str], arguments: &[&str], effort: &Effort) -> Result<Ratios> {
    let program = example("release", "bench-targets")?;
    let (what, how) = ((program.as_path(), load), (WARM_UP, effort));
    let alone = Contender::new("alone", what, how, |_| Ok(()));
    let watch = |target: &_| Hud::watch_with(target, arguments);
    let hud = Contender::new("hud", what, how, watch);
    let ratios = interleaved(&[alone, hud], effort.pairs)?;
    ratios.into_iter().next().context("one was asked for")
}

/// Runs a load alone, and with a program at sched_switch that does nothing: what no tool that looks at
/// every switch can undercut.
pub fn floor(load: &[&str], effort: &Effort) -> Result<Ratios> {
    let program = example("release", "bench-targets")?;
    let (what, how) = ((program.as_path(), load), (WARM_UP, effort));
    let alone = Contender::new("alone", what, how, |_| Ok(()));
    let empty = Contender::new("an empty program", what, how, |_| EmptyProgram::attach());
    let ratios = interleaved(&[alone, empty], effort.pairs)?;
    ratios.into_iter().next().context("one was asked for")
}

/// Runs each contender in turn, in the other order than the round before, and holds it against the
/// first. A ratio is that of the medians; least and most are of a round.
pub fn interleaved(contenders: &[Contender<'_>], rounds: usize) -> Result<Vec<Ratios>> {
    let mut counted: Vec<Vec<Counted>> = contenders.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        let mut turns: Vec<_> = contenders.iter().zip(&mut counted).collect();
        if round % 2 == 1 {
            turns.reverse();
        }
        for (contender, counted) in turns {
            let result = (contender.run)().with_context(|| contender.title.clone())?;
            counted.push(result);
        }
    }
    let (alone, others) = counted.split_first().context("nothing to compare")?;
    let ratio = |with: &[Counted], rate: fn(&Counted) -> f64| -> Result<Figures> {
        let median = |runs: &[Counted]| Figures::of(runs.iter().map(rate).collect());
        let each = with
            .iter()
            .zip(alone)
            .map(|(with, alone)| rate(with) / rate(alone));
        Ok(Figures {
            median: median(with)?.median / median(alone)?.median,
            ..Figures::of(each.collect())?
        })
    };
    let ratios = |with: &Vec<Counted>| {
        Ok(Ratios {
            throughput: ratio(with, |counted| counted.ops / counted.seconds)?,
            per_cpu_time: ratio(with, |counted| counted.ops / counted.cpu_seconds)?,
        })
    };
    others.iter().map(ratios).collect()
}

/// hud's own cost while its target rests: percent of one core, and peak memory in MiB.
pub fn at_rest(effort: &Effort) -> Result<(f64, f64)> {
    let target = scenario_of("idle", effort.rest + WARM_UP * 3)?;
    let hud = Hud::watch(&target)?;
    thread::sleep(SETTLE);
    let before = hud.cpu_time()?;
    thread::sleep(effort.rest);
    let used = hud.cpu_time()? - before;
    let peak = hud.peak_mib()?;
    hud.stop()?;
    Ok((100.0 * used.as_secs_f64() / effort.rest.as_secs_f64(), peak))
}

/// What hud needs for a program of the scenarios, which shows up at once.
pub struct Start {
    pub binary_mib: f64,
    /// Seconds from the start of hud's process to its first finding.
    pub first_finding: Figures,
    /// hud's peak memory, MiB.
    pub peak_mib: Figures,
}

/// Measures that for a build of the scenarios.
pub fn start(program: &Path, effort: &Effort) -> Result<Start> {
    let (mut seconds, mut peak) = (Vec::new(), Vec::new());
    for _ in 0..effort.pairs {
        let blocks = ["--scenario", "cpu", "--block-ms", "20", "--duration", "15"];
        let target = Target::start(program, &blocks)?;
        let hud = Hud::watch(&target)?;
        seconds.push(hud.until_first_finding()?.as_secs_f64());
        thread::sleep(SETTLE);
        peak.push(hud.peak_mib()?);
        hud.stop()?;
    }
    Ok(Start {
        binary_mib: program.metadata()?.len() as f64 / f64::from(1 << 20),
        first_finding: Figures::of(seconds)?,
        peak_mib: Figures::of(peak)?,
    })
}
