//! The headless report: findings as they arrive, one line each, and a summary at the end.
//!
//! The summary depends on a [`Snapshot`](crate::session::Snapshot) alone, not on the clock or the
//! live process, so that a replay prints what its recording printed. Texts carry colours; [`print()`]
//! removes them if the output is no terminal or NO_COLOR is set.

mod census;
mod findings;
mod poll_time;
mod stacks;
mod style;
mod summary;
mod table;

use std::io::{self, Write};

use crate::session::Query;

pub use self::census::census;
pub use self::findings::{Findings, finding_line};
pub use self::summary::summary;

/// How the summary is laid out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Layout {
    /// Columns of the terminal; None where lines may have any length, as in a pipe.
    pub width: Option<u16>,
}

impl Layout {
    /// For standard output as it is.
    pub fn of_stdout() -> Layout {
        // comfy-table asks the terminal, and returns None in a pipe.
        Layout {
            // A serial console reports 0 columns.
            width: comfy_table::Table::new().width().filter(|width| *width > 0),
        }
    }
}

/// The query whose snapshot has all that the summary needs.
pub fn query() -> Query {
    Query {
        details: summary::STACKS,
        profile: true,
        ..Query::default()
    }
}

/// Writes a text to standard output, in colour if the output takes it.
///
/// # Errors
/// When standard output is a closed pipe (`ErrorKind::BrokenPipe`) or a file on a full disk.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes a line about hud itself to standard error. Errors are ignored: there is nowhere to report
/// them.
pub fn warn(what: impl std::fmt::Display) {
    let _ = writeln!(anstream::stderr(), "hud: {what}");
}
