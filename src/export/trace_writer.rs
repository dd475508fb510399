//! Writes records to a trace while they come, in bounded memory.
//!
//! What was written is flushed at least once a second of writing, and after each flush the file is
//! whole. When the disk is full the file stays as the last flush left it, the error is told once,
//! and what comes later is counted.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::destination::{open, write_failure};
use super::encode::{Encoder, losses_text, write_head};
use super::whole_file::{Medium, WholeFile};
use crate::failure::{Failure, Kind};
use crate::model::{Header, Losses, Record};

/// What a file ends with while it is written; `stackFrames` come at the end.
const ENDING: &[u8] = b"\n]}\n";
const FLUSH_EVERY: Duration = Duration::from_secs(1);
const FLUSH_BYTES: usize = 256 << 10;

/// A trace being recorded. Dropping it finishes it.
pub struct TraceWriter {
    file: WholeFile<Box<dyn Medium + Send>>,
    path: String,
    encoder: Encoder,
    unwritten: u64,
    broken: bool,
    finished: bool,
    last_flush: Instant,
    losses: Losses,
    /// Where the numbers of `otherData.losses` are, and what they say.
    losses_at: u64,
    losses_told: Losses,
}

impl Medium for Box<dyn Medium + Send> {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        (**self).write_at(bytes, at)
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        (**self).cut(len)
    }
}

impl TraceWriter {
    /// Begins a trace at `path`, in place of what is there.
    ///
    /// # Errors
    /// Where the path is no ordinary file or cannot be written.
    pub fn create(path: &Path, header: &Header) -> Result<TraceWriter, Failure> {
        let file = open(path)?;
        TraceWriter::begin(Box::new(file), path.display().to_string(), header)
    }

    pub(super) fn begin(
        medium: Box<dyn Medium + Send>,
        path: String,
        header: &Header,
    ) -> Result<TraceWriter, Failure> {
        let mut head = Vec::new();
        let losses_at = write_head(&mut head, header)
            .map_err(|e| Failure::new(Kind::Failed, format!("cannot describe the trace: {e}")))?;
        let file = WholeFile::begin(medium, &head, ENDING)
            .map_err(|error| write_failure(&path, &error, "nothing could be recorded"))?;
        Ok(TraceWriter {
            file,
            path,
            encoder: Encoder::new(header.pid),
            unwritten: 0,
            broken: false,
            finished: false,
            last_flush: Instant::now(),
            losses: Losses::default(),
            losses_at,
            losses_told: Losses::default(),
        })
    }

    /// Takes a record in. The header was written by [`TraceWriter::create`] and is passed over;
    /// a running poll is kept until it ends, or until the session does.
    ///
    /// # Errors
    /// Once, when the file cannot be written any more; it stays whole up to the last flush, and
    /// [`TraceWriter::unwritten`] counts what is missing.
    pub fn write(&mut self, record: &Record) -> Result<(), Failure> {
        if self.broken {
            self.unwritten += 1;
            return Ok(());
        }
        if let Record::Losses(losses) = record {
            self.losses = *losses;
        }
        if self.encoder.encode(record).is_err() {
            self.unwritten += 1;
        }
        if self.encoder.bytes.len() >= FLUSH_BYTES || self.last_flush.elapsed() >= FLUSH_EVERY {
            return self.flush();
        }
        Ok(())
    }

    /// Makes the file whole up to here. Call it now and then while no records come.
    ///
    /// # Errors
    /// As [`TraceWriter::write`].
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.last_flush = Instant::now();
        if self.broken {
            self.tell_losses();
            return Ok(());
        }
        if !self.encoder.bytes.is_empty() {
            if let Err(error) = self.file.append(&mut self.encoder.bytes) {
                return Err(self.give_up(&error));
            }
            self.encoder.bytes.clear();
            self.encoder.records = 0;
        }
        self.tell_losses();
        Ok(())
    }

    /// Ends the trace: what still runs is written as running, and the stack frames for other
    /// viewers follow. More calls do nothing.
    ///
    /// # Errors
    /// As [`TraceWriter::write`].
    pub fn finish(&mut self) -> Result<(), Failure> {
        if self.finished {
            return Ok(());
        }
        self.finished = true;
        if !self.broken && self.encoder.encode_running().is_err() {
            self.unwritten += 1;
        }
        self.flush()?;
        if self.broken {
            return Ok(());
        }
        if let Err(error) = self.file.finish(self.encoder.ending()) {
            return Err(self.give_up(&error));
        }
        Ok(())
    }

    /// Records that could not be written.
    pub fn unwritten(&self) -> u64 {
        self.unwritten
    }

    fn give_up(&mut self, error: &io::Error) -> Failure {
        self.broken = true;
        self.unwritten += std::mem::take(&mut self.encoder.records);
        self.encoder.bytes = Vec::new();
        self.tell_losses();
        write_failure(
            &self.path,
            error,
            "the trace ends here; what it holds so far is whole and replays",
        )
    }

    /// Brings `otherData.losses` up to date. It lies in bytes the file already has, so that even a
    /// full disk lets it through.
    fn tell_losses(&mut self) {
        let mut losses = self.losses;
        losses.trace_unwritten = losses.trace_unwritten.max(self.unwritten);
        if losses != self.losses_told {
            let text = losses_text(&losses);
            if self.file.patch(text.as_bytes(), self.losses_at).is_ok() {
                self.losses_told = losses;
            }
        }
    }
}

impl Drop for TraceWriter {
    fn drop(&mut self) {
        if let Err(failure) = self.finish() {
            log::error!("{failure}");
        }
    }
}
