//! Converts records to files and back. The only module that knows JSON.
//!
//! It knows neither the session nor where records come from. docs/TRACE_FORMAT.md describes the
//! format; the types that mirror it are private.

mod decode;
mod destination;
mod dictionary;
mod document;
mod encode;
mod events;
mod micros;
mod trace_reader;
mod trace_writer;
mod viewer_samples;
mod whole_file;

#[cfg(test)]
mod tests;

pub use self::destination::check as check_destination;
pub use self::trace_reader::{Completeness, TraceError, read_trace, read_trace_from};
pub use self::trace_writer::TraceWriter;
