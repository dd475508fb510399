//! The headless report: findings as they come, one line each, and a summary at the end.
//!
//! The summary is drawn from a [`Snapshot`](crate::session::Snapshot) alone, neither from the clock nor from the live
//! process, so that a replay prints what its recording printed. Texts carry colours; [`print()`]
//! takes them out where the output is no terminal or NO_COLOR is set.

mod census;
mod findings;
mod format;
mod poll_time;
mod stacks;
mod summary;
mod table;

use std::io::{self, Write};

use crate::session::Query;

pub use self::census::census;
pub use self::findings::{Findings, finding_line};
pub use self::format::{duration, shorten_location, shorten_name};
pub use self::summary::summary;

/// How the summary is laid out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Layout {
    /// Columns of the terminal; none where lines may be as long as they get, as in a pipe.
    pub width: Option<u16>,
}

impl Layout {
    /// For standard output as it is.
    pub fn of_stdout() -> Layout {
        // comfy-table asks the terminal, and knows of none in a pipe.
        Layout {
            // A serial console calls itself 0 columns wide.
            width: comfy_table::Table::new().width().filter(|width| *width > 0),
        }
    }
}

/// What the summary needs in its snapshot.
pub fn query() -> Query {
    Query {
        details: summary::STACKS,
        profile: true,
        ..Query::default()
    }
}

/// Writes a text to standard output, in colour where that is wanted.
///
/// # Errors
/// A closed pipe (`ErrorKind::BrokenPipe`), with which a program ends quietly, or a full disk.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes a line about hud itself to standard error. There is nowhere to complain of a standard
/// error that is closed, and no reason to end for it.
pub fn warn(what: impl std::fmt::Display) {
    let _ = writeln!(anstream::stderr(), "hud: {what}");
}
