//! The interactive view: draws a [`Snapshot`](crate::session::Snapshot) and nothing else.
//!
//! [`App`] turns records and events into pictures and [`Effect`]s and does no input or output of
//! its own; [`terminal::Screen`] is the terminal, taken and given back. Live and replay differ only
//! in where the records come from.

mod app;
mod background;
mod canvas;
mod census;
mod columns;
mod copy;
mod culprits;
mod detail;
mod facts;
mod flame;
mod flame_bars;
mod footer;
mod header;
mod help;
mod input;
mod job_control;
mod keys;
mod lane_cells;
mod lanes;
mod poll_facts;
mod poll_time;
mod preview;
mod screen;
mod shorten;
mod source;
mod stuck;
pub mod terminal;
#[cfg(test)]
mod tests;
mod text;
mod theme;
mod timeline;
mod timeline_draw;
mod tree_rows;
mod tree_view;
mod verdict;
mod workers_filter;

pub use self::app::{App, AppOptions, Effect, View};
pub use self::copy::Clipboard;
pub use self::screen::SMALLEST;
pub use self::theme::{Palette, Theme};
