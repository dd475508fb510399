//! Reads a trace as records, one event at a time.
//!
//! The bytes are untrusted. Whatever they hold, reading ends, at worst with an error that names the
//! line and column.

use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use serde::de::{Deserialize, Visitor};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess};
use serde_json::Value;
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::decode::Decoder;
use super::events::{Event, FORMAT, FORMAT_VERSION, Head};
use crate::model::{Header, Losses, Record, Tier};

/// Whether a trace holds its whole recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// It ends with the record of the end.
    Whole,
    /// hud was stopped before it finished the file. Everything up to the last flush is there.
    Truncated {
        /// Records that were read.
        recovered: u64,
    },
}

/// Why a file cannot be replayed. Lines and columns count from 1.
#[derive(Debug)]
pub enum TraceError {
    Io(io::Error),
    /// Not JSON at all.
    NotJson {
        line: usize,
        column: usize,
    },
    /// JSON, but not a trace of hud's.
    NotATrace,
    /// Truncated before the first event.
    Empty,
    /// Written by a newer hud.
    Newer {
        version: u64,
    },
    /// Damaged. The records before this position were returned.
    Corrupt {
        line: usize,
        column: usize,
        what: String,
    },
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TraceError::Io(error) => error.fmt(f),
            TraceError::NotJson { line, column } => {
                write!(f, "not a trace: no JSON at line {line}, column {column}")
            }
            TraceError::NotATrace => f.write_str(
                "not a trace recorded by hud (record one with: hud PROCESS --export trace.json)",
            ),
            TraceError::Empty => f.write_str("the recording was cut off before it began"),
            TraceError::Newer { version } => write!(
                f,
                "recorded by a newer hud (format {version}, this one reads up to \
                 {FORMAT_VERSION}): update hud"
            ),
            TraceError::Corrupt { line, column, what } => {
                write!(f, "damaged at line {line}, column {column}: {what}")
            }
        }
    }
}

// No `source`: `Display` says all of it, and a chain would say it twice.
impl std::error::Error for TraceError {}

/// Passes every record of the trace at `path` to `sink`, in the order of the recording.
///
/// # Errors
/// See [`TraceError`]. The records before a damaged position have been passed on by then.
pub fn read_trace(path: &Path, sink: impl FnMut(Record)) -> Result<Completeness, TraceError> {
    let file = File::open(path).map_err(TraceError::Io)?;
    read_trace_from(BufReader::with_capacity(256 << 10, file), sink)
}

/// Like [`read_trace`], from any reader; the caller buffers it.
///
/// # Errors
/// As [`read_trace`].
pub fn read_trace_from(
    reader: impl Read,
    mut sink: impl FnMut(Record),
) -> Result<Completeness, TraceError> {
    let position = Position::default();
    let mut replay = Replay {
        sink: &mut sink,
        position: &position,
        begun: false,
        ended: false,
        recovered: 0,
        decoder: Decoder::default(),
        losses: Losses::default(),
        unwritten: 0,
        error: None,
    };
    let mut json = serde_json::Deserializer::from_reader(Tracked {
        reader,
        position: &position,
    });
    let parsed = Top(&mut replay)
        .deserialize(&mut json)
        .and_then(|()| json.end());
    let cut_off = match parsed {
        Ok(()) => false,
        Err(error) => replay
            .classify(&error, position.at_end.get())
            .map(|()| true)?,
    };
    if !replay.begun {
        return Err(TraceError::NotATrace);
    }
    replay.report_unwritten();
    match cut_off || !replay.ended {
        true => Ok(Completeness::Truncated {
            recovered: replay.recovered,
        }),
        false => Ok(Completeness::Whole),
    }
}

/// The parser's position in the file.
#[derive(Default)]
struct Position {
    /// Line ends so far, and bytes since the last one.
    lines: Cell<usize>,
    column: Cell<usize>,
    /// The parser has reached the end of the file.
    at_end: Cell<bool>,
}

/// A reader that tracks the parser's position.
struct Tracked<'a, R> {
    reader: R,
    position: &'a Position,
}

impl<R: Read> Read for Tracked<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buf)?;
        // The parser reads single bytes, so this is its position exactly.
        for byte in buf.iter().take(n) {
            if *byte == b'\n' {
                self.position.lines.set(self.position.lines.get() + 1);
                self.position.column.set(0);
            } else {
                self.position.column.set(self.position.column.get() + 1);
            }
        }
        if n == 0 && !buf.is_empty() {
            self.position.at_end.set(true);
        }
        Ok(n)
    }
}

struct Replay<'s> {
    sink: &'s mut dyn FnMut(Record),
    position: &'s Position,
    /// The header was read.
    begun: bool,
    ended: bool,
    recovered: u64,
    decoder: Decoder,
    losses: Losses,
    /// Records that the head counts as unwritten.
    unwritten: u64,
    /// The cause of the parser error, where it was raised here and not by the parser.
    error: Option<TraceError>,
}

impl Replay<'_> {
    fn emit(&mut self, record: Record) {
        self.recovered += 1;
        (self.sink)(record);
    }

    /// The meaning of a parser error; Ok where the file was only truncated.
    fn classify(&mut self, error: &serde_json::Error, at_end: bool) -> Result<(), TraceError> {
        let (line, column) = (error.line(), error.column());
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        // The parser reports half a number at the end as a syntax error.
        let category = match error.classify() {
            Category::Syntax if at_end => Category::Eof,
            category => category,
        };
        match category {
            Category::Io => Err(TraceError::Io(io::Error::new(
                error.io_error_kind().unwrap_or(io::ErrorKind::Other),
                error.to_string(),
            ))),
            Category::Eof if self.begun => Ok(()),
            Category::Eof => Err(TraceError::Empty),
            Category::Syntax if !self.begun => Err(TraceError::NotJson { line, column }),
            Category::Data if !self.begun => Err(TraceError::NotATrace),
            Category::Syntax | Category::Data => {
                let text = error.to_string();
                // The position is reported separately.
                let what = text.split(" at line ").next().unwrap_or(&text).to_owned();
                Err(TraceError::Corrupt { line, column, what })
            }
        }
    }

    /// Reports the records that a full disk kept out. Only the head counts them.
    fn report_unwritten(&mut self) {
        if self.unwritten > self.losses.trace_unwritten {
            self.losses.trace_unwritten = self.unwritten;
            self.emit(Record::Losses(self.losses));
        }
    }

    fn head(&mut self, data: Value) -> Result<(), TraceError> {
        let format = data.get("format").and_then(Value::as_str);
        let version = data.get("format_version").and_then(Value::as_u64);
        let (Some(FORMAT), Some(version)) = (format, version) else {
            return Err(TraceError::NotATrace);
        };
        if version > u64::from(FORMAT_VERSION) {
            return Err(TraceError::Newer { version });
        }
        let unwritten = data.get("losses").and_then(|l| l.get("trace_unwritten"));
        self.unwritten = unwritten.and_then(Value::as_u64).unwrap_or(0);
        let head: Head<'static> =
            serde_json::from_value(data).map_err(|_| TraceError::NotATrace)?;
        let header = Header {
            hud_version: head.hud_version.into_owned(),
            pid: head.pid,
            process: head.process.into_owned(),
            command: head.command.into_owned(),
            executable: head.executable.into_owned(),
            tokio_version: head.tokio_version.map(String::from),
            tier: Tier::from_number(head.tier, head.layout_learnt).ok_or(TraceError::NotATrace)?,
            threshold_ns: head.threshold_ns,
            start_ns: head.start_ns,
            start_unix_ns: head.start_unix_ns,
        };
        self.begun = true;
        self.emit(Record::Header(Box::new(header)));
        Ok(())
    }

    /// Decodes one event.
    ///
    /// # Errors
    /// A message about what is invalid in it.
    fn event(&mut self, event: Event<'_, Box<RawValue>>) -> Result<(), String> {
        let Some(record) = self.decoder.record(event)? else {
            return Ok(());
        };
        match &record {
            Record::Losses(losses) => self.losses = *losses,
            Record::End { .. } => self.ended = true,
            _ => {}
        }
        self.emit(record);
        Ok(())
    }
}

/// Visits the file: a JSON object.
struct Top<'r, 's>(&'r mut Replay<'s>);

impl<'de> DeserializeSeed<'de> for Top<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Top<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a trace")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "otherData" if !self.0.begun => {
                    let data = map.next_value::<Value>()?;
                    if let Err(error) = self.0.head(data) {
                        self.0.error = Some(error);
                        return Err(A::Error::custom("invalid head"));
                    }
                }
                "traceEvents" => {
                    if !self.0.begun {
                        self.0.error = Some(TraceError::NotATrace);
                        return Err(A::Error::custom("invalid head"));
                    }
                    map.next_value_seed(Events(self.0))?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// Visits `traceEvents`.
struct Events<'r, 's>(&'r mut Replay<'s>);

impl<'de> DeserializeSeed<'de> for Events<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Events<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut events: A) -> Result<(), A::Error> {
        while events.next_element_seed(OneEvent(self.0))?.is_some() {}
        Ok(())
    }
}

/// Decodes one event while its position is still known.
struct OneEvent<'r, 's>(&'r mut Replay<'s>);

impl<'de> DeserializeSeed<'de> for OneEvent<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let event = Event::deserialize(deserializer)?;
        self.0.event(event).map_err(|what| {
            // The parser would report the position after the next comma.
            self.0.error = Some(TraceError::Corrupt {
                line: self.0.position.lines.get() + 1,
                column: self.0.position.column.get(),
                what,
            });
            D::Error::custom("invalid event")
        })
    }
}
