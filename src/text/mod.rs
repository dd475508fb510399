//! How numbers, durations and names are written, in the terminal view and in the report alike.
//!
//! Depends on `model` only. Colours, bars and layout belong to the views.

mod advice;
mod names;
mod numbers;
mod shorten;
mod stack;
mod wall;
mod width;

pub use self::advice::advice;
pub use self::names::{
    call, cause, comm, location, reason, runtime, task, thread, worker, worker_within,
};
pub use self::numbers::{
    ago, bytes, count, counted, duration, elapsed, moment, percent, percent_of, running, setting,
    share,
};
pub use self::shorten::{fit_call, fit_call_plain, path};
pub use self::stack::{Folded, StackLine, modules_without_lines, stack_lines};
pub use self::wall::WallClock;
pub use self::width::{clean, cut, left, right, rows, width, wrap};
