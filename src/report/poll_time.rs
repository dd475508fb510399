//! The section on all poll time: where the workers' CPU time in polls went, slow polls or not.

use std::fmt::{self, Write as _};

use super::style::{BOLD, DIM, heading, paint};
use super::{Layout, stacks, table};
use crate::session::{ProfileView, Snapshot};
use crate::text::{self, counted, duration};

/// Rows shown; the others are added up in a line.
const ROWS: usize = 20;
/// Rows whose heaviest stack is shown.
const STACKS: usize = 3;

/// Writes the section if sampling was ever on.
pub fn write(out: &mut String, snap: &Snapshot, layout: Layout) -> fmt::Result {
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
    out.write_str(&table::spots(profile, shown, layout))?;
    let hidden = profile.spots.get(ROWS..).unwrap_or_default();
    if !hidden.is_empty() {
        let cpu = hidden.iter().map(|row| row.cpu_ns).sum();
        let rows = counted(hidden.len(), "more row");
        writeln!(out, "and {rows}: {}", duration(cpu))?;
    }
    heaviest_stacks(out, profile)
}

fn heaviest_stacks(out: &mut String, profile: &ProfileView) -> fmt::Result {
    for (i, row) in profile.spots.iter().take(STACKS).enumerate() {
        let name = paint(BOLD, text::path(&row.name(), 160));
        for stack in row.tree.heaviest_stacks(1) {
            let (of, all) = (duration(stack.weight_ns), duration(row.cpu_ns));
            writeln!(out, "\n{}. {name}: {of} of {all} ({})", i + 1, stack.cause)?;
            stacks::write(out, &stack)?;
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
