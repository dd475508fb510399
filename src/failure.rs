//! The error type for failures that the user can act on: what is wrong, a hint how to resolve it,
//! and the kind that decides hud's exit code. Any other error is an [`anyhow::Error`], exit code 1.

use std::fmt;

/// What kind of failure ended hud; scripts tell them apart by the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Anything without a kind of its own: exit code 1.
    Failed,
    /// The command line asks for something that makes no sense: exit code 2, as clap's.
    Usage,
    /// A privilege or a permission is missing: exit code 77.
    Permission,
}

impl Kind {
    /// hud's exit code for this kind of failure.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::Permission => 77,
        }
    }
}

/// What is wrong, in one line, and what the user can do about it, if anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Decides the exit code.
    pub kind: Kind,
    /// What is wrong, without a full stop.
    pub what: String,
    /// The command to run or the change to make.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure of that kind, without a hint.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Failure {
            kind,
            what: what.into(),
            hint: None,
        }
    }

    /// Adds the hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The exit code for an error: that of the `Failure` in its chain, else 1.
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
        match &self.hint {
            Some(hint) => write!(f, "\n  {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}
