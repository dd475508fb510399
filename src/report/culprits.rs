//! The section on culprits: the table, and the stacks of the first ones.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use super::style::cause_color;
use super::style::{ALARM, BOLD, DIM, heading, paint};
use super::table::{Align, Cell, Table};
use super::{Layout, Stacks, findings, stacks};
use crate::model::WeightedStack;
use crate::session::{Detail, Row, Snapshot, Tally};
use crate::text::{self, counted, duration};

/// Culprits whose stacks are shown, unless all are asked for.
pub const STACKS: usize = 3;
/// Columns of the numbers and the longest cause, with the gaps around them.
const NUMBERS: usize = 60;
/// Lines of a stack, at least and at most.
const FRAMES_LEAST: usize = 5;
const FRAMES_MOST: usize = 15;
/// How many threads that ended a culprit's waits are named, unless all stacks are asked for.
const RELEASERS: usize = 1;

/// Writes the table, unless nothing was slow.
pub fn write_table(out: &mut String, snap: &Snapshot, layout: &Layout) -> fmt::Result {
    if !snap.rows.is_empty() {
        out.push('\n');
        out.write_str(&table(snap, &snap.rows, layout))?;
    }
    let hidden = snap.rows.get(layout.culprits()..).unwrap_or_default();
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
    if snap.roots.polls > 0 {
        let text = format!(
            "Root futures (block_on) were held for {} in {}, the longest {}: whatever is joined in \
             them waited",
            duration(snap.roots.held_ns),
            counted(snap.roots.polls, "period"),
            duration(snap.roots.max_ns)
        );
        writeln!(out, "\n{}\n", paint(ALARM, text))?;
        out.write_str(&table(snap, &snap.root_rows, layout))?;
    }
    Ok(())
}

/// Writes the stacks, unless nothing was slow: within `lines` lines, or all of them.
pub fn write_stacks(out: &mut String, snap: &Snapshot, which: Stacks, lines: usize) -> fmt::Result {
    if snap.details.is_empty() {
        return Ok(());
    }
    let mut entries = String::new();
    let mut shown = 0;
    // The section has a heading and a last line.
    let mut room = lines.saturating_sub(3);
    for (i, detail) in snap.details.iter().enumerate() {
        let entry = |frames: usize| {
            let mut entry = String::new();
            culprit_stacks(&mut entry, i + 1, detail, which, frames).map(|()| entry)
        };
        let mut text = entry(FRAMES_MOST)?;
        if which == Stacks::Top {
            let over = text.lines().count().saturating_sub(room);
            if over > 0 && i > 0 && over > FRAMES_MOST - FRAMES_LEAST {
                break;
            }
            if over > 0 {
                text = entry(FRAMES_MOST.saturating_sub(over).max(FRAMES_LEAST))?;
            }
            if i > 0 && text.lines().count() > room {
                break;
            }
            room = room.saturating_sub(text.lines().count());
        }
        entries.push_str(&text);
        shown += 1;
    }
    let more = match shown < snap.rows.len() + snap.root_rows.len() {
        true => "; --stacks all prints the others",
        false => "",
    };
    heading(
        out,
        &format!("Heaviest stacks (innermost frame first{more})"),
    )?;
    out.push_str(&entries);
    no_debug_info(out, snap)
}

/// The culprits, a row each. P50 and P99 are shown only where they differ from the longest.
fn table(snap: &Snapshot, rows: &[Arc<Row>], layout: &Layout) -> String {
    use Align::{Left, Right};
    let rows = rows.get(..layout.culprits()).unwrap_or(rows);
    let narrow = layout.is_narrow();
    let differs = |row: &Row| duration(row.p99_ns) != duration(row.max_ns);
    let with_quantiles = !narrow && rows.iter().any(|row| differs(row));
    let mut columns = vec![
        ("cause", Left),
        ("polls", Right),
        ("own", Right),
        ("total", Right),
        ("max", Right),
    ];
    if with_quantiles {
        columns.extend([("p50", Right), ("p99", Right)]);
    }
    columns.push(("share", Right));
    if !narrow {
        columns.insert(0, ("culprit", Left));
        columns.push(("location", Left));
    }
    let mut table = Table::new(columns);
    let numbers = if with_quantiles {
        NUMBERS + 18
    } else {
        NUMBERS
    };
    let (name, location) = layout.divide(numbers);
    for row in rows {
        let cause = cause_color(row.cause).on_default();
        let mut cells = vec![
            Cell::styled(row.cause.as_str(), cause),
            text::count(row.polls).into(),
            duration(row.own_ns).into(),
            duration(row.total_ns).into(),
            duration(row.max_ns).into(),
        ];
        if with_quantiles {
            cells.extend([duration(row.p50_ns).into(), duration(row.p99_ns).into()]);
        }
        cells.push(text::percent(snap.share(row)).into());
        let at = row.location.as_ref().map(text::location);
        let at = at.unwrap_or_default();
        if narrow {
            let width = layout.width.map_or(0, usize::from);
            let name = text::fit_call_plain(&row.label, row.calls.as_deref(), width);
            let room = width.saturating_sub(text::width(&name) + 2);
            let at = text::path(&at, room);
            let mut line = paint(BOLD, name);
            if !at.is_empty() {
                line += &format!("  {}", paint(DIM, at));
            }
            table.row_under(line, cells);
        } else {
            let name = text::fit_call_plain(&row.label, row.calls.as_deref(), name);
            cells.insert(0, Cell::styled(name, BOLD));
            cells.push(text::path(&at, location).into());
            table.row(cells);
        }
    }
    table.render()
}

fn culprit_stacks(
    out: &mut String,
    number: usize,
    detail: &Detail,
    which: Stacks,
    frames: usize,
) -> fmt::Result {
    let row = &detail.row;
    let name = text::call(&row.label, row.calls.as_deref());
    let name = paint(BOLD, text::path(&name, 160));
    if detail.stacks.is_empty() {
        return writeln!(out, "{number}. {name}: no stack was captured");
    }
    let stacks: Vec<&WeightedStack> = match which {
        Stacks::Top => detail.chief_stack().into_iter().collect(),
        Stacks::All => detail.stacks.iter().collect(),
    };
    for (i, stack) in stacks.into_iter().enumerate() {
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
        stacks::write(out, stack, &row.label, which, frames)?;
    }
    if !row.chain.is_empty() {
        let chain: Vec<String> = row.chain.iter().map(|name| text::path(name, 60)).collect();
        let text = format!("   called by {}", chain.join(" <- "));
        writeln!(out, "{}", paint(DIM, text))?;
    }
    let releasers = match which {
        Stacks::Top => RELEASERS,
        Stacks::All => detail.released_by.len(),
    };
    for releaser in detail.released_by.iter().take(releasers) {
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

/// Says once for each module that its frames have no source positions.
fn no_debug_info(out: &mut String, snap: &Snapshot) -> fmt::Result {
    let stacks = snap
        .details
        .iter()
        .filter_map(|detail| detail.stacks.first());
    let frames = stacks.flat_map(|stack| &stack.frames);
    let without = text::modules_without_lines(frames.map(|frame| &**frame));
    match without.as_slice() {
        [] => Ok(()),
        modules => {
            let text = format!("No debug info, so no line numbers: {}", modules.join(", "));
            writeln!(out, "{}", paint(DIM, text))
        }
    }
}
