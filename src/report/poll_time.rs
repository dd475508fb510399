//! The section on all poll time: where the workers' CPU time in polls went, slow polls or not.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use super::style::{BOLD, DIM, cause_color, heading, paint};
use super::table::{Align, Cell, Table};
use super::{Layout, Stacks, stacks};
use crate::session::{ProfileView, Snapshot, SpotRow};
use crate::text::{self, counted, duration};

/// Rows shown; the others are added up in a line.
const ROWS: usize = 10;
/// Columns of the numbers, with the gaps around them.
const NUMBERS: usize = 46;
/// Lines of a stack.
const FRAMES: usize = 8;
/// Rows whose heaviest stack is shown.
const STACKS: usize = 3;

/// Writes the section if sampling was ever on.
pub fn write(out: &mut String, snap: &Snapshot, layout: &Layout) -> fmt::Result {
    let Some(profile) = snap.profile.as_deref() else {
        return Ok(());
    };
    if snap.profiled_ns == 0 && profile.spots.is_empty() {
        return Ok(());
    }
    let sampled = duration(snap.profiled_ns);
    heading(out, "All poll time: CPU time in polls, slow or not")?;
    if profile.spots.is_empty() {
        return writeln!(
            out,
            "Sampled for {sampled}, and no sample fell into a poll."
        );
    }
    writeln!(
        out,
        "{} in {sampled} ({} of one CPU), estimated from samples. These are not slow polls.\n",
        duration(profile.cpu_ns),
        text::percent_of(profile.cpu_ns, snap.profiled_ns)
    )?;
    let shown = profile.spots.get(..ROWS).unwrap_or(&profile.spots);
    out.write_str(&spots(profile, shown, layout))?;
    let hidden = profile.spots.get(ROWS..).unwrap_or_default();
    if !hidden.is_empty() {
        let cpu = hidden.iter().map(|row| row.cpu_ns).sum();
        let rows = counted(hidden.len(), "more row");
        writeln!(out, "and {rows}: {}", duration(cpu))?;
    }
    heaviest_stacks(out, profile, layout.stacks)
}

/// Code by CPU time in polls, a row each.
fn spots(profile: &ProfileView, rows: &[Arc<SpotRow>], layout: &Layout) -> String {
    use Align::{Left, Right};
    let mut table = Table::new(vec![
        ("code", Left),
        ("cause", Left),
        ("CPU time", Right),
        ("share", Right),
        ("workers", Right),
        ("location", Left),
    ]);
    let (name, location) = match rows.iter().any(|row| row.location.is_some()) {
        true => layout.divide(NUMBERS),
        false => (
            layout
                .width
                .map_or(200, |w| usize::from(w).saturating_sub(NUMBERS)),
            0,
        ),
    };
    for row in rows {
        let code = text::fit_call_plain(&row.key.0, row.key.1.as_deref(), name);
        let at = row.location.as_ref().map(text::location);
        table.row(vec![
            Cell::styled(code, BOLD),
            Cell::styled(row.cause.as_str(), cause_color(row.cause).on_default()),
            duration(row.cpu_ns).into(),
            text::percent(profile.share(row)).into(),
            row.workers.to_string().into(),
            text::path(&at.unwrap_or_default(), location).into(),
        ]);
    }
    table.render()
}

fn heaviest_stacks(out: &mut String, profile: &ProfileView, which: Stacks) -> fmt::Result {
    for (i, row) in profile.spots.iter().take(STACKS).enumerate() {
        let name = paint(BOLD, text::path(&row.name(), 160));
        for stack in row.tree.heaviest_stacks(1) {
            let (of, all) = (duration(stack.weight_ns), duration(row.cpu_ns));
            writeln!(out, "\n{}. {name}: {of} of {all} ({})", i + 1, stack.cause)?;
            stacks::write(out, &stack, &row.key.0, which, FRAMES)?;
        }
    }
    let cut = profile.tree.cut_ns();
    if cut > 0 {
        let text = format!(
            "(deeper frames of {} were left out: too many stacks)",
            duration(cut)
        );
        writeln!(out, "{}", paint(DIM, text))?;
    }
    Ok(())
}
