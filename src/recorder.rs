//! The trace of a live session, written while its records pass by on their way to the view.

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
        let before = self.unwritten();
        let failure = self
            .trace
            .as_mut()
            .and_then(|trace| trace.write(record).err());
        match record {
            Record::Losses(losses) => {
                self.losses = Losses {
                    trace_unwritten: self.unwritten(),
                    ..*losses
                };
                view(&Record::Losses(self.losses));
            }
            record => {
                view(record);
                if self.unwritten() != before {
                    self.losses.trace_unwritten = self.unwritten();
                    view(&Record::Losses(self.losses));
                }
            }
        }
        failure.map(|failure| failure.to_string())
    }

    /// Closes the trace; to be called once. The returned message says what went wrong.
    pub fn finish(&mut self) -> Option<String> {
        let failure = self.trace.as_mut().and_then(|trace| trace.finish().err());
        failure.map(|failure| failure.to_string())
    }

    /// Records that the trace lacks.
    pub fn unwritten(&self) -> u64 {
        self.trace.as_ref().map_or(0, TraceWriter::unwritten)
    }
}
