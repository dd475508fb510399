//! The headless view: findings as they come, the trace while they come, a summary at the end.

use std::io;

use anyhow::{Result, bail};

use crate::cli::Config;
use crate::export::TraceWriter;
use crate::model::{EndReason, Losses, Record};
use crate::report::{self, Findings, Layout};
use crate::session::{Session, SessionOptions};

/// Consumes records: prints, records, remembers.
pub struct Headless {
    findings: Findings,
    session: Session,
    trace: Option<TraceWriter>,
    losses: Losses,
    /// The reader of standard output is gone: keep quiet, and end.
    closed: bool,
}

impl Headless {
    /// A view that also writes `trace`, if there is one.
    pub fn new(config: &Config, trace: Option<TraceWriter>) -> Self {
        Headless {
            findings: Findings::new(config.workers_prefix.clone()),
            session: Session::new(SessionOptions {
                window: config.window,
                workers_prefix: config.workers_prefix.clone(),
                ..SessionOptions::default()
            }),
            trace,
            losses: Losses::default(),
            closed: false,
        }
    }

    /// Whether nobody reads standard output any more.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Takes in a record.
    ///
    /// # Errors
    /// When standard output cannot be written, other than for being closed.
    pub fn take(&mut self, record: &Record) -> Result<()> {
        self.remember(record);
        match self.findings.line(record) {
            Some(line) => self.print(&format!("{line}\n")),
            None => Ok(()),
        }
    }

    /// Ends the session: closes the trace and prints the summary.
    ///
    /// # Errors
    /// As [`Headless::take`], and when the trace lacks records.
    pub fn finish(mut self, end: Option<(EndReason, u64)>) -> Result<()> {
        if let Some((reason, at_ns)) = end {
            self.remember(&Record::End { reason, at_ns });
        }
        if let Some(trace) = &mut self.trace
            && let Err(failure) = trace.finish()
        {
            report::warn(&failure);
        }
        self.count_unwritten();
        let snapshot = self.session.snapshot(&report::query());
        let summary = report::summary(&snapshot, Layout::of_stdout());
        self.print(&summary)?;
        match self.trace.as_ref().map_or(0, TraceWriter::unwritten) {
            0 => Ok(()),
            missing => bail!("the trace is incomplete: {missing} records could not be written"),
        }
    }

    fn remember(&mut self, record: &Record) {
        self.session.apply(record);
        if let Record::Losses(losses) = record {
            self.losses = *losses;
        }
        if let Some(trace) = &mut self.trace
            && let Err(failure) = trace.write(record)
        {
            report::warn(&failure);
        }
        self.count_unwritten();
    }

    /// What the trace lacks is a loss like the others, which only hud's own side knows of.
    fn count_unwritten(&mut self) {
        let unwritten = self.trace.as_ref().map_or(0, TraceWriter::unwritten);
        if unwritten > 0 {
            self.losses.trace_unwritten = unwritten;
            self.session.apply(&Record::Losses(self.losses));
        }
    }

    fn print(&mut self, text: &str) -> Result<()> {
        if self.closed {
            return Ok(());
        }
        match report::print(text) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            result => Ok(result?),
        }
    }
}
