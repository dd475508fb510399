//! The top of the screen: which process, how it is watched, whether anything was lost, and the tabs.

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::model::{EndReason, Role};
use crate::session::{Snapshot, WorkerView};
use crate::text;
use crate::tui::state::View;
use crate::tui::widgets::canvas::{Canvas, Hit, narrow, row_of};

/// The process about to be watched.
#[derive(Clone, Debug)]
pub struct ExpectedTarget {
    /// Its name (`comm`).
    pub process: String,
    pub pid: u32,
    /// The command line.
    pub command: String,
}

/// What the header shows beside the snapshot.
pub struct Mode {
    pub replay: bool,
    /// The process about to be watched, while there is no header record yet.
    pub expected: Option<ExpectedTarget>,
    pub paused: bool,
    /// Slow polls since the view was paused.
    pub missed: u64,
    pub view: View,
    /// The view's threshold, if it was raised.
    pub min_held_ns: Option<u64>,
    /// How many workers are chosen, if not all.
    pub workers: Option<usize>,
}

/// Rows of the header on a screen of that height.
pub fn height(screen: u16) -> u16 {
    match screen {
        ..20 => 2,
        _ => 3,
    }
}

/// Draws the header.
pub fn draw(c: &mut Canvas, area: Rect, mode: &Mode) {
    identity(c, area, mode);
    watch(c, area);
    if area.height > 2 {
        tabs(c, area, mode);
    }
}

fn identity(c: &mut Canvas, area: Rect, mode: &Mode) {
    let theme = c.theme;
    let (badge, style) = match (mode.paused, mode.replay, c.snap.ended) {
        (true, ..) => (" PAUSED ", theme.warn().patch(theme.selected())),
        (_, true, _) => (" REPLAY ", theme.title().patch(theme.selected())),
        (_, _, Some((EndReason::TargetExited, _))) => (" EXITED ", theme.alarm()),
        (_, _, Some(_)) => (" ENDED ", theme.warn().patch(theme.selected())),
        (_, _, None) if c.snap.header.is_none() => {
            (" STARTING ", theme.warn().patch(theme.selected()))
        }
        _ => (" LIVE ", theme.good().patch(theme.selected())),
    };
    let mut parts = vec![Span::styled(badge, style), Span::raw(" ")];
    let right = format!(" {}", text::elapsed(c.snap.elapsed_ns()));
    let room = usize::from(area.width).saturating_sub(badge.len() + 1 + right.len());
    let header = c.snap.header.as_ref();
    let known = header.map(|h| (h.process.as_str(), h.pid, h.command.as_str()));
    let expected = mode.expected.as_ref();
    let expected = expected.map(|e| (e.process.as_str(), e.pid, e.command.as_str()));
    match known.or(expected) {
        None => parts.push(Span::styled("waiting for the first record", theme.dim())),
        Some((process, pid, command)) => {
            let process = text::cut(process, room);
            let pid = format!(" {pid} ");
            let room = room.saturating_sub(text::width(&process) + pid.len());
            parts.push(Span::styled(process, theme.strong()));
            parts.push(Span::raw(pid));
            parts.push(Span::styled(text::cut(command, room), theme.dim()));
        }
    }
    if mode.paused && mode.missed > 0 {
        let missed = format!(" +{} since ", text::counted(mode.missed, "slow poll"));
        parts.insert(1, Span::styled(missed, theme.warn()));
    }
    c.row(area, 0, Line::from(parts));
    c.right(area, 0, Span::styled(right, theme.strong()));
}

/// Draws one line: losses, runtimes and workers, rate, hud's own cost, tier. Without enough room the
/// last parts are left out, never the losses.
fn watch(c: &mut Canvas, area: Rect) {
    let theme = c.theme;
    let snap = c.snap;
    let mut parts: Vec<(String, Style)> = Vec::new();
    // The tier in few words, for when its description has no room.
    let mut short = None;
    let lost = snap.losses.total();
    if lost > 0 {
        parts.push((format!(" LOST {} ", losses(snap)), theme.alarm()));
    }
    parts.push((found(snap), Style::new()));
    let slow = match snap.sees_no_polls() {
        true => "polls not observed".to_owned(),
        false => format!("{:.1} slow polls/s", snap.polls_per_second),
    };
    let busy = snap.polls_per_second > 0.0;
    parts.push((slow, if busy { theme.strong() } else { theme.dim() }));
    if let Some(tier) = snap.tier {
        let style = match tier.number() {
            1..=3 => theme.dim(),
            _ => theme.warn(),
        };
        parts.push((
            format!("tier {}: {}", tier.number(), tier.describe()),
            style,
        ));
        short = Some((parts.len() - 1, format!("tier {}", tier.number())));
    }
    if let Some(version) = snap.header.as_ref().and_then(|h| h.tokio_version.as_ref()) {
        parts.push((format!("tokio {version}"), theme.dim()));
    }
    if let Some(cost) = snap.cost {
        let share = snap.cost_share.unwrap_or(0.0) * 100.0;
        let style = if share >= 5.0 {
            theme.warn()
        } else {
            theme.dim()
        };
        let at = parts.len().min(2 + usize::from(lost > 0));
        parts.insert(
            at,
            (
                format!("hud {share:.1}% CPU, {}", text::bytes(cost.peak_rss)),
                style,
            ),
        );
        short = short.map(|(tier, text)| (tier + usize::from(at <= tier), text));
    }
    if let Some(change) = snap.tier_changes.last() {
        parts.push((text::reason(&change.why).to_owned(), theme.warn()));
    }
    let mut spans = Vec::new();
    let mut room = usize::from(area.width);
    for (i, (mut part, style)) in parts.into_iter().enumerate() {
        let separator = if i == 0 { "" } else { " · " };
        if let Some((_, text)) = short.take_if(|(tier, _)| *tier == i)
            && text::width(&part) + text::width(separator) > room
        {
            part = text;
        }
        let wide = text::width(&part) + text::width(separator);
        if wide > room && i > 0 {
            break;
        }
        room = room.saturating_sub(wide);
        spans.push(Span::styled(separator, theme.dim()));
        spans.push(Span::styled(part, style));
    }
    c.row(area, 1, Line::from(spans));
}

fn found(snap: &Snapshot) -> String {
    let shown = snap.last_workers();
    let is_worker = |view: &&&WorkerView| view.worker.role == Role::Worker;
    let workers = shown.iter().filter(is_worker).count();
    let mut runtimes: Vec<u32> = shown.iter().map(|w| w.worker.runtime).collect();
    runtimes.sort_unstable();
    runtimes.dedup();
    match runtimes.len() {
        0 => "no workers yet".to_owned(),
        // Tier 5 does not know which threads are workers.
        _ if snap.sees_no_polls() => text::counted(workers, "thread"),
        1 => text::counted(workers, "worker"),
        n => format!(
            "{}, {}",
            text::counted(n, "runtime"),
            text::counted(workers, "worker")
        ),
    }
}

/// The largest losses by name.
fn losses(snap: &Snapshot) -> String {
    let mut kinds: Vec<_> = snap
        .losses
        .by_kind()
        .into_iter()
        .filter(|k| k.1 > 0)
        .collect();
    kinds.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let named = |(name, n): &(&str, u64)| format!("{} {}", text::count(*n), name.replace('_', " "));
    match kinds.as_slice() {
        [first] => named(first),
        [first, rest @ ..] => {
            let others = rest.iter().map(|(_, n)| n).sum();
            format!("{}, {} others", named(first), text::count(others))
        }
        [] => String::new(),
    }
}

/// Draws the tabs, and the filters in effect.
fn tabs(c: &mut Canvas, area: Rect, mode: &Mode) {
    let views = [
        ("1 Culprits", View::Culprits),
        ("2 Call tree", View::Detail),
        ("3 Flame", View::Flame),
        ("4 Timeline", View::Timeline),
        // The dot says that sampling is on.
        match c.snap.profiling {
            true => ("5 Poll time ●", View::PollTime),
            false => ("5 Poll time", View::PollTime),
        },
    ];
    let mut x = 0;
    for (name, view) in views {
        let style = match mode.view == view {
            true => c.theme.title().patch(c.theme.selected()),
            false => c.theme.dim(),
        };
        let tab = format!(" {name} ");
        let wide = narrow(text::width(&tab));
        c.at(area, x, 2, Span::styled(tab, style));
        let row = row_of(area, 2);
        let click = Rect {
            x: row.x.saturating_add(x),
            width: wide,
            ..row
        };
        c.hit(click.intersection(row), Hit::View(view));
        x += wide + 1;
    }
    let mut chips = Vec::new();
    if let Some(ns) = mode.min_held_ns {
        let least = text::setting(ns);
        chips.push([format!("polls of {least} and longer"), format!("≥ {least}")]);
    }
    if let Some(n) = mode.workers {
        let workers = text::counted(n, "worker");
        chips.push([format!("{workers} chosen"), workers]);
    }
    let style = c.theme.warn().patch(c.theme.selected());
    let line = |short: usize| {
        let chips = chips.iter().filter_map(|chip| chip.get(short));
        let spans =
            chips.flat_map(|chip| [Span::raw(" "), Span::styled(format!(" {chip} "), style)]);
        Line::from(spans.collect::<Vec<_>>())
    };
    let room = usize::from(area.width.saturating_sub(x));
    let line = match line(0) {
        whole if whole.width() <= room => whole,
        _ => line(1),
    };
    if line.width() + usize::from(x) <= usize::from(area.width) {
        c.right(area, 2, line);
    } else {
        c.at(area, x, 2, line);
    }
}
