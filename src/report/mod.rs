//! The headless report: findings as they arrive, one line each, and a summary at the end.
//!
//! The summary depends on a [`Snapshot`](crate::session::Snapshot) alone, not on the clock or the
//! live process, so that a replay prints what its recording printed. Texts carry colours; [`print()`]
//! removes them if the output is no terminal or NO_COLOR is set.

mod census;
mod culprits;
mod findings;
mod poll_time;
mod stacks;
mod style;
mod summary;
mod table;
mod verdict;
mod workers;

use std::io::{self, IsTerminal, Write};

use jiff::tz::TimeZone;

use crate::session::Query;

pub use self::census::census;
pub use self::findings::{Findings, finding_line};
pub use self::summary::summary;
pub use crate::cli::Stacks;

/// How the summary is laid out.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Columns of the terminal; None where lines may have any length, as in a pipe.
    pub width: Option<u16>,
    /// For times of day.
    pub zone: TimeZone,
    pub stacks: Stacks,
}

/// In fewer columns, the numbers of a culprit stand below its name.
const NARROW: u16 = 110;

impl Layout {
    /// For standard output as it is.
    pub fn of_stdout(stacks: Stacks) -> Layout {
        let size = match io::stdout().is_terminal() {
            true => crossterm::terminal::size().ok(),
            false => None,
        };
        Layout {
            // A serial console reports 0 columns.
            width: size.map(|(columns, _)| columns).filter(|n| *n > 0),
            zone: TimeZone::system(),
            stacks,
        }
    }

    /// Columns for a name and for its location beside numbers that take so many.
    fn divide(&self, numbers: usize) -> (usize, usize) {
        match self.width.map(usize::from) {
            None => (200, 200),
            Some(width) => {
                let room = width.saturating_sub(numbers);
                let name = (room * 3 / 5).max(16);
                (name, room.saturating_sub(name))
            }
        }
    }

    fn is_narrow(&self) -> bool {
        self.width.is_some_and(|width| width < NARROW)
    }

    /// Culprits in the table.
    fn culprits(&self) -> usize {
        match (self.stacks, self.is_narrow()) {
            (Stacks::All, _) => 100,
            // A row has two lines.
            (Stacks::Top, true) => 5,
            (Stacks::Top, false) => 8,
        }
    }
}

/// The query whose snapshot has all that the summary needs.
pub fn query(layout: &Layout) -> Query {
    Query {
        details: match layout.stacks {
            Stacks::Top => culprits::STACKS,
            Stacks::All => layout.culprits(),
        },
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
