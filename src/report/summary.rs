//! The summary at the end of a recording or a replay.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::style::{ALARM, BOLD, DIM, heading, paint};
use super::{Layout, findings, poll_time, stacks, table};
use crate::model::{Cause, Losses, Role, Tier, Worker};
use crate::session::{Basis, Detail, Scope, Snapshot, Tally, WorkerView};
use crate::text::{self, bytes, counted, duration, percent_of, setting};

/// Culprits whose stacks are shown.
pub const STACKS: usize = 5;
/// How many threads that ended a culprit's waits are named.
const RELEASERS: usize = 3;
/// A second stack of a culprit is shown if it accounts for this share of its time.
const SECOND_STACK: f64 = 0.25;

/// The report of a snapshot that was taken with [`super::query`], ready for [`super::print`].
pub fn summary(snapshot: &Snapshot, layout: Layout) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut out, snapshot, layout);
    out
}

fn write(out: &mut String, snap: &Snapshot, layout: Layout) -> fmt::Result {
    header(out, snap)?;
    match (snap.blocking.polls, snap.roots.polls) {
        (0, 0) => no_slow_polls(out, snap)?,
        (0, _) => {
            let text = "No code held a worker; a root future was held.";
            writeln!(out, "\n{}", paint(BOLD, text))?;
        }
        _ => culprits(out, snap, layout)?,
    }
    roots(out, snap, layout)?;
    heaviest_stacks(out, snap)?;
    running(out, snap)?;
    not_code(out, snap)?;
    poll_time::write(out, snap, layout)?;
    workers(out, snap, layout)?;
    losses(out, &snap.losses)?;
    cost(out, snap)
}

fn header(out: &mut String, snap: &Snapshot) -> fmt::Result {
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
    writeln!(out, "{}", paint(DIM, text::cut(&header.command, 200)))?;
    let tokio = match &header.tokio_version {
        Some(version) => format!("Tokio {version}"),
        None => "Tokio of unknown version".to_owned(),
    };
    let tier = snap.tier.unwrap_or(header.tier);
    let tier_text = format!("poll tracking tier {}: {}", tier.number(), tier.describe());
    let tier_text = match tier {
        Tier::Frames | Tier::Scheduler => paint(ALARM, tier_text),
        _ => tier_text,
    };
    writeln!(out, "{tokio}, {tier_text}")?;
    for change in &snap.tier_changes {
        let when = match change.at_ns.saturating_sub(header.start_ns) {
            0 => "from the start".to_owned(),
            ns => format!("after {}", duration(ns)),
        };
        let why = text::reason(&change.why);
        let text = format!("{when} tier {}: {why}", change.tier.number());
        writeln!(out, "  {}", paint(ALARM, text))?;
    }
    if let (Scope::Window, Some(window)) = (snap.scope, snap.window_ns) {
        writeln!(out, "Over the last {} only.", setting(window))?;
    }
    if let Basis::Kept { .. } = snap.basis {
        writeln!(out, "Of the slow polls that are still kept whole.")?;
    }
    Ok(())
}

/// Distinguishes "nothing was slow" from "nothing could be observed".
fn no_slow_polls(out: &mut String, snap: &Snapshot) -> fmt::Result {
    if snap.sees_no_polls() {
        let text =
            "Polls could not be observed: what blocks is unknown, only how busy threads were.";
        return writeln!(out, "\n{}", paint(ALARM, text));
    }
    let threshold = snap.header.as_ref().map_or(0, |h| h.threshold_ns);
    let text = format!(
        "No slow polls: no code held a worker for {} or longer.",
        setting(threshold)
    );
    writeln!(out, "\n{}", paint(BOLD, text))?;
    let mut observed = 0u64;
    let (mut busy, mut known, mut longest) = (0u64, 0u64, 0u64);
    for view in &snap.workers {
        let usage = &view.usage;
        observed = observed.saturating_add(usage.polls_observed);
        longest = longest.max(usage.longest_poll_ns);
        busy = busy
            .saturating_add(usage.on_cpu_ns)
            .saturating_add(usage.blocked_ns);
        known = known.saturating_add(usage.known_ns());
    }
    let is_worker = |view: &&WorkerView| view.worker.role == Role::Worker;
    let workers = counted(snap.workers.iter().filter(is_worker).count(), "worker");
    match (snap.workers.len(), observed) {
        (0, _) => {
            let text = match snap.workers_left_out {
                0 => "No worker was found: the process may have no running runtime.".to_owned(),
                n => format!(
                    "No worker was watched: --workers left out {}.",
                    counted(n, "worker")
                ),
            };
            writeln!(out, "{}", paint(ALARM, text))
        }
        (_, 0) if known == 0 => writeln!(
            out,
            "{workers} found, but nothing was recorded of what they did."
        ),
        (_, 0) if snap.running.is_empty() && snap.not_code.polls == 0 => writeln!(
            out,
            "{workers} watched, and no poll observed: the runtime is idle."
        ),
        (_, 0) => writeln!(out, "{workers} watched, and no poll observed to its end."),
        _ => writeln!(
            out,
            "{workers} watched, {} of the time busy; {} observed, the longest {}.",
            percent_of(busy, known),
            counted(observed, "poll"),
            duration(longest)
        ),
    }
}

fn culprits(out: &mut String, snap: &Snapshot, layout: Layout) -> fmt::Result {
    let text = format!(
        "{} held workers for {} in total, the longest for {}",
        counted(snap.blocking.polls, "slow poll"),
        duration(snap.blocking.held_ns),
        duration(snap.blocking.max_ns)
    );
    writeln!(out, "\n{}\n", paint(ALARM, text))?;
    out.write_str(&table::culprits(snap, &snap.rows, layout))?;
    let hidden = snap.rows.get(table::ROWS..).unwrap_or_default();
    if !hidden.is_empty() {
        let polls: u64 = hidden.iter().map(|row| row.polls).sum();
        let held = hidden.iter().map(|row| row.total_ns).sum();
        let culprits = counted(hidden.len(), "more culprit");
        writeln!(
            out,
            "and {culprits}: {}, {}",
            counted(polls, "poll"),
            duration(held)
        )?;
    }
    Ok(())
}

/// Code that held root futures: polls of `block_on` outside of the scheduler.
fn roots(out: &mut String, snap: &Snapshot, layout: Layout) -> fmt::Result {
    if snap.roots.polls == 0 {
        return Ok(());
    }
    let text = format!(
        "Root futures (block_on) were held for {} in {}, the longest {}: whatever is joined in them waited",
        duration(snap.roots.held_ns),
        counted(snap.roots.polls, "period"),
        duration(snap.roots.max_ns)
    );
    writeln!(out, "\n{}\n", paint(ALARM, text))?;
    out.write_str(&table::culprits(snap, &snap.root_rows, layout))
}

fn heaviest_stacks(out: &mut String, snap: &Snapshot) -> fmt::Result {
    if snap.details.is_empty() {
        return Ok(());
    }
    heading(out, "Heaviest stacks (innermost frame first)")?;
    for (i, detail) in snap.details.iter().enumerate() {
        culprit_stacks(out, i + 1, detail)?;
    }
    Ok(())
}

fn culprit_stacks(out: &mut String, number: usize, detail: &Detail) -> fmt::Result {
    let row = &detail.row;
    let name = text::call(&row.label, row.calls.as_deref());
    let name = paint(BOLD, text::path(&name, 160));
    if detail.stacks.is_empty() {
        return writeln!(out, "{number}. {name}: no stack was captured");
    }
    let all = detail.tree.total_ns().max(1);
    for (i, stack) in detail.stacks.iter().take(2).enumerate() {
        let share = stack.weight_ns as f64 / all as f64;
        if i > 0 && share < SECOND_STACK {
            break;
        }
        let head = match i {
            0 => format!("{number}. {name}"),
            _ => "   also".to_owned(),
        };
        writeln!(
            out,
            "{head}: {} of {} {} ({})",
            duration(stack.weight_ns),
            duration(detail.tree.total_ns()),
            stacks::doing(stack.activity),
            stack.cause
        )?;
        stacks::write(out, stack)?;
    }
    if !row.chain.is_empty() {
        let chain: Vec<String> = row.chain.iter().map(|name| text::path(name, 60)).collect();
        let text = format!("   called by {}", chain.join(" <- "));
        writeln!(out, "{}", paint(DIM, text))?;
    }
    for releaser in detail.released_by.iter().take(RELEASERS) {
        let Tally {
            polls, total_ns, ..
        } = releaser.tally;
        writeln!(
            out,
            "   released by {}: {} after {}",
            findings::releaser(&releaser.longest),
            counted(polls, "wait"),
            duration(total_ns)
        )?;
    }
    Ok(())
}

fn running(out: &mut String, snap: &Snapshot) -> fmt::Result {
    if snap.running.is_empty() {
        return Ok(());
    }
    let text = match snap.ended {
        Some(_) => "Still stuck when the recording ended",
        None => "Stuck now",
    };
    writeln!(out, "\n{}", paint(ALARM, text))?;
    let start = snap.header.as_ref().map_or(0, |h| h.start_ns);
    for poll in &snap.running {
        let name = snap.worker_name(poll.tid);
        writeln!(out, "{}", findings::finding_line(poll, start, &name))?;
    }
    for runtime in &snap.held_runtimes {
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

fn workers(out: &mut String, snap: &Snapshot, layout: Layout) -> fmt::Result {
    let mut runtimes: BTreeMap<u32, Vec<&WorkerView>> = BTreeMap::new();
    for view in &snap.workers {
        runtimes.entry(view.worker.runtime).or_default().push(view);
    }
    for (runtime, views) in runtimes {
        let is_worker = |view: &&&WorkerView| view.worker.role == Role::Worker;
        let workers = views.iter().filter(is_worker).count();
        let roots = match views.len() - workers {
            0 => String::new(),
            n => format!(", {}", counted(n, "root future")),
        };
        let title = match views.iter().find(is_worker).map(|view| &view.worker) {
            None => format!("Runtime {runtime}{roots}"),
            Some(Worker {
                flavor: Some(flavor),
                ..
            }) => {
                let workers = counted(workers, "worker");
                format!("Runtime {runtime}: {}, {workers}{roots}", flavor.as_str())
            }
            // Threads of the blocking pool may be among them.
            Some(Worker { thread_name, .. }) => {
                format!("{} named {thread_name}", counted(workers, "thread"))
            }
        };
        heading(out, &title)?;
        let (shown, more) = table::select_workers(views);
        out.write_str(&table::workers(&shown, layout))?;
        if let Some(more) = more {
            writeln!(out, "{more}")?;
        }
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
    use super::*;
    use crate::model::{Record, SelfCost};
    use crate::session::testing as t;
    use crate::session::{Session, SessionOptions};

    fn report(records: &[Record], width: Option<u16>) -> String {
        let mut session = Session::new(SessionOptions::default());
        records.iter().for_each(|record| session.apply(record));
        let text = summary(&session.snapshot(&super::super::query()), Layout { width });
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
            let table = text.lines().skip_while(|line| !line.contains("culprit"));
            for line in table.take_while(|line| !line.is_empty()) {
                assert!(
                    line.chars().count() <= usize::from(width),
                    "{width}: {line}"
                );
            }
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
