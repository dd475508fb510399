//! A census in the report: what is wrong in words, then every thread.

use super::style::{ALARM, BOLD, DIM, frame_style, paint};
use crate::model::{Census, Origin};
use crate::session::{RowKind, census_rows};
use crate::text::{self, WallClock};

/// Columns of a function and its location.
const NAME: usize = 140;

/// The census, ready for [`super::print`].
pub fn census(census: &Census, clock: &WallClock) -> String {
    let at = clock.both(census.at_ns);
    let threads = text::counted(census.threads.len(), "thread");
    let title = format!("Census of {threads} at {at}");
    let mut out = format!("\n{}\n", paint(BOLD, title));
    for (kind, text) in census_rows(census) {
        let row = match kind {
            RowKind::Words => paint(ALARM, text),
            RowKind::Thread => paint(BOLD, text),
            RowKind::Frame(origin) => {
                let mark = if origin == Origin::User { '>' } else { ' ' };
                let text = text::path(&text, NAME);
                format!("   {mark} {}", paint(frame_style(origin), text))
            }
            RowKind::Note => format!("     {}", paint(DIM, text)),
        };
        out.push_str(&row);
        out.push('\n');
    }
    out
}
