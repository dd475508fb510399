//! One thread of a census as JSON holds it, and its conversion from and to the model.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::known;
use crate::export::micros::Micros;
use crate::model::{Cause, CensusThread, Duty, Frame, ThreadWait};

/// One thread of a census.
#[derive(Serialize, Deserialize)]
pub struct CensusThreadDef<'a> {
    pub tid: u32,
    pub name: Cow<'a, str>,
    /// `running`, `stopped` or `asleep`. The next three belong to `asleep`.
    pub state: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syscall: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<u64>,
    /// Only workers have these; `held_us` and `task` only inside a poll.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_us: Option<Micros>,
    pub sf: u32,
    pub complete: bool,
}

impl<'a> CensusThreadDef<'a> {
    /// Converts from the model; `sf` is the id of its stack.
    pub fn of(thread: &'a CensusThread, sf: u32) -> Self {
        let (state, syscall, cause, lock) = match &thread.wait {
            ThreadWait::Running => ("running", None, None, None),
            ThreadWait::Stopped => ("stopped", None, None, None),
            ThreadWait::Asleep {
                syscall,
                cause,
                lock,
            } => (
                "asleep",
                Some(syscall.as_str().into()),
                Some(cause.as_str().into()),
                *lock,
            ),
        };
        let worker = thread.duty.worker();
        let (task, held_us) = match thread.duty {
            Duty::Polling { task, held_ns, .. } => (task, Some(Micros(held_ns))),
            _ => (None, None),
        };
        CensusThreadDef {
            tid: thread.tid,
            name: thread.name.as_str().into(),
            state: state.into(),
            syscall,
            cause,
            lock,
            runtime: worker.map(|(runtime, _)| runtime),
            worker: worker.and_then(|(_, index)| index),
            task,
            held_us,
            sf,
            complete: thread.complete,
        }
    }

    /// Converts it to the model, with its stack.
    ///
    /// # Errors
    /// A message about the value that is invalid.
    pub fn into_model(self, frames: Vec<Arc<Frame>>) -> Result<CensusThread, String> {
        let wait = match (&*self.state, self.syscall, self.cause) {
            ("running", _, _) => ThreadWait::Running,
            ("stopped", _, _) => ThreadWait::Stopped,
            ("asleep", Some(syscall), Some(cause)) => ThreadWait::Asleep {
                syscall: syscall.into_owned(),
                cause: known("cause", &cause, Cause::from_name)?,
                lock: self.lock,
            },
            (state, ..) => return Err(format!("unknown state of a thread {state:?}")),
        };
        let index = self.worker;
        let duty = match (self.runtime, self.held_us) {
            (Some(runtime), Some(Micros(held_ns))) => Duty::Polling {
                runtime,
                index,
                task: self.task,
                held_ns,
            },
            (Some(runtime), None) => Duty::Parked { runtime, index },
            (None, _) => Duty::Other,
        };
        Ok(CensusThread {
            tid: self.tid,
            name: self.name.into(),
            wait,
            duty,
            frames,
            complete: self.complete,
        })
    }
}
