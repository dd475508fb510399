//! The trace of a live session, written while its records pass by on their way to the view.

use anyhow::{Result, bail};

use crate::export::TraceWriter;
use crate::model::{Losses, Record};

/// Writes records into a trace, if there is one, and counts what could not be written.
pub struct Recorder {
    trace: Option<TraceWriter>,
    losses: Losses,
}

impl Recorder {
    /// Writes into `trace`.
    pub fn new(trace: Option<TraceWriter>) -> Self {
        Recorder {
            trace,
            losses: Losses::default(),
        }
    }

    /// Writes a record and gives it on to the view, with what the trace itself lost added. The
    /// returned message says what went wrong, the first time it does.
    pub fn pass(&mut self, record: &Record, mut view: impl FnMut(&Record)) -> Option<String> {
        view(record);
        if let Record::Losses(losses) = record {
            self.losses = *losses;
        }
        let failure = self.trace.as_mut()?.write(record).err();
        self.count_unwritten(view);
        failure.map(|failure| failure.to_string())
    }

    /// Closes the trace, and tells the view what it lacks.
    ///
    /// # Errors
    /// When the trace lacks records.
    pub fn finish(&mut self, view: impl FnMut(&Record)) -> Result<()> {
        let failure = self.trace.as_mut().and_then(|trace| trace.finish().err());
        self.count_unwritten(view);
        match (self.unwritten(), failure) {
            (0, None) => Ok(()),
            (0, Some(failure)) => Err(failure.into()),
            (missing, Some(failure)) => {
                bail!("the trace lacks {missing} records: {failure}")
            }
            (missing, None) => {
                bail!("the trace is incomplete: {missing} records could not be written")
            }
        }
    }

    /// What the trace lacks is a loss like the others, which only hud's own side knows of.
    fn count_unwritten(&mut self, mut view: impl FnMut(&Record)) {
        let unwritten = self.unwritten();
        if unwritten > 0 {
            self.losses.trace_unwritten = unwritten;
            view(&Record::Losses(self.losses));
        }
    }

    fn unwritten(&self) -> u64 {
        self.trace.as_ref().map_or(0, TraceWriter::unwritten)
    }
}
