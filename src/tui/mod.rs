//! The terminal view: draws a [`Snapshot`](crate::session::Snapshot) and nothing else.
//!
//! [`App`] turns records and events into pictures and [`Effect`]s and does no input or output of
//! its own; [`terminal::Screen`] owns the terminal. Live and replay differ only in where the
//! records come from.
//!
//! ```text
//! app  ->  views, overlays, frame  ->  widgets  ->  state
//! ```
//!
//! `state` and `widgets` know no view. `views` do not know `app`.

mod app;
mod frame;
mod overlays;
mod state;
pub mod terminal;
#[cfg(test)]
mod tests;
mod views;
mod widgets;

pub use self::app::screen::SMALLEST;
pub use self::app::{App, AppOptions, Effect};
pub use self::state::View;
pub use self::terminal::clipboard::Clipboard;
pub use self::widgets::theme::{Palette, Theme};
