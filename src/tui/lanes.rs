//! One lane for each worker over the last seconds: what it was doing, with slow polls standing
//! out by the letter of their cause.
//!
//! With more workers than rows, each runtime gets a merged lane, and below it the workers in most
//! trouble come first; the rest scrolls.

use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use super::canvas::{Canvas, Hit};
use super::text::{self, EIGHTHS, RowText};
use super::theme::{Lane, Theme, cause_letter};
use crate::model::Worker;
use crate::session::{Merge, Slice, WorkerView, display_name};

/// A lane's bins, as the session keeps them.
const BIN_NS: u64 = 100_000_000;
/// A lane goes back at least this far, however narrow the screen.
const AT_LEAST_BINS: usize = 100;

/// Rows the section wants: the heading and up to a third of the screen.
pub fn height(workers: usize, screen: u16) -> u16 {
    let most = match screen {
        ..20 => 4,
        20..30 => 7,
        screen => screen / 3,
    };
    super::canvas::narrow(workers + 1).clamp(2, most)
}

/// Draws the lanes; `scroll` is how many of the workers to skip, and is kept in bounds.
pub fn draw(c: &mut Canvas, area: Rect, scroll: &mut usize) {
    if area.height < 2 {
        return;
    }
    c.hit(area, Hit::Lanes);
    let snap = c.snap;
    let mut workers = snap.last_workers();
    let several = snap.workers.iter().any(|w| w.worker.runtime != 0);
    let rows = usize::from(area.height) - 1;
    let crowded = workers.len() > rows;
    let widths = Widths::fit(usize::from(area.width), several);
    let seconds = widths.bins() as u64 * BIN_NS / 1_000_000_000;
    let mut y = 1;
    if crowded {
        workers.sort_by_cached_key(|w| std::cmp::Reverse(trouble(w)));
        // Few rows are better spent on the workers in trouble.
        let merged = if rows < 6 { 0 } else { rows / 2 };
        y += runtimes(c, area, &workers, &widths, merged);
    }
    let room = rows + 1 - usize::from(y);
    *scroll = (*scroll).min(workers.len().saturating_sub(room));
    let note = match crowded {
        false => format!("last {seconds} s"),
        true => format!(
            "last {seconds} s, most trouble first, {}-{} of {} (J K scroll)",
            *scroll + 1,
            (*scroll + room).min(workers.len()),
            workers.len()
        ),
    };
    c.heading(area, 0, "Workers", &note);
    legend(c, area, &note);
    for worker in workers.into_iter().skip(*scroll).take(room) {
        let name = name(&worker.worker, several, widths.name);
        let bins = worker
            .lane
            .last_until(widths.until(snap.now_ns), widths.bins());
        let stuck = worker.running.is_some();
        let row = line(c.theme, &widths, &name, &bins, &worker.now, stuck);
        c.row(area, y, row);
        y += 1;
    }
}

/// A worker's name, in short words where the long ones do not fit: `rt 0 w 12`.
pub fn name(worker: &Worker, several: bool, columns: usize) -> String {
    let long = display_name(worker, several);
    match (worker.index, several) {
        _ if text::width(&long) <= columns => long,
        (Some(index), true) => format!("rt {} w {index}", worker.runtime),
        (Some(index), false) => format!("w {index}"),
        (None, _) => format!("thread {}", worker.tid),
    }
}

/// What a worker suffered lately, worst largest: stuck, slow, busy.
fn trouble(worker: &WorkerView) -> (u64, u64, u64) {
    let stuck = worker.running.as_ref().map_or(0, |p| u64::MAX - p.start_ns);
    let slow = worker.lane.iter().map(|bin| bin.slow_ns).sum();
    (stuck, slow, worker.now.busy_ns())
}

/// A merged lane for each runtime, at most so many; gives the rows used.
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
        // An average lane shows load; the letters are for the single ones below.
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

/// From here on a name need not be abbreviated.
const ROOMY_NAME: usize = 16;

/// How a row's columns are divided.
struct Widths {
    name: usize,
    lane: usize,
    /// Bins to a column.
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

    /// The end of the column that holds `now_ns`: columns hold the same bins in every picture.
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
    // Equal cells in one span: a lane is a few spans, not three hundred.
    let mut run: Option<(String, Style)> = None;
    for column in bins.chunks(widths.per_column) {
        let mut slice = Slice::default();
        column.iter().for_each(|bin| slice.merge(bin));
        let (glyph, style) = cell(theme, &slice, column.len() as u64 * BIN_NS);
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
    let share = |ns: u64| text::percent(text::part(ns, now.known_ns()));
    if widths.numbers < 32 {
        line.push(format!("{:>4} busy", share(now.busy_ns())), Style::new());
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
            line.push(format!(" {:>4} {what}", share(ns)), style);
        }
    }
    line.line()
}

/// One cell: a letter in a slow poll, else the height of the CPU time, or a shade for waiting.
pub fn cell(theme: Theme, slice: &Slice, width_ns: u64) -> (char, Style) {
    if let Some((cause, ns)) = slice.slowest {
        let style = theme.cause(cause).add_modifier(Modifier::BOLD);
        let style = match cause.blames_code() && ns >= width_ns / 2 {
            true => style.add_modifier(Modifier::REVERSED),
            false => style,
        };
        return (cause_letter(cause), style);
    }
    let known = slice.known_ns();
    let most = slice
        .on_cpu_ns
        .max(slice.blocked_ns)
        .max(slice.run_queue_ns);
    let share = text::part(most, known);
    if known == 0 {
        (' ', Style::new())
    } else if share < 0.01 {
        match slice.parked_ns >= slice.asleep_ns {
            true => ('·', theme.lane(Lane::Parked)),
            false => ('~', theme.lane(Lane::Asleep)),
        }
    } else if most == slice.on_cpu_ns {
        let height = (share * 8.0).ceil() as usize;
        (EIGHTHS[height.min(8)], theme.lane(Lane::OnCpu))
    } else if most == slice.blocked_ns {
        ('▒', theme.lane(Lane::Blocked))
    } else {
        ('░', theme.lane(Lane::RunQueue))
    }
}

/// What the cells mean, at the right of the heading where there is room.
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
