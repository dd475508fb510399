//! An error that ends hud: what is wrong, what mends it, and the exit code that says which kind.

use std::fmt;

/// The kinds of failure that scripts can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Anything without a kind of its own: exit code 1.
    Failed,
    /// The command line asks for something that makes no sense: exit code 2.
    Usage,
    /// A privilege or a permission is missing: exit code 77.
    Permission,
}

impl Kind {
    /// The process's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::Permission => 77,
        }
    }
}

/// What is wrong in one line, and the command or the change that mends it, if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub kind: Kind,
    pub what: String,
    pub mend: Option<String>,
}

impl Failure {
    /// A failure of that kind, with no mend yet.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Failure {
            kind,
            what: what.into(),
            mend: None,
        }
    }

    /// The same failure with what mends it.
    pub fn mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = Some(mend.into());
        self
    }

    /// The exit code an error stands for: its own if it is (or wraps) a `Failure`, else 1.
    pub fn exit_code(error: &anyhow::Error) -> u8 {
        error
            .chain()
            .find_map(|cause| cause.downcast_ref::<Failure>())
            .map_or(Kind::Failed, |failure| failure.kind)
            .exit_code()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.mend {
            Some(mend) => write!(f, "\n  {mend}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}
