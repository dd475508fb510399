//! The summary at the end of a recording or a replay.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::style::{ALARM, BOLD, DIM, heading, paint};
use super::{Layout, culprits, findings, poll_time, verdict, workers};
use crate::model::{Cause, HANG_NS, Losses, Tier};
use crate::session::{Basis, Scope, Snapshot};
use crate::text::{self, WallClock, bytes, counted, duration, percent_of, setting};

/// Lines of the report, unless all stacks are asked for. Stacks get what the other sections leave.
const LINES: usize = 58;
/// Stuck polls that are listed.
const STUCK: usize = 5;

/// The report of a snapshot that was taken with [`super::query`], ready for [`super::print`].
pub fn summary(snapshot: &Snapshot, layout: &Layout) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut out, snapshot, layout);
    out
}

fn write(out: &mut String, snap: &Snapshot, layout: &Layout) -> fmt::Result {
    let clock = WallClock::new(snap.header.as_deref(), &layout.zone);
    header(out, snap, &clock)?;
    verdict::write(out, snap, &clock, layout)?;
    running(out, snap, &clock)?;
    culprits::write_table(out, snap, layout)?;
    let mut rest = String::new();
    not_code(&mut rest, snap)?;
    workers::write(&mut rest, snap)?;
    losses(&mut rest, &snap.losses)?;
    cost(&mut rest, snap)?;
    let used = out.lines().count() + rest.lines().count();
    culprits::write_stacks(out, snap, layout.stacks, LINES.saturating_sub(used))?;
    poll_time::write(out, snap, layout)?;
    out.push_str(&rest);
    Ok(())
}

fn header(out: &mut String, snap: &Snapshot, clock: &WallClock) -> fmt::Result {
    let Some(header) = &snap.header else {
        return writeln!(out, "Nothing was recorded.");
    };
    let title = format!("{} (PID {})", header.process, header.pid);
    let elapsed = duration(snap.elapsed_ns());
    writeln!(
        out,
        "{}, watched for {elapsed}: polls that held a worker for {} or longer",
        paint(BOLD, title),
        setting(header.threshold_ns)
    )?;
    let mut how = vec![match &header.tokio_version {
        Some(version) => format!("Tokio {version}"),
        None => "Tokio of unknown version".to_owned(),
    }];
    let tier = snap.tier.unwrap_or(header.tier);
    let tier_text = format!("poll tracking tier {}: {}", tier.number(), tier.describe());
    how.push(match tier {
        Tier::Frames | Tier::Scheduler => paint(ALARM, tier_text),
        _ => tier_text,
    });
    how.extend(clock.started().map(|at| format!("since {at}")));
    writeln!(out, "{}", how.join(", "))?;
    for change in &snap.tier_changes {
        let when = match clock.into_session(change.at_ns) {
            0 => "from the start".to_owned(),
            _ => format!("from {}", clock.both(change.at_ns)),
        };
        let why = text::reason(&change.why);
        let text = format!("{when} tier {}: {why}", change.tier.number());
        writeln!(out, "  {}", paint(ALARM, text))?;
    }
    writeln!(out, "{}", paint(DIM, text::cut(&header.command, 200)))?;
    if let (Scope::Window, Some(window)) = (snap.scope, snap.window_ns) {
        writeln!(out, "Over the last {} only.", setting(window))?;
    }
    if let Basis::Kept { .. } = snap.basis {
        writeln!(out, "Of the slow polls that are still kept whole.")?;
    }
    Ok(())
}

fn running(out: &mut String, snap: &Snapshot, clock: &WallClock) -> fmt::Result {
    if snap.running.is_empty() {
        return Ok(());
    }
    let text = match snap.ended {
        Some(_) => "Still stuck when the recording ended",
        None => "Stuck now",
    };
    writeln!(out, "\n{}", paint(ALARM, text))?;
    for poll in snap.running.iter().take(STUCK) {
        let name = snap.worker_name(poll.tid);
        writeln!(out, "{}", findings::finding_line(poll, clock, &name))?;
    }
    if let Some(more) = snap.running.len().checked_sub(STUCK).filter(|n| *n > 0) {
        writeln!(out, "and {}", counted(more, "more poll"))?;
    }
    let hangs = |runtime: &&u32| {
        let mut polls = snap.running.iter().filter(|poll| poll.runtime == **runtime);
        polls.all(|poll| snap.held_until_now(poll) >= HANG_NS)
    };
    for runtime in snap.held_runtimes.iter().filter(hangs) {
        let text = format!("All workers of runtime {runtime} are held: it makes no progress.");
        writeln!(out, "{}", paint(ALARM, text))?;
    }
    Ok(())
}

/// Slow polls of one cause that is not the code's fault.
#[derive(Default)]
struct Waits {
    polls: u64,
    total_ns: u64,
    max_ns: u64,
    throttled: u64,
    stolen: u64,
}

impl Waits {
    /// Why they waited for a CPU, in words.
    fn why(&self) -> String {
        let mut why = "waiting for a CPU".to_owned();
        if self.throttled > 0 {
            let polls = counted(self.throttled, "poll");
            why += &format!("; in {polls} the cgroup's CPU limit was reached");
        }
        if self.stolen > 0 {
            let polls = counted(self.stolen, "poll");
            why += &format!("; in {polls} the hypervisor or interrupts had taken the CPU away");
        }
        match self.throttled + self.stolen {
            0 => why + ": other threads had it",
            _ => why,
        }
    }
}

fn not_code(out: &mut String, snap: &Snapshot) -> fmt::Result {
    if snap.not_code_rows.is_empty() {
        return Ok(());
    }
    heading(out, "Not your code")?;
    let mut by_cause: BTreeMap<Cause, Waits> = BTreeMap::new();
    for row in &snap.not_code_rows {
        let waits = by_cause.entry(row.cause).or_default();
        waits.polls += row.polls;
        waits.total_ns = waits.total_ns.saturating_add(row.total_ns);
        waits.max_ns = waits.max_ns.max(row.max_ns);
        waits.throttled += row.throttled_polls;
        waits.stolen += row.stolen_polls;
    }
    for (cause, waits) in by_cause {
        let why = match cause {
            Cause::Stopped => "the process was stopped by a signal or a debugger".to_owned(),
            _ => waits.why(),
        };
        let polls = counted(waits.polls, "slow poll");
        let (total, max) = (duration(waits.total_ns), duration(waits.max_ns));
        writeln!(out, "{cause}: {polls}, {total}, longest {max}: {why}")?;
    }
    Ok(())
}

fn losses(out: &mut String, losses: &Losses) -> fmt::Result {
    if losses.total() == 0 {
        return Ok(());
    }
    let lost = losses.by_kind().into_iter().filter(|(_, n)| *n > 0);
    let lost: Vec<String> = lost.map(|(kind, n)| format!("{n} {kind}")).collect();
    let text = format!(
        "Lost, so the numbers above may be too small: {}",
        lost.join(", ")
    );
    writeln!(out, "\n{}", paint(ALARM, text))
}

fn cost(out: &mut String, snap: &Snapshot) -> fmt::Result {
    let Some(cost) = &snap.cost else {
        return Ok(());
    };
    let version = snap.header.as_ref().map_or("", |h| &h.hud_version);
    let elapsed = snap.elapsed_ns();
    let start = snap.cost_of_start.unwrap_or(*cost);
    let watching = cost.cpu_ns.saturating_sub(start.cpu_ns);
    write!(
        out,
        "\nhud {version} used {} of CPU time to start and {} to watch ({} of one core)",
        duration(start.cpu_ns),
        duration(watching),
        percent_of(watching, cost.at_ns.saturating_sub(start.at_ns))
    )?;
    if let Some(bpf) = cost.bpf_ns {
        write!(
            out,
            ", {} in BPF ({})",
            duration(bpf),
            percent_of(bpf, elapsed)
        )?;
    }
    writeln!(out, ", {} of memory at its peak.", bytes(cost.peak_rss))
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::super::Stacks;
    use super::*;
    use crate::model::{Record, SelfCost};
    use crate::session::testing as t;
    use crate::session::{Session, SessionOptions};

    fn report(records: &[Record], width: Option<u16>) -> String {
        let mut session = Session::new(SessionOptions::default());
        records.iter().for_each(|record| session.apply(record));
        let layout = Layout {
            width,
            zone: TimeZone::UTC,
            stacks: Stacks::Top,
        };
        let text = summary(&session.snapshot(&super::super::query(&layout)), &layout);
        anstream::adapter::strip_str(&text).to_string()
    }

    #[test]
    fn the_whole_report() {
        let mut records = t::session();
        let started = SelfCost {
            at_ns: t::START_NS,
            cpu_ns: 25 * t::MS,
            ..SelfCost::default()
        };
        records.insert(1, Record::Cost(started));
        insta::assert_snapshot!("piped", report(&records, None));
        insta::assert_snapshot!("narrow_80", report(&records, Some(80)));
        insta::assert_snapshot!("wide_120", report(&records, Some(120)));
    }

    #[test]
    fn it_fits_the_terminal() {
        for width in [80, 100, 120, 200] {
            let text = report(&t::session(), Some(width));
            let table = text.lines().skip_while(|line| !line.contains("cause "));
            let table = table.take_while(|line| !line.is_empty());
            let widest = table.map(crate::text::width).max().unwrap_or(0);
            assert!(
                (40..=usize::from(width)).contains(&widest),
                "{widest}: {text}"
            );
        }
    }

    /// Many culprits, deep stacks, many workers and several stuck polls.
    #[test]
    fn a_busy_process_has_a_report_of_less_than_sixty_lines() {
        let mut records = vec![t::header()];
        records.extend((0..16).map(t::worker));
        for i in 0..40u64 {
            let (name, calls) = (format!("shop::orders::f{i}"), format!("sqlx::g{i}"));
            let at = 100 + 200 * i;
            let mut poll = t::poll(i as u32 % 16, at, 30 + i, Cause::Cpu, &name, &calls);
            for stack in &mut poll.stacks {
                let dependency = |n: u32| t::frame(&format!("crate{n}::run"), n, false);
                stack.frames.splice(0..0, (0..20).map(dependency));
                let own = |n: u32| t::frame(&format!("shop::layer{n}"), n, false);
                stack.frames.extend((0..20).map(own));
            }
            records.push(Record::SlowPoll(poll.clone().into()));
            if i >= 30 {
                poll.tid = 4001 + i as u32 % 16;
                poll.running = true;
                records.push(Record::Running(poll.into()));
            }
        }
        records.push(t::end(10_000));
        for width in [None, Some(80), Some(120)] {
            let text = report(&records, width);
            let lines = text.lines().count();
            assert!(lines < 60, "{lines} at {width:?}: {text}");
            assert!(text.contains("more culprits") && text.contains("--stacks all"));
        }
    }

    #[test]
    fn nothing_slow_proves_that_it_looked() {
        let records = [
            t::header(),
            t::worker(0),
            t::usage(0, 1000, 250),
            t::end(1000),
        ];
        let text = report(&records, None);
        assert!(text.contains("No slow polls: no code held a worker for 5 ms or longer."));
        let proof =
            "1 worker watched, 25.0% of the time busy; 1000 polls observed, the longest 3.00 ms.";
        assert!(text.contains(proof), "{text}");
        assert!(!text.contains("Lost"));
    }

    #[test]
    fn where_polls_cannot_be_seen_nothing_is_said_of_them() {
        let text = report(&t::session_without_polls(), None);
        insta::assert_snapshot!("without_polls", text);
    }

    #[test]
    fn silence_without_any_reading_is_not_taken_for_rest() {
        let text = report(&[t::header(), t::worker(0)], None);
        assert!(
            text.contains("1 worker found, but nothing was recorded"),
            "{text}"
        );
        assert!(!text.contains("idle"), "{text}");
    }

    #[test]
    fn all_poll_time_is_a_section_of_its_own_once_it_was_on() {
        let (on, at_ns) = (true, t::START_NS);
        let second = t::poll_time(0, 1000, &[("shop::render", "json::write", 600)]);
        let records = [
            t::header(),
            t::worker(0),
            Record::AllPollTime { on, at_ns },
            Record::PollTime(second.into()),
            t::end(1000),
        ];
        let text = report(&records, Some(100));
        assert!(text.contains("No slow polls"), "{text}");
        assert!(
            text.contains("600 ms in 1.00 s (60.0% of one CPU)"),
            "{text}"
        );
        assert!(text.contains("shop::render -> json::write"), "{text}");
        assert!(!report(&t::session(), None).contains("All poll time"));
    }

    #[test]
    fn a_replay_reports_what_the_recording_did() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace.json");
        let records = t::session();
        let Record::Header(header) = &records[0] else {
            panic!("no header");
        };
        let mut writer = crate::export::TraceWriter::create(&path, header).unwrap();
        records.iter().for_each(|r| writer.write(r).unwrap());
        writer.finish().unwrap();
        let mut replayed = Vec::new();
        crate::export::read_trace(&path, |record| replayed.push(record)).unwrap();
        assert_eq!(report(&replayed, Some(100)), report(&records, Some(100)));
    }
}
