//! The tables of the summary: culprits, code by CPU time, workers.

use std::sync::Arc;

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table,
};

use super::Layout;
use super::style::cause_color;
use crate::model::Cause;
use crate::session::{ProfileView, Row, Snapshot, SpotRow, WorkerView};
use crate::text::{self, count, counted, duration, percent, percent_of};

/// Culprits shown; the others are added up in a line below.
pub const ROWS: usize = 30;
/// Workers shown; if there are more, those with most slow polls.
pub const WORKERS: usize = 32;

/// In fewer columns, locations stand below the names.
const NARROW: u16 = 110;
/// Columns of the numbers and the longest cause.
const NUMBERS: usize = 64;
/// Columns of the numbers in the table of code.
const SPOT_NUMBERS: usize = 44;

fn empty(layout: Layout, headings: &[(&str, CellAlignment)]) -> Table {
    let mut table = Table::new();
    let mut style = comfy_table::presets::NOTHING;
    style.header_separator = comfy_table::LineStyle::none().fill('-').junction('-');
    table.load_style(style);
    // Always with escape sequences: printing removes them if the output takes none.
    table.enforce_styling();
    table.style_text_only();
    match layout.width {
        Some(width) => {
            table.set_width(width);
            table.set_content_arrangement(ContentArrangement::Dynamic);
        }
        None => {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
    }
    let cell = |(text, alignment): &(&str, CellAlignment)| {
        Cell::new(text)
            .set_alignment(*alignment)
            .add_attribute(Attribute::Bold)
    };
    table.set_header(headings.iter().map(cell));
    for (column, (_, alignment)) in table.column_iter_mut().zip(headings) {
        column.set_cell_alignment(*alignment);
        column.set_padding((0, 1));
    }
    table
}

/// The culprits of one kind, a row each.
pub fn culprits(snapshot: &Snapshot, rows: &[Arc<Row>], layout: Layout) -> String {
    use CellAlignment::{Left, Right};
    let narrow = layout.width.is_some_and(|width| width < NARROW);
    let mut headings = vec![
        ("culprit", Left),
        ("cause", Left),
        ("polls", Right),
        ("total", Right),
        ("max", Right),
        ("p50", Right),
        ("p99", Right),
        ("share", Right),
    ];
    if !narrow {
        headings.push(("location", Left));
    }
    let mut table = empty(layout, &headings);
    let room = match layout.width {
        None => 200,
        Some(width) if narrow => usize::from(width).saturating_sub(NUMBERS).max(16),
        Some(width) => usize::from(width).saturating_sub(NUMBERS) * 11 / 20,
    };
    for row in rows.iter().take(ROWS) {
        let location = row
            .location
            .as_ref()
            .map(text::location)
            .unwrap_or_default();
        let mut lines = vec![row.label.to_string()];
        lines.extend(row.calls.iter().map(|calls| format!("-> {calls}")));
        if narrow && !location.is_empty() {
            lines.push(location.clone());
        }
        let name = match layout.width {
            None => text::path(&lines.join(" "), room),
            Some(_) if narrow => fit(&lines, |line| {
                text::break_name(&text::path(line, 3 * room), room).join("\n")
            }),
            Some(_) => fit(&lines, |line| text::path(line, room)),
        };
        let mut cells = vec![
            Cell::new_owned(name).add_attribute(Attribute::Bold),
            Cell::new(row.cause).fg(color(row.cause)),
            Cell::new(count(row.polls)),
            Cell::new(duration(row.total_ns)),
            Cell::new(duration(row.max_ns)),
            Cell::new(duration(row.p50_ns)),
            Cell::new(duration(row.p99_ns)),
            Cell::new(percent(snapshot.share(row))),
        ];
        if !narrow {
            cells.push(Cell::new_owned(location));
        }
        table.add_row(cells);
    }
    // Names and numbers are never broken; locations are.
    for column in table.column_iter_mut().take(8) {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
    finish(&table)
}

/// Code by CPU time in polls, a row each.
pub fn spots(profile: &ProfileView, rows: &[Arc<SpotRow>], layout: Layout) -> String {
    use CellAlignment::{Left, Right};
    let headings = [
        ("code", Left),
        ("cause", Left),
        ("CPU time", Right),
        ("share", Right),
        ("workers", Right),
        ("location", Left),
    ];
    let mut table = empty(layout, &headings);
    let room = match layout.width {
        None => 200,
        Some(width) => (usize::from(width).saturating_sub(SPOT_NUMBERS) * 3 / 5).max(16),
    };
    for row in rows {
        let location = row.location.as_ref().map(text::location);
        table.add_row([
            Cell::new_owned(text::path(&row.name(), room)).add_attribute(Attribute::Bold),
            Cell::new(row.cause).fg(color(row.cause)),
            Cell::new(duration(row.cpu_ns)),
            Cell::new(percent(profile.share(row))),
            Cell::new(row.workers),
            Cell::new_owned(location.unwrap_or_default()),
        ]);
    }
    // Names and numbers are never broken; locations are.
    for column in table.column_iter_mut().take(5) {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
    finish(&table)
}

fn fit(lines: &[String], each: impl Fn(&str) -> String) -> String {
    let lines: Vec<String> = lines.iter().map(|line| each(line)).collect();
    lines.join("\n")
}

/// One runtime's workers.
pub fn workers(views: &[&WorkerView], layout: Layout) -> String {
    use CellAlignment::{Left, Right};
    // Tier 5 cannot tell parked from blocked, and knows nothing of polls.
    let in_tier_5 = |view: &&&WorkerView| view.usage.asleep_ns > 0;
    let in_polls = |view: &&&WorkerView| view.usage.blocked_ns + view.usage.parked_ns > 0;
    let has_asleep = views.iter().any(|view| in_tier_5(&view));
    let has_polls = !has_asleep || views.iter().any(|view| in_polls(&view));
    let mut headings = vec![("worker", Left), ("on CPU", Right), ("run queue", Right)];
    if has_polls {
        headings.extend([("blocked", Right), ("parked", Right)]);
    }
    if has_asleep {
        headings.push(("asleep", Right));
    }
    if has_polls {
        headings.extend([
            ("slow polls", Right),
            ("held", Right),
            ("longest poll", Right),
        ]);
    }
    let mut table = empty(layout, &headings);
    for view in views {
        let usage = &view.usage;
        let known = usage.known_ns();
        let mut name = text::worker(&view.worker, false);
        if view.gone_ns.is_some() {
            name += " (ended)";
        }
        let of_known = |ns| percent_of(ns, known);
        let mut cells = vec![name];
        cells.extend([usage.on_cpu_ns, usage.run_queue_ns].map(of_known));
        if has_polls {
            cells.extend([usage.blocked_ns, usage.parked_ns].map(of_known));
        }
        if has_asleep {
            cells.push(of_known(usage.asleep_ns));
        }
        if has_polls {
            cells.extend([
                count(view.slow.polls),
                duration(view.slow.held_ns),
                duration(usage.longest_poll_ns.max(view.slow.max_ns)),
            ]);
        }
        table.add_row(cells);
    }
    finish(&table)
}

/// The workers of one runtime that are shown, and a line about the others.
pub fn select_workers(mut views: Vec<&WorkerView>) -> (Vec<&WorkerView>, Option<String>) {
    let more = views.len().saturating_sub(WORKERS);
    if more == 0 {
        return (views, None);
    }
    views.sort_by_key(|v| std::cmp::Reverse((v.slow.held_ns, v.usage.on_cpu_ns)));
    let rest = views.split_off(WORKERS);
    let slow: u64 = rest.iter().map(|v| v.slow.polls).sum();
    let text = format!(
        "and {}, with {}",
        counted(more, "more worker"),
        counted(slow, "slow poll")
    );
    (views, Some(text))
}

fn color(cause: Cause) -> Color {
    use anstyle::AnsiColor;
    match cause_color(cause) {
        AnsiColor::Red => Color::DarkRed,
        AnsiColor::Magenta => Color::DarkMagenta,
        AnsiColor::Yellow => Color::DarkYellow,
        AnsiColor::Cyan => Color::DarkCyan,
        AnsiColor::Blue => Color::DarkBlue,
        _ => Color::DarkGrey,
    }
}

/// The lines of a table without trailing spaces.
fn finish(table: &Table) -> String {
    let lines = table.lines().map(|line| format!("{}\n", line.trim_end()));
    lines.collect()
}
