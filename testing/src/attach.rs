//! Attaches hud many times: what it says of its first moments depends on what the target does just then.

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::compare::{Expect, compare};
use crate::run::{Run, Watched, read_truth};

/// Attaches hud to one process `times` times, one after the other.
///
/// # Errors
/// What hud said, when it could not attach.
pub fn to_one_process(run: &Run<'_>, times: usize) -> Result<Vec<Watched>, String> {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let target = run.start_target(folder.path());
    let mut recordings = Vec::with_capacity(times);
    for (attach, pause) in (0..times).zip(moments(Duration::ZERO, Duration::from_millis(50))) {
        thread::sleep(pause);
        recordings.push(run.attach(&target, &folder, &format!("trace-{attach}.json"), None)?);
    }
    target.end();
    let truth = read_truth(folder.path());
    let runs = recordings.into_iter();
    Ok(runs
        .map(|recording| recording.with(truth.clone()))
        .collect())
}

/// Attaches hud to `times` processes, to each at a moment between `from` and `to` after its start.
///
/// # Errors
/// What hud said, when it could not attach.
pub fn to_new_processes<'a>(
    run: impl Fn() -> Run<'a>,
    times: usize,
    from: Duration,
    to: Duration,
) -> Result<Vec<Watched>, String> {
    let moments = moments(from, to).take(times);
    moments
        .map(|delay| run().delay(delay).try_watch())
        .collect()
}

/// Moments that are spread evenly over a time, in an order without a period.
fn moments(from: Duration, to: Duration) -> impl Iterator<Item = Duration> {
    // Multiples of the golden ratio, modulo 1.
    let part = |n: u32| (f64::from(n) * 0.618_033_988_749_895).fract();
    (1..).map(move |n| from + (to - from).mul_f64(part(n)))
}

/// The attaches after which hud was wrong.
pub struct Outcome {
    attaches: usize,
    wrong: Vec<(usize, Vec<String>)>,
}

/// Compares every attach with the truth.
pub fn compare_all(runs: &[Watched], expect: &Expect) -> Outcome {
    let mistakes = |run| -> Vec<String> { compare(run, expect).mistakes().cloned().collect() };
    let all = runs.iter().map(mistakes).enumerate();
    Outcome {
        attaches: runs.len(),
        wrong: all.filter(|(_, mistakes)| !mistakes.is_empty()).collect(),
    }
}

impl Outcome {
    /// Fails where hud was wrong in even one attach.
    pub fn assert(&self) {
        assert!(self.wrong.is_empty(), "{self}: {:#?}", self.wrong);
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} attaches wrong",
            self.wrong.len(),
            self.attaches
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_cover_the_whole_time() {
        let (from, to) = (Duration::from_millis(300), Duration::from_millis(900));
        let mut all: Vec<Duration> = moments(from, to).take(50).collect();
        all.sort();
        assert!(all[0] >= from && all[49] <= to);
        let gaps = all.windows(2).map(|pair| pair[1] - pair[0]);
        let largest = gaps.max().unwrap();
        assert!(largest < Duration::from_millis(36), "{largest:?}");
    }
}
