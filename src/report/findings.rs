//! One line for each finding, as it arrives. Polls that were only delayed from outside are summed up
//! where there are many of them.

use std::collections::HashMap;

use jiff::tz::TimeZone;

use super::style::{BOLD, DIM, cause_color, paint};
use crate::model::{Cause, Record, ReleasedBy, RootPoll, SlowPoll, Worker};
use crate::text::{self, WallClock, counted, duration};

/// A running poll is reported after this long, and again each time its duration has doubled.
const STUCK_NS: u64 = 1_000_000_000;
/// Polls delayed from outside that have a line of their own, within one period.
const DELAYED_LINES: u64 = 3;
/// The others of a period are summed up in one line.
const DELAYED_PERIOD_NS: u64 = 10_000_000_000;
/// Columns of each of a culprit's names.
const NAME: usize = 60;

/// Turns the records of a session into lines.
#[derive(Debug)]
pub struct Findings {
    clock: WallClock,
    zone: TimeZone,
    workers: HashMap<u32, Worker>,
    /// By thread: the start of the poll reported as stuck, and the duration at which it is reported
    /// again.
    stuck: HashMap<u32, (u64, u64)>,
    delayed: Delayed,
    prefix: Option<String>,
}

/// Polls delayed from outside, in one period.
#[derive(Debug, Default)]
struct Delayed {
    since_ns: u64,
    polls: u64,
    /// Those without a line of their own.
    summed: u64,
    max_ns: u64,
}

impl Findings {
    /// With a prefix, only findings on workers whose thread name begins with it. Times of day are in
    /// `zone`.
    pub fn new(workers_prefix: Option<String>, zone: TimeZone) -> Self {
        Findings {
            clock: WallClock::new(None, &zone),
            zone,
            workers: HashMap::new(),
            stuck: HashMap::new(),
            delayed: Delayed::default(),
            prefix: workers_prefix,
        }
    }

    /// The lines for a record, if it has any, without a line break at the end.
    pub fn lines(&mut self, record: &Record) -> Option<String> {
        match record {
            Record::Header(header) => self.clock = WallClock::new(Some(header), &self.zone),
            Record::Worker(worker) => {
                self.workers.insert(worker.tid, worker.clone());
            }
            Record::WorkerGone { tid, .. } => {
                self.workers.remove(tid);
                self.stuck.remove(tid);
            }
            Record::SlowPoll(poll) => {
                self.stuck.remove(&poll.tid);
                return self.slow_poll(poll);
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
                return self.is_selected(poll).then(|| self.show(poll));
            }
            // The header says the tier that hud started with.
            Record::TierChanged { at_ns, .. } if self.clock.into_session(*at_ns) == 0 => {}
            Record::TierChanged { tier, at_ns, why } => {
                let (tier, why) = (tier.describe(), text::reason(why));
                let line = format!("poll tracking is now {tier}: {why}");
                return Some(format!(
                    "{}  {}",
                    self.clock.stamp(*at_ns),
                    paint(BOLD, line)
                ));
            }
            Record::End { at_ns, .. } => return self.delayed.sum_up(&self.clock, *at_ns),
            Record::Usage(_)
            | Record::AllPollTime { .. }
            | Record::PollTime(_)
            | Record::Losses(_)
            | Record::Cost(_)
            | Record::Census(_) => {}
        }
        None
    }

    fn slow_poll(&mut self, poll: &SlowPoll) -> Option<String> {
        if !self.is_selected(poll) {
            return None;
        }
        let sum = match poll.end_ns >= self.delayed.since_ns.saturating_add(DELAYED_PERIOD_NS) {
            true => self.delayed.sum_up(&self.clock, poll.end_ns),
            false => None,
        };
        let own = match poll.cause.blames_code() || self.delayed.add(poll) {
            true => Some(self.show(poll)),
            false => None,
        };
        match (sum, own) {
            (Some(sum), Some(own)) => Some(format!("{sum}\n{own}")),
            (sum, own) => sum.or(own),
        }
    }

    fn is_selected(&self, poll: &SlowPoll) -> bool {
        let worker = self.workers.get(&poll.tid);
        match (&self.prefix, worker) {
            (Some(prefix), Some(worker)) => worker.thread_name.starts_with(prefix.as_str()),
            _ => true,
        }
    }

    fn show(&self, poll: &SlowPoll) -> String {
        let several = self.workers.values().any(|worker| worker.runtime != 0);
        let name = match self.workers.get(&poll.tid) {
            Some(worker) => text::worker(worker, several),
            None => text::thread(None, poll.tid),
        };
        finding_line(poll, &self.clock, &name)
    }
}

impl Delayed {
    /// Counts a poll; returns whether it gets a line of its own.
    fn add(&mut self, poll: &SlowPoll) -> bool {
        self.polls += 1;
        if self.polls <= DELAYED_LINES {
            return true;
        }
        self.summed += 1;
        self.max_ns = self.max_ns.max(poll.held_ns());
        false
    }

    /// Ends a period: the line for its polls without a line of their own.
    fn sum_up(&mut self, clock: &WallClock, at_ns: u64) -> Option<String> {
        let period = std::mem::take(self);
        self.since_ns = at_ns;
        let text = format!(
            "{} delayed, up to {}: not the code's fault",
            counted(period.summed, "more poll"),
            duration(period.max_ns)
        );
        (period.summed > 0).then(|| format!("{}  {}", clock.stamp(at_ns), paint(DIM, text)))
    }
}

/// A finding in one line: when it ended (or the moment it is reported for), how long it held its
/// worker, cause, worker, culprit and location.
pub fn finding_line(poll: &SlowPoll, clock: &WallClock, worker: &str) -> String {
    let at = clock.stamp(poll.end_ns);
    let held = duration(poll.held_ns());
    let held = match poll.running {
        true => format!("stuck for {held}"),
        false => held,
    };
    let cause = poll.cause.as_str();
    let cause = paint(cause_color(poll.cause).on_default(), format!("{cause:13}"));
    let what = match poll.cause.blames_code() {
        true => paint(BOLD, name(&poll.culprit.function)),
        false => paint(DIM, format!("not the code's fault: {}", outside(poll))),
    };
    let root = match poll.root {
        Some(RootPoll::BusyStretch) if poll.cause.blames_code() => "busy in one or more polls: ",
        _ => "",
    };
    let mut line = format!("{at}  {held:>7}  {cause} {worker:10}  {root}{what}");
    if poll.cause.blames_code() {
        if let Some(calls) = &poll.culprit.calls {
            line += &format!(" -> {}", name(calls));
        }
        if let Some(location) = &poll.culprit.location {
            line += &paint(DIM, format!("  {}", text::location(location)));
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
                // The wait is a part of the poll, not its chief cause.
                false => {
                    let wait = duration(by.wait_ns);
                    format!(", and a wait of {wait} released by {}", releaser(by))
                }
            };
        }
    }
    line
}

/// Whether a poll of this cause waits for another thread.
fn waits_for_others(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::Lock | Cause::Network | Cause::Pipe | Cause::ChildProcess | Cause::Unknown
    )
}

/// The thread that ended a wait, and its code.
pub fn releaser(by: &ReleasedBy) -> String {
    let thread = text::thread(Some(&by.thread), by.tid);
    let code = paint(BOLD, name(&by.culprit.function));
    let calls = by.culprit.calls.as_ref();
    let calls = calls.map_or_else(String::new, |calls| format!(" -> {}", name(calls)));
    format!("{thread} in {code}{calls}")
}

fn name(function: &str) -> String {
    text::path(function, NAME)
}

/// What delayed a poll from outside.
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

    fn clock() -> WallClock {
        let Record::Header(header) = t::header() else {
            panic!("no header");
        };
        WallClock::new(Some(&header), &TimeZone::UTC)
    }

    fn plain(line: &str) -> String {
        anstream::adapter::strip_str(line).to_string()
    }

    #[test]
    fn throttled_polls_say_so_whoever_is_to_blame() {
        let mut poll = t::poll(0, 0, 40, Cause::Cpu, "app::hash", "bcrypt::hash");
        poll.split.run_queue_ns = 30 * MS;
        let line = |poll: &SlowPoll| plain(&finding_line(poll, &clock(), "worker 0"));
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
    fn a_stuck_poll_is_reported_after_a_second_at_each_doubling_and_when_it_ends() {
        let mut findings = Findings::new(None, TimeZone::UTC);
        findings.lines(&t::header());
        findings.lines(&t::worker(0));
        let mut lines = Vec::new();
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
            lines.extend(findings.lines(&Record::Running(Arc::new(poll))));
        }
        let poll = t::poll(
            0,
            2500,
            5200,
            Cause::Lock,
            "shop::wait",
            "std::sync::Mutex::lock",
        );
        lines.extend(findings.lines(&Record::SlowPoll(Arc::new(poll))));
        let lines: Vec<_> = lines.iter().map(|line| plain(line)).collect();
        assert_eq!(lines.len(), 4, "{lines:#?}");
        assert_eq!(
            lines[1],
            "15:06:44.500 00:04.500  stuck for 2.00 s  lock          worker 0    shop::wait -> \
             std::sync::Mutex::lock  shop/src/main.rs:42"
        );
        assert!(lines[3].contains("   5.20 s  lock"), "{}", lines[3]);
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
        let line = plain(&finding_line(&poll, &clock(), "worker 0"));
        assert!(
            line.ends_with(", released by keeper (4090) in shop::hold -> std::thread::sleep"),
            "{line}"
        );
        // A sleep ends by itself: what was released is another wait in the same poll.
        let poll = t::poll(0, 0, 30, Cause::Sleep, "shop::nap", "std::thread::sleep");
        let poll = t::released(poll, 4090, "shop::hold");
        let wait = duration(poll.released_by.as_ref().unwrap().wait_ns);
        let line = plain(&finding_line(&poll, &clock(), "worker 0"));
        let said = format!(", and a wait of {wait} released by keeper (4090) in shop::hold");
        assert!(line.contains(&said), "{line}");
    }

    #[test]
    fn waiting_for_a_cpu_blames_nobody() {
        let poll = t::poll(0, 0, 9, Cause::RunQueue, "shop::hello", "shop::render");
        let line = plain(&finding_line(&poll, &clock(), "worker 0"));
        assert!(!line.contains("shop"), "{line}");
        assert!(line.contains("waiting for a CPU"));
    }

    #[test]
    fn many_delayed_polls_are_summed_up() {
        let mut findings = Findings::new(None, TimeZone::UTC);
        findings.lines(&t::header());
        findings.lines(&t::worker(0));
        let mut lines = Vec::new();
        for i in 0..24 {
            let poll = t::poll(0, 1000 * i, 6 + i, Cause::RunQueue, "shop::x", "shop::y");
            lines.extend(findings.lines(&Record::SlowPoll(Arc::new(poll))));
        }
        lines.extend(findings.lines(&t::end(24_000)));
        let text = plain(&lines.join("\n"));
        let sums: Vec<&str> = text
            .lines()
            .filter(|line| line.contains(" more poll"))
            .collect();
        assert_eq!(text.lines().count(), 9 + sums.len(), "{text}");
        assert!(sums[0].ends_with("7 more polls delayed, up to 15.0 ms: not the code's fault"));
        assert_eq!(sums.len(), 3, "{text}");
    }
}
