//! How numbers, durations and names are written, in the terminal view and in the report alike.
//!
//! Depends on `model` only. Colours, bars and layout belong to the views.

mod names;
mod numbers;
mod shorten;
mod width;

pub use self::names::{
    call, cause, comm, location, reason, runtime, task, thread, worker, worker_within,
};
pub use self::numbers::{
    ago, bytes, clock, count, counted, duration, elapsed, moment, percent, percent_of, setting,
    share,
};
pub use self::shorten::{fit_call, path};
pub use self::width::{break_name, clean, cut, left, right, rows, width, wrap};
