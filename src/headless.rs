//! The headless view: findings as they arrive, a summary at the end.

use std::io;

use anyhow::Result;

use crate::cli::{Config, Export};
use crate::model::{HANG_NS, Record};
use crate::report::{self, Findings, Layout};
use crate::session::{Session, SessionOptions};
use crate::text::WallClock;

/// Prints findings and keeps a session for the summary.
pub struct Headless {
    findings: Findings,
    session: Session,
    layout: Layout,
    clock: WallClock,
    /// Standard output is a closed pipe: nothing more is printed.
    closed: bool,
    /// Standard output is for the trace: nothing is printed.
    silent: bool,
}

impl Headless {
    /// A view without any record.
    pub fn new(config: &Config) -> Self {
        let layout = Layout::of_stdout(config.stacks);
        Headless {
            findings: Findings::new(config.workers_prefix.clone(), layout.zone.clone()),
            session: Session::new(SessionOptions {
                window: config.window,
                workers_prefix: config.workers_prefix.clone(),
                ..SessionOptions::default()
            }),
            clock: WallClock::new(None, &layout.zone),
            layout,
            closed: false,
            silent: config.export == Some(Export::Stdout),
        }
    }

    /// Whether standard output is a closed pipe.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether a running poll has lasted so long that it counts as hung.
    pub fn sees_a_hang(&mut self) -> bool {
        let snapshot = self.session.snapshot(&report::query(&self.layout));
        let mut running = snapshot.running.iter();
        running.any(|poll| poll.held_ns() >= HANG_NS)
    }

    /// Handles a record.
    ///
    /// # Errors
    /// When standard output cannot be written, unless it is a closed pipe.
    pub fn take(&mut self, record: &Record) -> Result<()> {
        self.session.apply(record);
        match record {
            Record::Header(header) => {
                self.clock = WallClock::new(Some(header), &self.layout.zone);
            }
            Record::Census(census) => return self.print(&report::census(census, &self.clock)),
            _ => {}
        }
        match self.findings.lines(record) {
            Some(lines) => self.print(&format!("{lines}\n")),
            None => Ok(()),
        }
    }

    /// Prints the summary.
    ///
    /// # Errors
    /// As [`Headless::take`].
    pub fn finish(mut self) -> Result<()> {
        let snapshot = self.session.snapshot(&report::query(&self.layout));
        let summary = report::summary(&snapshot, &self.layout);
        self.print(&summary)
    }

    fn print(&mut self, text: &str) -> Result<()> {
        if self.closed || self.silent {
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
