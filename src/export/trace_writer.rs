//! Writes records to a trace as they arrive, in bounded memory.
//!
//! Records are flushed at least once a second while any arrive, and the file is complete after each
//! flush. When writing fails the file stays as the last flush left it, the error is reported once,
//! and later records are counted as lost.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::destination::{open, write_failure};
use super::document::{ENDING, losses_text, write_head};
use super::encode::Encoder;
use super::whole_file::{Medium, WholeFile};
use crate::failure::{Failure, Kind};
use crate::model::{Header, Losses, Record};

const FLUSH_EVERY: Duration = Duration::from_secs(1);
const FLUSH_BYTES: usize = 256 << 10;

/// A trace being recorded. Dropping it finishes the file.
pub struct TraceWriter {
    file: WholeFile<Box<dyn Medium + Send>>,
    path: String,
    encoder: Encoder,
    unwritten: u64,
    broken: bool,
    finished: bool,
    last_flush: Instant,
    losses: Losses,
    /// The offset of `otherData.losses` and the numbers written there.
    losses_at: u64,
    losses_written: Losses,
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
    /// Starts a trace at `path`, replacing an existing file.
    ///
    /// # Errors
    /// When the path is no ordinary file or cannot be written.
    pub fn create(path: &Path, header: &Header) -> Result<TraceWriter, Failure> {
        let file = open(path, true)?;
        TraceWriter::begin(Box::new(file), path.display().to_string(), header)
    }

    /// Starts a trace at `path`, where there must be no file yet.
    ///
    /// # Errors
    /// As [`TraceWriter::create`], and when the file exists.
    pub fn create_new(path: &Path, header: &Header) -> Result<TraceWriter, Failure> {
        let file = open(path, false)?;
        TraceWriter::begin(Box::new(file), path.display().to_string(), header)
    }

    pub(super) fn begin(
        medium: Box<dyn Medium + Send>,
        path: String,
        header: &Header,
    ) -> Result<TraceWriter, Failure> {
        let mut head = Vec::new();
        let losses_at = write_head(&mut head, header).map_err(|e| {
            Failure::new(
                Kind::Failed,
                format!("cannot write the head of the trace: {e}"),
            )
        })?;
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
            losses_written: Losses::default(),
        })
    }

    /// Writes a record. Skips the header, which [`TraceWriter::create`] wrote, and holds a running
    /// poll back until it or the session ends.
    ///
    /// # Errors
    /// Once, when the file can no longer be written. It stays complete up to the last flush, and
    /// [`TraceWriter::unwritten`] counts the missing records.
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

    /// Writes all buffered records. Call it regularly while no records arrive.
    ///
    /// # Errors
    /// As [`TraceWriter::write`].
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.last_flush = Instant::now();
        if self.broken {
            self.write_losses();
            return Ok(());
        }
        if !self.encoder.bytes.is_empty() {
            if let Err(error) = self.file.append(&mut self.encoder.bytes) {
                return Err(self.give_up(&error));
            }
            self.encoder.bytes.clear();
            self.encoder.records = 0;
        }
        self.write_losses();
        Ok(())
    }

    /// Ends the trace: writes the polls that have not ended, and the stack frames for other viewers.
    /// Further calls do nothing.
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
        self.write_losses();
        write_failure(
            &self.path,
            error,
            "the trace ends here; what it holds so far is whole and replays",
        )
    }

    /// Updates `otherData.losses` in place, which works on a full disk.
    fn write_losses(&mut self) {
        let mut losses = self.losses;
        losses.trace_unwritten = losses.trace_unwritten.max(self.unwritten);
        if losses != self.losses_written {
            let text = losses_text(&losses);
            if self.file.patch(text.as_bytes(), self.losses_at).is_ok() {
                self.losses_written = losses;
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
