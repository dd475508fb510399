//! A census in the headless view: what is wrong in words, then every thread.

use super::format::{ALARM, BOLD, DIM, frame_style, paint, shorten_name};
use crate::model::{Census, Origin};
use crate::session::{RowKind, census_rows};

/// Longest function and location in a row.
const NAME: usize = 140;

/// The census, ready for [`super::print`]; `start_ns` is what its moment is told from.
pub fn census(census: &Census, start_ns: u64) -> String {
    let at = census.at_ns.saturating_sub(start_ns) as f64 / 1e9;
    let title = format!("Census of {} threads at {at:.3} s", census.threads.len());
    let mut out = format!("\n{}\n", paint(BOLD, title));
    for (kind, text) in census_rows(census) {
        let row = match kind {
            RowKind::Words => paint(ALARM, text),
            RowKind::Thread => paint(BOLD, text),
            RowKind::Frame(origin) => {
                let mark = if origin == Origin::User { '>' } else { ' ' };
                let text = shorten_name(&text, NAME);
                format!("   {mark} {}", paint(frame_style(origin), text))
            }
            RowKind::Note => format!("     {}", paint(DIM, text)),
        };
        out.push_str(&row);
        out.push('\n');
    }
    out
}
