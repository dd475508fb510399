//! One line for each finding, as it comes.

use std::collections::HashMap;

use super::format::{BOLD, DIM, cause_color, duration, paint, shorten_location, shorten_name};
use crate::model::{Cause, Record, ReleasedBy, SlowPoll, Worker};
use crate::session::display_name;

/// A poll that runs is told after this long, and again each time it has doubled.
const STUCK_NS: u64 = 1_000_000_000;
/// Longest culprit in a line.
const NAME: usize = 60;

/// Makes lines of a session's records.
#[derive(Debug, Default)]
pub struct Findings {
    start_ns: u64,
    workers: HashMap<u32, Worker>,
    /// For each thread the poll that was told as stuck, and how long it has to be held to be told
    /// again.
    stuck: HashMap<u32, (u64, u64)>,
    prefix: Option<String>,
}

impl Findings {
    /// With a prefix, only findings on workers whose thread name begins with it.
    pub fn new(workers_prefix: Option<String>) -> Self {
        Findings {
            prefix: workers_prefix,
            ..Findings::default()
        }
    }

    /// The line a record is worth, without a line break.
    pub fn line(&mut self, record: &Record) -> Option<String> {
        match record {
            Record::Header(header) => self.start_ns = header.start_ns,
            Record::Worker(worker) => {
                self.workers.insert(worker.tid, worker.clone());
            }
            Record::WorkerGone { tid, .. } => {
                self.workers.remove(tid);
                self.stuck.remove(tid);
            }
            Record::SlowPoll(poll) => {
                self.stuck.remove(&poll.tid);
                return self.wanted(poll).then(|| self.show(poll));
            }
            Record::Running(poll) => {
                let (start_ns, due) = self.stuck.entry(poll.tid).or_default();
                if *start_ns != poll.start_ns {
                    (*start_ns, *due) = (poll.start_ns, STUCK_NS);
                }
                let held = poll.held_ns();
                if held < *due {
                    return None;
                }
                *due = held.saturating_mul(2);
                return self.wanted(poll).then(|| self.show(poll));
            }
            // Said by then, as hud started.
            Record::TierChanged { at_ns, .. } if *at_ns <= self.start_ns => {}
            Record::TierChanged { tier, at_ns, why } => {
                let since = at_ns.saturating_sub(self.start_ns) as f64 / 1e9;
                let text = format!("poll tracking is now {}: {why}", tier.describe());
                return Some(format!("{since:9.3} s  {}", paint(BOLD, text)));
            }
            // It comes again, with names.
            Record::Unnamed(_) | Record::NamesKnown => {}
            Record::Usage(_)
            | Record::AllPollTime { .. }
            | Record::PollTime(_)
            | Record::Losses(_)
            | Record::Cost(_)
            | Record::Census(_)
            | Record::End { .. } => {}
        }
        None
    }

    fn wanted(&self, poll: &SlowPoll) -> bool {
        let worker = self.workers.get(&poll.tid);
        match (&self.prefix, worker) {
            (Some(prefix), Some(worker)) => worker.thread_name.starts_with(prefix.as_str()),
            _ => true,
        }
    }

    fn show(&self, poll: &SlowPoll) -> String {
        let several = self.workers.values().any(|worker| worker.runtime != 0);
        let name = match self.workers.get(&poll.tid) {
            Some(worker) => display_name(worker, several),
            None => format!("thread {}", poll.tid),
        };
        finding_line(poll, self.start_ns, &name)
    }
}

/// Time since the start, time held, cause, worker, culprit and location.
pub fn finding_line(poll: &SlowPoll, start_ns: u64, worker: &str) -> String {
    let since = poll.start_ns.saturating_sub(start_ns) as f64 / 1e9;
    let held = duration(poll.held_ns());
    let held = match poll.running {
        true => format!("stuck for {held}"),
        false => held,
    };
    let cause = poll.cause.as_str();
    let cause = paint(cause_color(poll.cause).on_default(), format!("{cause:13}"));
    let what = match poll.cause.blames_code() {
        true => paint(BOLD, shorten_name(&poll.culprit.function, NAME)),
        false => paint(DIM, format!("not the code's fault: {}", outside(poll))),
    };
    let mut line = format!("{since:9.3} s  {held:>10}  {cause} {worker:10}  {what}");
    if poll.cause.blames_code() {
        if let Some(calls) = &poll.culprit.calls {
            line += &format!(" -> {}", shorten_name(calls, NAME));
        }
        if let Some(location) = &poll.culprit.location {
            line += &paint(DIM, format!("  {}", shorten_location(location)));
        }
        if let Some(reason) = poll.held_back.reason() {
            let waited = duration(poll.split.run_queue_ns);
            line += &paint(
                DIM,
                format!("  [{waited} of it waiting for a CPU: {reason}]"),
            );
        }
        if let Some(by) = &poll.released_by {
            line += &match waits_for_others(poll.cause) {
                true => format!(", released by {}", releaser(by)),
                // The wait is a part of the poll only, and not its chief cause.
                false => {
                    let wait = duration(by.wait_ns);
                    format!(", and a wait of {wait} released by {}", releaser(by))
                }
            };
        }
    }
    line
}

/// Whether what a poll of this cause waits for is another thread's to give.
fn waits_for_others(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::Lock | Cause::Network | Cause::Pipe | Cause::ChildProcess | Cause::Unknown
    )
}

/// Who ended a wait, and in which code.
pub fn releaser(by: &ReleasedBy) -> String {
    let code = shorten_name(&by.culprit.function, NAME);
    let calls = by.culprit.calls.as_ref();
    let calls = calls.map_or_else(String::new, |calls| {
        format!(" -> {}", shorten_name(calls, NAME))
    });
    format!("{} ({}) in {}{calls}", by.thread, by.tid, paint(BOLD, code))
}

/// What held a poll up from outside.
fn outside(poll: &SlowPoll) -> &'static str {
    match poll.cause {
        Cause::Stopped => "the process was stopped",
        _ => poll.held_back.reason().unwrap_or("waiting for a CPU"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::{self as t, MS};
    use std::sync::Arc;

    fn plain(line: &str) -> String {
        anstream::adapter::strip_str(line).to_string()
    }

    #[test]
    fn throttled_polls_say_so_whoever_is_to_blame() {
        let mut poll = t::poll(0, 0, 40, Cause::Cpu, "app::hash", "bcrypt::hash");
        poll.split.run_queue_ns = 30 * MS;
        let line = |poll: &SlowPoll| plain(&finding_line(poll, 0, "worker 0"));
        assert!(!line(&poll).contains("throttled"));
        poll.held_back.throttled = true;
        let blamed = line(&poll);
        assert!(blamed.contains("app::hash"), "{blamed}");
        assert!(
            blamed.contains("[30.0 ms of it waiting for a CPU: throttled by"),
            "{blamed}"
        );
        poll.cause = Cause::RunQueue;
        let excused = line(&poll);
        assert!(
            excused.contains("not the code's fault: throttled"),
            "{excused}"
        );
    }

    #[test]
    fn a_stuck_poll_is_told_at_one_second_and_when_it_doubled_and_then_completes() {
        let mut findings = Findings::new(None);
        findings.line(&t::header());
        findings.line(&t::worker(0));
        let mut told = Vec::new();
        for held in (100..=5000).step_by(100) {
            let mut poll = t::poll(
                0,
                2500,
                held,
                Cause::Lock,
                "shop::wait",
                "std::sync::Mutex::lock",
            );
            poll.running = true;
            told.extend(findings.line(&Record::Running(Arc::new(poll))));
        }
        let poll = t::poll(
            0,
            2500,
            5200,
            Cause::Lock,
            "shop::wait",
            "std::sync::Mutex::lock",
        );
        told.extend(findings.line(&Record::SlowPoll(Arc::new(poll))));
        let told: Vec<_> = told.iter().map(|line| plain(line)).collect();
        assert_eq!(told.len(), 4, "{told:#?}");
        assert_eq!(
            told[1],
            "    2.500 s  stuck for 2.00 s  lock          worker 0    shop::wait -> \
             std::sync::Mutex::lock  shop/src/main.rs:42"
        );
        assert!(told[3].contains("     5.20 s  lock"), "{}", told[3]);
    }

    #[test]
    fn a_wait_names_who_ended_it() {
        let poll = t::poll(
            0,
            0,
            30,
            Cause::Lock,
            "shop::wait",
            "std::sync::Mutex::lock",
        );
        let poll = t::released(poll, 4090, "shop::hold");
        let line = plain(&finding_line(&poll, poll.start_ns, "worker 0"));
        assert!(
            line.ends_with(", released by keeper (4090) in shop::hold -> std::thread::sleep"),
            "{line}"
        );
        // A sleep is nobody's to end: what was released is another wait in the same poll.
        let poll = t::poll(0, 0, 30, Cause::Sleep, "shop::nap", "std::thread::sleep");
        let poll = t::released(poll, 4090, "shop::hold");
        let wait = duration(poll.released_by.as_ref().unwrap().wait_ns);
        let line = plain(&finding_line(&poll, poll.start_ns, "worker 0"));
        let said = format!(", and a wait of {wait} released by keeper (4090) in shop::hold");
        assert!(line.contains(&said), "{line}");
    }

    #[test]
    fn waiting_for_a_cpu_blames_nobody() {
        let poll = t::poll(0, 0, 9, Cause::RunQueue, "shop::hello", "shop::render");
        let line = plain(&finding_line(&poll, poll.start_ns - 5 * MS, "worker 0"));
        assert!(!line.contains("shop"), "{line}");
        assert!(line.contains("waiting for a CPU"));
    }
}
