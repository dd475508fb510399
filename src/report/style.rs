//! Colours of the report. They repeat what words say; [`print`](super::print()) removes them where
//! the output takes none.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use crate::model::{Cause, Origin};

pub const BOLD: Style = Style::new().bold();
pub const DIM: Style = Style::new().dimmed();
pub const ALARM: Style = AnsiColor::Red.on_default().bold();
pub const OWN: Style = AnsiColor::Green.on_default().bold();

/// A text in a style.
pub fn paint(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// The colour of a cause.
pub fn cause_color(cause: Cause) -> AnsiColor {
    match cause {
        Cause::Cpu => AnsiColor::Red,
        Cause::Lock => AnsiColor::Magenta,
        Cause::FileIo | Cause::Network | Cause::Pipe => AnsiColor::Yellow,
        Cause::Sleep | Cause::ChildProcess => AnsiColor::Cyan,
        Cause::PageFault => AnsiColor::Blue,
        Cause::RunQueue | Cause::Stopped | Cause::Unknown => AnsiColor::BrightBlack,
    }
}

/// The style of a frame's name.
pub fn frame_style(origin: Origin) -> Style {
    match origin {
        Origin::User => OWN,
        Origin::ThirdParty => Style::new(),
        Origin::Runtime | Origin::Std | Origin::Kernel | Origin::Unknown => DIM,
    }
}

/// Appends a section heading.
pub fn heading(out: &mut String, text: &str) -> std::fmt::Result {
    writeln!(out, "\n{}", paint(BOLD, text))
}
