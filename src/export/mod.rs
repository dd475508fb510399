//! Records to files and back: a file a format, and the only place that knows JSON.
//!
//! Records go in and come out; nothing here knows the session or where records come from. The
//! shapes on disk are private to this module and described in docs/TRACE_FORMAT.md.

mod decode;
mod destination;
mod encode;
mod events;
mod micros;
mod stacks;
mod trace_reader;
mod trace_writer;
mod whole_file;

#[cfg(test)]
mod tests;

pub use self::trace_reader::{Completeness, TraceError, read_trace, read_trace_from};
pub use self::trace_writer::TraceWriter;
