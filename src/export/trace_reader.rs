//! Reads a trace back as records, one event at a time.
//!
//! The bytes are not trusted: whatever they hold, reading ends with records and, at worst, an
//! error that says where.

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

/// Whether a trace holds its recording up to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// It ends as recordings end.
    Whole,
    /// hud did not come to end it: killed, or the disk was full. What was flushed is there.
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
    /// JSON, but no trace of hud's.
    NotATrace,
    /// Cut off before the first event.
    Empty,
    /// Written by a newer hud.
    Newer {
        version: u64,
    },
    /// Damaged. Records before this place were handed out.
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

/// Hands every record of the trace at `path` to `sink`, in the order of the recording.
///
/// # Errors
/// [`TraceError`]; the records before a damaged place have been handed out by then.
pub fn read_trace(path: &Path, sink: impl FnMut(Record)) -> Result<Completeness, TraceError> {
    let file = File::open(path).map_err(TraceError::Io)?;
    read_trace_from(BufReader::with_capacity(256 << 10, file), sink)
}

/// As [`read_trace`], from anything that gives bytes; buffered reading is up to the caller.
///
/// # Errors
/// As [`read_trace`].
pub fn read_trace_from(
    reader: impl Read,
    mut sink: impl FnMut(Record),
) -> Result<Completeness, TraceError> {
    let at = At::default();
    let mut replay = Replay {
        sink: &mut sink,
        at: &at,
        begun: false,
        ended: false,
        recovered: 0,
        decoder: Decoder::default(),
        losses: Losses::default(),
        unwritten: 0,
        refused: None,
    };
    let mut json = serde_json::Deserializer::from_reader(Watched { reader, at: &at });
    let parsed = Top(&mut replay)
        .deserialize(&mut json)
        .and_then(|()| json.end());
    let cut_off = match parsed {
        Ok(()) => false,
        Err(error) => replay.judge(&error, at.drained.get()).map(|()| true)?,
    };
    if !replay.begun {
        return Err(TraceError::NotATrace);
    }
    replay.tell_unwritten();
    match cut_off || !replay.ended {
        true => Ok(Completeness::Truncated {
            recovered: replay.recovered,
        }),
        false => Ok(Completeness::Whole),
    }
}

/// Where the parser stands.
#[derive(Default)]
struct At {
    /// Line ends so far, and bytes since the last.
    lines: Cell<usize>,
    column: Cell<usize>,
    /// It has asked for more than there is.
    drained: Cell<bool>,
}

/// A reader that keeps book of where the parser stands.
struct Watched<'a, R> {
    reader: R,
    at: &'a At,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buf)?;
        // The parser asks for single bytes.
        for byte in buf.iter().take(n) {
            if *byte == b'\n' {
                self.at.lines.set(self.at.lines.get() + 1);
                self.at.column.set(0);
            } else {
                self.at.column.set(self.at.column.get() + 1);
            }
        }
        if n == 0 && !buf.is_empty() {
            self.at.drained.set(true);
        }
        Ok(n)
    }
}

struct Replay<'s> {
    sink: &'s mut dyn FnMut(Record),
    at: &'s At,
    /// The header was read.
    begun: bool,
    ended: bool,
    recovered: u64,
    decoder: Decoder,
    losses: Losses,
    /// What the head says could not be written.
    unwritten: u64,
    /// Refused for a reason other than its bytes.
    refused: Option<TraceError>,
}

impl Replay<'_> {
    fn emit(&mut self, record: Record) {
        self.recovered += 1;
        (self.sink)(record);
    }

    /// What an error of the parser means; Ok for a file that was merely cut off.
    fn judge(&mut self, error: &serde_json::Error, drained: bool) -> Result<(), TraceError> {
        let (line, column) = (error.line(), error.column());
        if let Some(refused) = self.refused.take() {
            return Err(refused);
        }
        // Half a number at the end is a syntax error to the parser.
        let category = match error.classify() {
            Category::Syntax if drained => Category::Eof,
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
                // The place is told apart from the reason.
                let what = text.split(" at line ").next().unwrap_or(&text).to_owned();
                Err(TraceError::Corrupt { line, column, what })
            }
        }
    }

    /// A full disk kept the last records out, and with them their count; the head has it.
    fn tell_unwritten(&mut self) {
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
            tier: Tier::from_number(head.tier).ok_or(TraceError::NotATrace)?,
            threshold_ns: head.threshold_ns,
            start_ns: head.start_ns,
            start_unix_ns: head.start_unix_ns,
        };
        self.begun = true;
        self.emit(Record::Header(Box::new(header)));
        Ok(())
    }

    /// Takes in one event; the error says what makes no sense.
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

/// The object that is the file.
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
                    if let Err(refused) = self.0.head(data) {
                        self.0.refused = Some(refused);
                        return Err(A::Error::custom("refused"));
                    }
                }
                "traceEvents" => {
                    if !self.0.begun {
                        self.0.refused = Some(TraceError::NotATrace);
                        return Err(A::Error::custom("refused"));
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

/// The array of events.
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

/// One event, judged while the parser still knows the line.
struct OneEvent<'r, 's>(&'r mut Replay<'s>);

impl<'de> DeserializeSeed<'de> for OneEvent<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let event = Event::deserialize(deserializer)?;
        self.0.event(event).map_err(|what| {
            // The parser would name the place behind the next comma.
            self.0.refused = Some(TraceError::Corrupt {
                line: self.0.at.lines.get() + 1,
                column: self.0.at.column.get(),
                what,
            });
            D::Error::custom("refused")
        })
    }
}
