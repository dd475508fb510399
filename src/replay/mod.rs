//! Reads a recorded trace as the user wants to see it: frames named that were recorded without
//! symbols, polls under the threshold left out, cut to a span of time.
//!
//! It knows neither the views nor the trace's format: records come from `export` and go to a closure.

mod cut;

use std::path::Path;

use anyhow::{Context, Result};

use self::cut::Cut;
use crate::analysis::late_names::LateNames;
use crate::cli::Config;
use crate::export::{Completeness, read_trace};
use crate::model::Record;
use crate::text;

/// Passes the records of the trace at `path` to `take`, as configured. Returns notes for the user.
///
/// # Errors
/// When the file is no trace of hud's or is damaged, when a file of symbols is of another build, and
/// the first error of `take`.
pub fn read(
    config: &Config,
    path: &Path,
    mut names: LateNames,
    mut take: impl FnMut(Record) -> Result<()>,
) -> Result<Vec<String>> {
    let threshold_ns = config.threshold_given.then(|| nanos(config.threshold));
    let mut cut = Cut::new(config.from, config.to);
    let mut recorded_ns = 0;
    let mut result = Ok(());
    let completeness = read_trace(path, |record| {
        if let Record::Header(header) = &record {
            recorded_ns = header.threshold_ns;
        }
        let record = match threshold_ns {
            Some(threshold_ns) => from_threshold(record, threshold_ns),
            None => Some(record),
        };
        if result.is_err() {
            return;
        }
        let Some(record) = record else { return };
        result = match cut.pass(record) {
            Ok(Some(record)) => names.name(record).map_err(Into::into).and_then(&mut take),
            Ok(None) => Ok(()),
            Err(error) => Err(error.into()),
        };
    });
    result?;
    let completeness = completeness.with_context(|| format!("cannot replay {}", path.display()))?;
    if let Some(end) = cut.finish() {
        take(end)?;
    }
    let mut notes = names.notes();
    if threshold_ns.is_some_and(|threshold_ns| threshold_ns < recorded_ns) {
        notes.push(format!(
            "recorded from {} on: shorter polls are not in the trace",
            text::setting(recorded_ns)
        ));
    }
    if let Completeness::Truncated { recovered } = completeness {
        notes.push(format!(
            "the recording was cut short: {recovered} records recovered"
        ));
    }
    Ok(notes)
}

/// The record as it would be at this higher threshold; None for a poll that is shorter. Causes are
/// not decided anew.
fn from_threshold(record: Record, threshold_ns: u64) -> Option<Record> {
    match record {
        Record::Header(mut header) => {
            header.threshold_ns = header.threshold_ns.max(threshold_ns);
            Some(Record::Header(header))
        }
        Record::SlowPoll(poll) | Record::Running(poll) if poll.held_ns() < threshold_ns => None,
        other => Some(other),
    }
}

fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
