//! The events of a trace as JSON holds them. Private to `export`: everything else uses records.

mod census;
mod frames;
mod head;
mod slow_poll;
mod usage;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::census::CensusThreadDef;
pub use self::frames::{FrameDef, NewFrames, NodeDef, Place};
pub use self::head::{FORMAT, FORMAT_VERSION, Head, OtherData};
pub use self::slow_poll::{CauseTime, ProfiledRef, Released, SlowArgs, StackRef};
pub use self::usage::{Cost, Usage};
use super::micros::Micros;

/// The category that marks a slow poll.
pub const SLOW_POLL: &str = "slow_poll";
/// The same of a root future's busy stretch, which nothing proves to be one poll.
pub const ROOT_BUSY: &str = "root_busy";

/// One element of `traceEvents`. `args` is for every viewer, `hud` for hud alone.
#[derive(Serialize, Deserialize)]
pub struct Event<'a, A> {
    pub ph: Cow<'a, str>,
    #[serde(default)]
    pub name: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cat: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ts: Option<Micros>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dur: Option<Micros>,
    /// Scope of an instant: the thread (`t`) or the process (`p`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tid: Option<u32>,
    /// The heaviest stack, in `stackFrames`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sf: Option<Cow<'a, str>>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub args: Option<A>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hud: Option<Extra<'a>>,
}

/// `Option::default` without the bound `A: Default` that serde would add.
fn none<A>() -> Option<A> {
    None
}

impl<'a, A> Event<'a, A> {
    /// An event with its phase and name only.
    pub fn new(ph: &'a str, name: impl Into<Cow<'a, str>>) -> Self {
        Event {
            ph: ph.into(),
            name: name.into(),
            cat: None,
            ts: None,
            dur: None,
            s: None,
            pid: None,
            tid: None,
            sf: None,
            args: None,
            hud: None,
        }
    }
}

/// Every record that is not a slow poll, and definitions of frames.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extra<'a> {
    Worker {
        #[serde(default)]
        index: Option<u32>,
        runtime: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        flavor: Option<Cow<'a, str>>,
        /// Left out for workers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        role: Option<Cow<'a, str>>,
        thread_name: Cow<'a, str>,
    },
    WorkerGone {},
    Usage(Usage),
    Losses(BTreeMap<Cow<'a, str>, u64>),
    Cost(Cost),
    Tier {
        tier: u8,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        layout_learnt: bool,
        why: Cow<'a, str>,
    },
    End {
        reason: Cow<'a, str>,
    },
    Census {
        words: Vec<Cow<'a, str>>,
        threads: Vec<CensusThreadDef<'a>>,
    },
    Frames(NewFrames<'a>),
    AllPollTime {
        on: bool,
    },
    PollTime {
        from_us: Micros,
        stacks: Vec<ProfiledRef<'a>>,
    },
}

/// Parses a name from the file.
///
/// # Errors
/// A message for the user, where `from_name` does not know it.
pub fn known<T>(
    what: &str,
    name: &str,
    from_name: impl Fn(&str) -> Option<T>,
) -> Result<T, String> {
    from_name(name).ok_or_else(|| format!("unknown {what} {name:?}"))
}
