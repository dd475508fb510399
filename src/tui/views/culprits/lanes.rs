//! One lane for each worker over the last seconds: what it was doing, with slow polls marked by the
//! letter of their cause.
//!
//! With more workers than rows, each runtime gets a merged lane. Below it come the workers, those
//! with the worst problems first; the rest scrolls.

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::session::{Merge, Slice, WorkerView};
use crate::text;
use crate::tui::widgets::canvas::{Canvas, Hit, narrow};
use crate::tui::widgets::lane;
use crate::tui::widgets::row::RowText;
use crate::tui::widgets::theme::{Lane, Theme};

/// Length of a lane's bins in the session.
const BIN_NS: u64 = 100_000_000;
/// A lane covers at least this many bins, however narrow the screen.
const AT_LEAST_BINS: usize = 100;

/// Rows the section asks for: the heading and up to a third of the screen.
pub fn height(workers: usize, screen: u16) -> u16 {
    let most = match screen {
        ..20 => 4,
        20..30 => 7,
        screen => screen / 3,
    };
    narrow(workers + 1).clamp(2, most)
}

/// Draws the lanes. `scroll`, the number of workers to skip, is kept in bounds.
pub fn draw(c: &mut Canvas, area: Rect, scroll: &mut usize) {
    if area.height < 2 {
        return;
    }
    c.hit(area, Hit::Lanes);
    let snap = c.snap;
    let mut workers = snap.last_workers();
    let several = snap.has_several_runtimes();
    let rows = usize::from(area.height) - 1;
    let crowded = workers.len() > rows;
    let widths = Widths::fit(usize::from(area.width), several);
    let seconds = widths.bins() as u64 * BIN_NS / 1_000_000_000;
    let mut y = 1;
    if crowded {
        workers.sort_by_cached_key(|w| std::cmp::Reverse(severity(w)));
        // Few rows are better spent on single workers.
        let merged = if rows < 6 { 0 } else { rows / 2 };
        y += runtimes(c, area, &workers, &widths, merged);
    }
    let room = rows + 1 - usize::from(y);
    *scroll = (*scroll).min(workers.len().saturating_sub(room));
    let note = match crowded {
        false => format!("last {seconds} s"),
        true => format!(
            "last {seconds} s, worst first, {}-{} of {} (J K scroll)",
            *scroll + 1,
            (*scroll + room).min(workers.len()),
            workers.len()
        ),
    };
    c.heading(area, 0, "Workers", &note);
    legend(c, area, &note);
    for worker in workers.into_iter().skip(*scroll).take(room) {
        let name = text::worker_within(&worker.worker, several, widths.name);
        let bins = worker
            .lane
            .last_until(widths.until(snap.now_ns), widths.bins());
        let stuck = worker.running.is_some();
        let row = line(c.theme, &widths, &name, &bins, &worker.now, stuck);
        c.row(area, y, row);
        y += 1;
    }
}

/// How badly a worker fared over the last seconds, worst largest: stuck, then slow, then busy.
fn severity(worker: &WorkerView) -> (u64, u64, u64) {
    let stuck = worker.running.as_ref().map_or(0, |p| u64::MAX - p.start_ns);
    let slow = worker.lane.iter().map(|bin| bin.slow_ns).sum();
    (stuck, slow, worker.now.busy_ns())
}

/// Draws a merged lane for each runtime, at most `most`. Returns the rows used.
fn runtimes(
    c: &mut Canvas,
    area: Rect,
    workers: &[&WorkerView],
    widths: &Widths,
    most: usize,
) -> u16 {
    let mut ids: Vec<u32> = workers.iter().map(|w| w.worker.runtime).collect();
    ids.sort_unstable();
    ids.dedup();
    let several = ids.len() > 1;
    let mut used = 0;
    for id in ids.into_iter().take(most) {
        let mut bins = vec![Slice::default(); widths.bins()];
        let mut now = Slice::default();
        let mut n = 0usize;
        let mut stuck = 0usize;
        for worker in workers.iter().filter(|w| w.worker.runtime == id) {
            let lane = worker
                .lane
                .last_until(widths.until(c.snap.now_ns), bins.len());
            bins.iter_mut()
                .zip(&lane)
                .for_each(|(sum, bin)| sum.merge(bin));
            now.merge(&worker.now);
            n += 1;
            stuck += usize::from(worker.running.is_some());
        }
        // A merged lane shows load; the letters are for the single lanes below.
        for bin in &mut bins {
            (bin.slow_ns, bin.slowest) = (0, None);
        }
        let name = match (stuck, several) {
            (0, true) if widths.name < ROOMY_NAME => format!("rt {id}: {n}"),
            (_, true) if widths.name < ROOMY_NAME => format!("rt {id} {stuck}/{n}"),
            (0, true) => format!("runtime {id}: {n}"),
            (0, false) => format!("all {n}"),
            (stuck, true) => format!("rt {id}: {stuck}/{n} stuck"),
            (stuck, false) => format!("{stuck}/{n} stuck"),
        };
        let row = line(c.theme, widths, &name, &bins, &now, stuck == n);
        c.row(area, 1 + used, row);
        used += 1;
    }
    used
}

/// From this width on a name is not abbreviated.
const ROOMY_NAME: usize = 16;

/// How the columns of a row are divided.
struct Widths {
    name: usize,
    lane: usize,
    /// Bins per column.
    per_column: usize,
    /// Columns for the percentages.
    numbers: usize,
}

impl Widths {
    fn fit(width: usize, several: bool) -> Widths {
        let numbers = match width {
            ..90 => 10,
            _ => 32,
        };
        let name = match (width, several) {
            (..90, _) => 10,
            (_, false) => 16,
            (_, true) => 22,
        };
        // The session keeps 300 bins.
        let lane = width.saturating_sub(name + numbers + 2).clamp(1, 300);
        Widths {
            name,
            lane,
            per_column: AT_LEAST_BINS.div_ceil(lane),
            numbers,
        }
    }

    fn bins(&self) -> usize {
        self.lane * self.per_column
    }

    /// The end of the column that contains `now_ns`, so that a column has the same bins in every
    /// picture.
    fn until(&self, now_ns: u64) -> u64 {
        let column = self.per_column as u64 * BIN_NS;
        (now_ns / column + 1).saturating_mul(column) - 1
    }
}

fn line(
    theme: Theme,
    widths: &Widths,
    name: &str,
    bins: &[Slice],
    now: &Slice,
    stuck: bool,
) -> Line<'static> {
    let mut line = RowText::default();
    let style = if stuck { theme.alarm() } else { Style::new() };
    line.push(text::left(name, widths.name), style);
    line.push(" ", Style::new());
    // Neighbouring cells of one style share a span: a lane is a few spans instead of 300.
    let mut run: Option<(String, Style)> = None;
    for column in bins.chunks(widths.per_column) {
        let mut slice = Slice::default();
        column.iter().for_each(|bin| slice.merge(bin));
        let (glyph, style) = lane::cell(theme, &slice, column.len() as u64 * BIN_NS);
        match &mut run {
            Some((text, same)) if *same == style => text.push(glyph),
            _ => {
                if let Some((text, style)) = run.replace((glyph.to_string(), style)) {
                    line.push(text, style);
                }
            }
        }
    }
    if let Some((text, style)) = run {
        line.push(text, style);
    }
    line.push(" ", Style::new());
    let percent = |ns: u64| text::percent(text::share(ns, now.known_ns()));
    if widths.numbers < 32 {
        line.push(format!("{:>4} busy", percent(now.busy_ns())), Style::new());
    } else {
        let asleep = match now.asleep_ns {
            0 => (now.blocked_ns, "blocked", Lane::Blocked),
            ns => (ns, "asleep ", Lane::Asleep),
        };
        let parts = [
            (now.on_cpu_ns, "cpu", Lane::OnCpu),
            asleep,
            (now.run_queue_ns, "runq", Lane::RunQueue),
        ];
        for (ns, what, lane) in parts {
            let style = if ns > 0 {
                theme.lane(lane)
            } else {
                theme.dim()
            };
            line.push(format!(" {:>4} {what}", percent(ns)), style);
        }
    }
    line.line()
}

/// Draws what the cells mean at the right end of the heading, if there is room.
fn legend(c: &mut Canvas, area: Rect, note: &str) {
    let theme = c.theme;
    let on_cpu = (" ▃", " on CPU  ", theme.lane(Lane::OnCpu));
    let run_queue = ("░", " run queue  ", theme.lane(Lane::RunQueue));
    let entries = match c.snap.sees_no_polls() {
        true => vec![
            on_cpu,
            run_queue,
            ("~", " asleep: parked or blocked ", theme.lane(Lane::Asleep)),
        ],
        false => vec![
            on_cpu,
            ("▒", " blocked  ", theme.lane(Lane::Blocked)),
            run_queue,
            ("·", " parked  ", theme.lane(Lane::Parked)),
            ("C L F", " slow poll by cause ", theme.strong()),
        ],
    };
    let spans = entries.into_iter().flat_map(|(glyph, meaning, style)| {
        [
            Span::styled(glyph, style),
            Span::styled(meaning, theme.dim()),
        ]
    });
    let legend = Line::from_iter(spans);
    if legend.width() + text::width(note) + 12 <= usize::from(area.width) {
        c.right(area, 0, legend);
    }
}
