//! The tables of the summary: culprits, and workers.

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table, Width,
};

use super::Layout;
use super::format::{cause_color, count, duration, part, percent, shorten_location, shorten_name};
use crate::model::Cause;
use crate::session::{Snapshot, WorkerView};

/// Culprits shown; the rest is added up in a line below.
pub const ROWS: usize = 30;
/// Workers shown, those with most slow polls first where there are more.
pub const WORKERS: usize = 32;

fn empty(layout: Layout, headings: &[(&str, CellAlignment)]) -> Table {
    let mut table = Table::new();
    let mut style = comfy_table::presets::NOTHING;
    style.header_separator = comfy_table::LineStyle::none().fill('-').junction('-');
    table.load_style(style);
    // Escapes always: printing takes them out where they are not wanted.
    table.enforce_styling();
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
    }
    table
}

/// The culprits, a row each.
pub fn culprits(snapshot: &Snapshot, layout: Layout) -> String {
    use CellAlignment::{Left, Right};
    let headings = [
        ("culprit", Left),
        ("cause", Left),
        ("polls", Right),
        ("total", Right),
        ("max", Right),
        ("p50", Right),
        ("p99", Right),
        ("share", Right),
        ("location", Left),
    ];
    let mut table = empty(layout, &headings);
    // What a terminal leaves for a name beside the numbers.
    let room = layout
        .width
        .map_or(100, |width| usize::from(width).saturating_sub(88).max(28));
    for row in snapshot.rows.iter().take(ROWS) {
        let mut name = shorten_name(&row.label, room);
        if let Some(calls) = &row.calls {
            let separator = if layout.width.is_some() { "\n  " } else { " " };
            name += &format!(
                "{separator}-> {}",
                shorten_name(calls, room.saturating_sub(5))
            );
        }
        let location = row
            .location
            .as_ref()
            .map(shorten_location)
            .unwrap_or_default();
        table.add_row([
            Cell::new_owned(name).add_attribute(Attribute::Bold),
            Cell::new(row.cause).fg(color(row.cause)),
            Cell::new(row.polls),
            Cell::new(duration(row.total_ns)),
            Cell::new(duration(row.max_ns)),
            Cell::new(duration(row.p50_ns)),
            Cell::new(duration(row.p99_ns)),
            Cell::new(percent(snapshot.share(row))),
            Cell::new(location),
        ]);
    }
    // Numbers and causes never break; names and locations give way.
    for (i, column) in table.column_iter_mut().enumerate() {
        if (1..8).contains(&i) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        } else if i == 0 && layout.width.is_some() {
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(24)));
        }
    }
    finish(&table)
}

/// One runtime's workers.
pub fn workers(views: &[&WorkerView], layout: Layout) -> String {
    use CellAlignment::{Left, Right};
    let headings = [
        ("worker", Left),
        ("on CPU", Right),
        ("run queue", Right),
        ("blocked", Right),
        ("parked", Right),
        ("slow polls", Right),
        ("held", Right),
        ("longest poll", Right),
    ];
    let mut table = empty(layout, &headings);
    for view in views {
        let usage = &view.usage;
        let known = usage
            .on_cpu_ns
            .saturating_add(usage.run_queue_ns)
            .saturating_add(usage.blocked_ns)
            .saturating_add(usage.parked_ns);
        let mut name = crate::session::display_name(&view.worker, false);
        if view.gone_ns.is_some() {
            name += " (ended)";
        }
        table.add_row([
            name,
            part(usage.on_cpu_ns, known),
            part(usage.run_queue_ns, known),
            part(usage.blocked_ns, known),
            part(usage.parked_ns, known),
            view.slow.polls.to_string(),
            duration(view.slow.held_ns),
            duration(usage.longest_poll_ns.max(view.slow.max_ns)),
        ]);
    }
    finish(&table)
}

/// The workers to show of one runtime, and how many more there are.
pub fn select_workers(mut views: Vec<&WorkerView>) -> (Vec<&WorkerView>, Option<String>) {
    let more = views.len().saturating_sub(WORKERS);
    if more == 0 {
        return (views, None);
    }
    views.sort_by_key(|v| std::cmp::Reverse((v.slow.held_ns, v.usage.on_cpu_ns)));
    let rest = views.split_off(WORKERS);
    let slow = rest.iter().map(|v| v.slow.polls).sum();
    let text = format!(
        "and {}, with {}",
        count(more as u64, "more worker"),
        count(slow, "slow poll")
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

/// Lines without the spaces that pad them.
fn finish(table: &Table) -> String {
    let lines = table.lines().map(|line| format!("{}\n", line.trim_end()));
    lines.collect()
}
