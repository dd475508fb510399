//! hud as its users meet it: its start and end, the terminal, privileges, containers, symbol files.
//!
//! Root and BPF are needed as in `tests/live`, but no durations are compared, so that these tests may run side
//! by side.

mod choice;
mod containers;
mod endings;
mod libraries;
mod privileges;
mod recorded;
mod symbols;
mod terminal;
mod tmux;
