//! Identities of table rows. A selection is such a key, so it stays on its row when sorting moves it.

use std::sync::Arc;

use crate::model::{Cause, Location, Name, SlowPoll};
use crate::text;

/// What slow polls are grouped by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Group {
    /// Function, what it called, cause and location: the finest.
    #[default]
    Culprit,
    /// The culprit's function.
    Function,
    /// The source file of the culprit.
    File,
    /// The main cause.
    Cause,
    /// The task's future: the outermost function of the async chain.
    Future,
    /// Tokio's task id.
    Task,
}

impl Group {
    /// In the order in which views cycle through them.
    pub const ALL: [Group; 6] = [
        Group::Culprit,
        Group::Function,
        Group::File,
        Group::Cause,
        Group::Future,
        Group::Task,
    ];

    /// The heading of the column with the rows' names.
    pub fn as_str(self) -> &'static str {
        match self {
            Group::Culprit => "culprit",
            Group::Function => "function",
            Group::File => "file",
            Group::Cause => "cause",
            Group::Future => "future",
            Group::Task => "task",
        }
    }
}

/// What the polls of a row held, and who is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Code held a worker.
    Worker,
    /// Code held a root future, and with it all that is joined in that future.
    Root,
    /// The poll was held up from outside: by the run queue, or a stop.
    Outside,
}

impl Kind {
    /// The kind of a poll.
    pub fn of(poll: &SlowPoll) -> Kind {
        match (poll.cause.blames_code(), poll.root) {
            (false, _) => Kind::Outside,
            (true, Some(_)) => Kind::Root,
            (true, None) => Kind::Worker,
        }
    }

    /// Whether the code itself is to blame.
    pub fn blames_code(self) -> bool {
        self != Kind::Outside
    }
}

/// Identity of a culprit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CulpritKey {
    pub kind: Kind,
    pub function: Name,
    pub calls: Option<Name>,
    pub cause: Cause,
    pub location: Option<Location>,
}

/// Identity of a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RowKey {
    Culprit(Arc<CulpritKey>),
    Function(Name, Kind),
    File(Option<Arc<str>>, Kind),
    Cause(Cause, Kind),
    Future(Name, Kind),
    Task(Option<u64>, Kind),
    /// All rows beyond the table's limit.
    Other(Kind),
}

impl RowKey {
    /// The row a poll belongs to.
    pub fn of(poll: &SlowPoll, group: Group) -> RowKey {
        let kind = Kind::of(poll);
        let culprit = &poll.culprit;
        match group {
            Group::Culprit => RowKey::Culprit(Arc::new(CulpritKey {
                kind,
                function: culprit.function.clone(),
                calls: culprit.calls.clone(),
                cause: poll.cause,
                location: culprit.location.clone(),
            })),
            Group::Future => {
                let future = culprit.chain.last().unwrap_or(&culprit.function);
                RowKey::Future(future.clone(), kind)
            }
            Group::Task => RowKey::Task(poll.task, kind),
            Group::Cause => RowKey::Cause(poll.cause, kind),
            Group::File => {
                let file = culprit.location.as_ref().map(|l| l.file.clone());
                RowKey::File(file, kind)
            }
            Group::Function => RowKey::Function(culprit.function.clone(), kind),
        }
    }

    /// Whether a poll belongs to this row. `Other` does not know its polls.
    pub fn matches(&self, poll: &SlowPoll) -> bool {
        let culprit = &poll.culprit;
        Kind::of(poll) == self.kind()
            && match self {
                RowKey::Culprit(key) => {
                    key.cause == poll.cause
                        && key.function == culprit.function
                        && key.calls == culprit.calls
                        && key.location == culprit.location
                }
                RowKey::Function(name, _) => *name == culprit.function,
                RowKey::File(file, _) => {
                    file.as_ref() == culprit.location.as_ref().map(|l| &l.file)
                }
                RowKey::Cause(cause, _) => *cause == poll.cause,
                RowKey::Future(name, _) => {
                    name == culprit.chain.last().unwrap_or(&culprit.function)
                }
                RowKey::Task(task, _) => *task == poll.task,
                RowKey::Other(_) => false,
            }
    }

    /// The row of a coarser grouping that includes this culprit's row; none where it cannot be
    /// determined from the culprit.
    pub fn coarsen(&self, group: Group) -> Option<RowKey> {
        let key = match self {
            RowKey::Culprit(key) => key,
            RowKey::Other(kind) => return Some(RowKey::Other(*kind)),
            _ => return None,
        };
        let kind = key.kind;
        match group {
            Group::Culprit => Some(self.clone()),
            Group::Function => Some(RowKey::Function(key.function.clone(), kind)),
            Group::File => {
                let file = key.location.as_ref().map(|l| l.file.clone());
                Some(RowKey::File(file, kind))
            }
            Group::Cause => Some(RowKey::Cause(key.cause, kind)),
            Group::Future | Group::Task => None,
        }
    }

    /// What the row's polls held.
    pub fn kind(&self) -> Kind {
        match self {
            RowKey::Culprit(key) => key.kind,
            RowKey::Cause(_, kind)
            | RowKey::Function(_, kind)
            | RowKey::File(_, kind)
            | RowKey::Future(_, kind)
            | RowKey::Task(_, kind)
            | RowKey::Other(kind) => *kind,
        }
    }

    /// The row's name in views.
    pub fn label(&self) -> Name {
        match self {
            RowKey::Culprit(key) => key.function.clone(),
            RowKey::Function(name, _) | RowKey::Future(name, _) => name.clone(),
            RowKey::File(Some(file), _) => file.clone().into(),
            RowKey::File(None, _) => "(no source known)".into(),
            RowKey::Cause(cause, _) => cause.as_str().into(),
            RowKey::Task(task, _) => text::task(*task).into(),
            RowKey::Other(_) => "(all other culprits)".into(),
        }
    }
}
