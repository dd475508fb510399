//! The steps of a start, in words.

use std::fmt;

/// What a start is busy with. It can take seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Searching the executable and its debug info for Tokio's state.
    ReadingExecutable {
        file: String,
        bytes: u64,
    },
    /// Asking a debuginfod server, as the user wants; what for, or what went wrong.
    Debuginfod(String),
    /// No thread of the process runs a scheduler yet.
    WaitingForRuntime,
    /// No known layout of Tokio's state fits: it is learnt from what the workers do.
    LearningLayout,
    Attaching,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::ReadingExecutable { file, bytes } => {
                write!(f, "reading {file} ({})", mebibytes(*bytes))
            }
            Step::Debuginfod(what) => f.write_str(what),
            Step::WaitingForRuntime => {
                f.write_str("no Tokio runtime runs in it yet: waiting for one")
            }
            Step::LearningLayout => f.write_str(
                "no known layout of Tokio's state fits: learning it from what the workers do",
            ),
            Step::Attaching => f.write_str("attaching"),
        }
    }
}

/// A file's size as text.
pub fn mebibytes(bytes: u64) -> String {
    match bytes >> 20 {
        0 => "under 1 MiB".to_owned(),
        mib => format!("{mib} MiB"),
    }
}
