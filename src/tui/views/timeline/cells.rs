//! A worker's time divided into the columns of the timeline, at any zoom.

use std::sync::Arc;

use ratatui::layout::Rect;
use ratatui::text::Span;

use crate::model::SlowPoll;
use crate::session::{Bins, Merge, Slice, Snapshot};
use crate::tui::widgets::canvas::Canvas;
use crate::tui::widgets::lane;

/// The part of `from..to` that one of `width` columns covers.
pub fn columns_of(from: u64, to: u64, width: u16, column: u16) -> (u64, u64) {
    let span = u128::from(to.saturating_sub(from));
    let edge = |column: u16| from + (span * u128::from(column) / u128::from(width.max(1))) as u64;
    let start = edge(column);
    (start, edge(column.saturating_add(1)).max(start + 1))
}

/// What a worker did in each column. Where columns are coarser than the session's bins, bins are
/// added up. Where they are finer, a column gets its share of a bin, and slow polls come from the
/// polls themselves.
pub fn slices<'p>(
    bins: &Bins<Slice>,
    polls: impl Iterator<Item = &'p Arc<SlowPoll>>,
    (from, to): (u64, u64),
    width: u16,
    snap: &Snapshot,
) -> Vec<Slice> {
    let mut out = vec![Slice::default(); usize::from(width)];
    let span = to.saturating_sub(from).max(1);
    let coarse = span / u64::from(width.max(1)) >= bins.width_ns;
    let first_column = |at: u64| {
        let before = u128::from(at.saturating_sub(from)) * u128::from(width) / u128::from(span);
        u16::try_from(before).unwrap_or(u16::MAX)
    };
    let mut spread = |start: u64, end: u64, add: &mut dyn FnMut(&mut Slice, u64)| {
        let (start, end) = (start.max(from), end.min(to));
        let mut column = first_column(start);
        while start < end && column < width {
            let (left, right) = columns_of(from, to, width, column);
            if left >= end {
                break;
            }
            let inside = right.min(end).saturating_sub(left.max(start));
            if let Some(slice) = out.get_mut(usize::from(column)).filter(|_| inside > 0) {
                add(slice, inside);
            }
            column += 1;
        }
    };
    for (i, bin) in bins.iter().enumerate() {
        let start = bins.start_ns().saturating_add(i as u64 * bins.width_ns);
        let end = start.saturating_add(bins.width_ns);
        spread(start, end, &mut |slice, inside| {
            slice.merge(&part(bin, inside, bins.width_ns, coarse));
        });
    }
    if !coarse {
        for poll in polls {
            let end = match (poll.running, snap.ended) {
                (true, None) => snap.now_ns.max(poll.end_ns),
                _ => poll.end_ns,
            };
            spread(poll.start_ns, end, &mut |slice, inside| {
                slice.add_slow(poll.cause, inside);
            });
        }
    }
    out
}

/// The share of a bin that falls to `ns` out of its `width_ns`.
fn part(bin: &Slice, ns: u64, width_ns: u64, with_slow: bool) -> Slice {
    let part = |all: u64| (u128::from(all) * u128::from(ns) / u128::from(width_ns.max(1))) as u64;
    Slice {
        on_cpu_ns: part(bin.on_cpu_ns),
        run_queue_ns: part(bin.run_queue_ns),
        blocked_ns: part(bin.blocked_ns),
        parked_ns: part(bin.parked_ns),
        asleep_ns: part(bin.asleep_ns),
        slow_ns: if with_slow { part(bin.slow_ns) } else { 0 },
        slowest: bin
            .slowest
            .filter(|_| with_slow)
            .map(|(cause, all)| (cause, part(all))),
    }
}

/// Draws the columns into a row.
pub fn draw(c: &mut Canvas, area: Rect, row: u16, slices: &[Slice], column_ns: u64) {
    for (x, slice) in (0..area.width).zip(slices) {
        let (glyph, style) = lane::cell(c.theme, slice, column_ns);
        if glyph != ' ' {
            c.at(area, x, row, Span::styled(glyph.to_string(), style));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Cause;
    use crate::session::testing::{self as t, MS, START_NS};
    use crate::session::{Query, Session, SessionOptions};

    #[test]
    fn time_adds_up_at_every_zoom() {
        let mut session = Session::new(SessionOptions::default());
        t::session().iter().for_each(|record| session.apply(record));
        let snap = session.snapshot(&Query {
            span: Some((0, u64::MAX)),
            ..Query::default()
        });
        let worker = &snap.workers[0];
        let known = worker.timeline.iter().map(Slice::known_ns).sum::<u64>();
        let polls = || snap.in_span.iter().filter(|p| p.tid == worker.worker.tid);
        let held: u64 = polls().map(|p| p.held_ns()).sum();
        for width in [7, 100, 300] {
            let whole = (START_NS, START_NS + 10_000 * MS);
            let columns = slices(&worker.timeline, polls(), whole, width, &snap);
            let sum = columns.iter().map(Slice::known_ns).sum::<u64>();
            // Each share is rounded down to a nanosecond.
            assert!(known.abs_diff(sum) < 10_000, "{width}: {known} {sum}");
            let slow = columns.iter().map(|s| s.slow_ns).sum::<u64>();
            assert!(held.abs_diff(slow) < 10_000, "{width}: {held} {slow}");
        }
        // Zoomed in, a slow poll covers exactly its columns.
        let near = (START_NS + 90 * MS, START_NS + 190 * MS);
        let columns = slices(&worker.timeline, polls(), near, 100, &snap);
        let slow: Vec<usize> = (0..100).filter(|i| columns[*i].slow_ns > 0).collect();
        assert_eq!(slow, (10..70).collect::<Vec<_>>());
        assert_eq!(columns[10].slowest, Some((Cause::Cpu, MS)));
    }
}
