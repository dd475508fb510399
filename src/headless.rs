//! The headless view: findings as they come, a summary at the end.

use std::io;

use anyhow::Result;

use crate::cli::Config;
use crate::model::Record;
use crate::report::{self, Findings, Layout};
use crate::session::{Session, SessionOptions};

/// Consumes records: prints and remembers.
pub struct Headless {
    findings: Findings,
    session: Session,
    /// The reader of standard output is gone: keep quiet, and end.
    closed: bool,
}

impl Headless {
    /// Nothing has come yet.
    pub fn new(config: &Config) -> Self {
        Headless {
            findings: Findings::new(config.workers_prefix.clone()),
            session: Session::new(SessionOptions {
                window: config.window,
                workers_prefix: config.workers_prefix.clone(),
                ..SessionOptions::default()
            }),
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
        self.session.apply(record);
        match self.findings.line(record) {
            Some(line) => self.print(&format!("{line}\n")),
            None => Ok(()),
        }
    }

    /// Prints the summary.
    ///
    /// # Errors
    /// As [`Headless::take`].
    pub fn finish(mut self) -> Result<()> {
        let snapshot = self.session.snapshot(&report::query());
        let summary = report::summary(&snapshot, Layout::of_stdout());
        self.print(&summary)
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
