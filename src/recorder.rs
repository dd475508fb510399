//! Records into a trace while the records pass on to the view.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use tempfile::NamedTempFile;

use crate::cli::Export;
use crate::export::{TraceWriter, check_destination};
use crate::model::{Header, Losses, Record};

/// Where a trace is to be written.
#[derive(Clone, Debug)]
pub struct Destination {
    pub export: Export,
    /// Replace an existing file.
    pub overwrite: bool,
}

impl Destination {
    /// Checks it before there is anything to record.
    ///
    /// # Errors
    /// When there is something that may not or cannot be replaced.
    pub fn check(&self) -> Result<()> {
        match &self.export {
            Export::Stdout => Ok(()),
            Export::File(path) => Ok(check_destination(path, self.overwrite)?),
        }
    }
}

/// Writes records into a trace, if there is one, and counts what could not be written.
pub struct Recorder {
    trace: Option<TraceWriter>,
    /// A trace is rewritten in place while it grows, which standard output cannot: it is written
    /// here, and copied at the end.
    temporary: Option<NamedTempFile>,
    losses: Losses,
}

impl Recorder {
    /// Records into a new trace at the destination, if one is given.
    ///
    /// # Errors
    /// When the trace cannot be created.
    pub fn new(destination: Option<&Destination>, header: &Header) -> Result<Self> {
        let mut recorder = Recorder {
            trace: None,
            temporary: None,
            losses: Losses::default(),
        };
        let Some(destination) = destination else {
            return Ok(recorder);
        };
        let path: PathBuf = match &destination.export {
            Export::File(path) => path.clone(),
            Export::Stdout => {
                let file = NamedTempFile::new().context("cannot create a temporary file")?;
                recorder.temporary.insert(file).path().to_owned()
            }
        };
        let trace = match destination.overwrite || recorder.temporary.is_some() {
            true => TraceWriter::create(&path, header),
            false => TraceWriter::create_new(&path, header),
        };
        recorder.trace = Some(trace?);
        Ok(recorder)
    }

    /// Writes a record and passes it to the view, followed by the trace's own losses. Returns the
    /// error message when writing fails for the first time.
    pub fn pass(&mut self, record: &Record, mut view: impl FnMut(&Record)) -> Option<String> {
        view(record);
        if let Record::Losses(losses) = record {
            self.losses = *losses;
        }
        let failure = self.trace.as_mut()?.write(record).err();
        self.count_unwritten(view);
        failure.map(|failure| failure.to_string())
    }

    /// Completes the trace and passes its losses to the view.
    ///
    /// # Errors
    /// When the trace lacks records, or cannot be copied to standard output.
    pub fn finish(&mut self, view: impl FnMut(&Record)) -> Result<()> {
        let failure = self.trace.as_mut().and_then(|trace| trace.finish().err());
        self.count_unwritten(view);
        if let Some(temporary) = self.temporary.take() {
            copy_to_stdout(&temporary)?;
        }
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

    /// Adds the records that the trace lacks to the losses.
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

/// Copies a complete trace. A reader that closed the pipe is no error.
fn copy_to_stdout(trace: &NamedTempFile) -> Result<()> {
    let mut file = File::open(trace.path()).context("cannot read the trace again")?;
    match io::copy(&mut file, &mut io::stdout().lock()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write the trace to standard output")
        }
        _ => Ok(()),
    }
}
