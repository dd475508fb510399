//! The events of the trace as they stand in the file. Private to the module: everything else
//! speaks in records.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::micros::Micros;
use crate::model::{Cause, CensusThread, Duty, Frame, Header, SelfCost, ThreadWait, WorkerUsage};

/// What `otherData.format` says.
pub const FORMAT: &str = "hud";
/// Readers refuse what is newer than they know.
pub const FORMAT_VERSION: u32 = 1;
/// The category that marks a slow poll.
pub const SLOW_POLL: &str = "slow_poll";

/// One element of `traceEvents`. `args` is what any viewer shows, `hud` what only hud reads.
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

fn none<A>() -> Option<A> {
    None
}

impl<'a, A> Event<'a, A> {
    /// An event with nothing but its phase and name.
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

/// The records that are not slow polls, and the dictionary of frames.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extra<'a> {
    Worker {
        #[serde(default)]
        index: Option<u32>,
        runtime: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        flavor: Option<Cow<'a, str>>,
        thread_name: Cow<'a, str>,
    },
    WorkerGone {},
    Usage(Usage),
    Losses(BTreeMap<Cow<'a, str>, u64>),
    Cost(Cost),
    Tier {
        tier: u8,
        why: Cow<'a, str>,
    },
    End {
        reason: Cow<'a, str>,
    },
    Census {
        words: Vec<Cow<'a, str>>,
        threads: Vec<SeenThread<'a>>,
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

/// A stack of all poll time, with the code that it is put down to.
#[derive(Serialize, Deserialize)]
pub struct ProfiledRef<'a> {
    pub sf: u32,
    pub weight_us: Micros,
    pub cause: Cow<'a, str>,
    pub complete: bool,
    pub function: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Place<'a>>,
}

/// One thread of a census.
#[derive(Serialize, Deserialize)]
pub struct SeenThread<'a> {
    pub tid: u32,
    pub name: Cow<'a, str>,
    /// `running`, `stopped` or `asleep`; the next three go with the last.
    pub state: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syscall: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<u64>,
    /// Of workers; `held_us` only inside a poll, and `task` only there.
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

impl<'a> SeenThread<'a> {
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
        SeenThread {
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

    /// The thread, with its stack; the error says what makes no sense.
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

/// Cumulative, as in the record.
#[derive(Serialize, Deserialize)]
pub struct Usage {
    pub on_cpu_us: Micros,
    pub run_queue_us: Micros,
    pub blocked_us: Micros,
    pub parked_us: Micros,
    #[serde(default, skip_serializing_if = "Micros::is_zero")]
    pub asleep_us: Micros,
    pub polls_observed: u64,
    pub longest_poll_us: Micros,
}

impl Usage {
    pub fn of(usage: &WorkerUsage) -> Self {
        Usage {
            on_cpu_us: Micros(usage.on_cpu_ns),
            run_queue_us: Micros(usage.run_queue_ns),
            blocked_us: Micros(usage.blocked_ns),
            parked_us: Micros(usage.parked_ns),
            asleep_us: Micros(usage.asleep_ns),
            polls_observed: usage.polls_observed,
            longest_poll_us: Micros(usage.longest_poll_ns),
        }
    }

    pub fn into_model(self, tid: u32, at: Micros) -> WorkerUsage {
        WorkerUsage {
            tid,
            at_ns: at.0,
            on_cpu_ns: self.on_cpu_us.0,
            run_queue_ns: self.run_queue_us.0,
            blocked_ns: self.blocked_us.0,
            parked_ns: self.parked_us.0,
            asleep_ns: self.asleep_us.0,
            polls_observed: self.polls_observed,
            longest_poll_ns: self.longest_poll_us.0,
        }
    }
}

#[derive(Serialize, Deserialize)]
pub struct Cost {
    pub at_us: Micros,
    pub cpu_us: Micros,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bpf_us: Option<Micros>,
    pub peak_rss_bytes: u64,
}

impl Cost {
    pub fn of(cost: &SelfCost) -> Self {
        Cost {
            at_us: Micros(cost.at_ns),
            cpu_us: Micros(cost.cpu_ns),
            bpf_us: cost.bpf_ns.map(Micros),
            peak_rss_bytes: cost.peak_rss,
        }
    }

    pub fn into_model(self) -> SelfCost {
        SelfCost {
            at_ns: self.at_us.0,
            cpu_ns: self.cpu_us.0,
            bpf_ns: self.bpf_us.map(|us| us.0),
            peak_rss: self.peak_rss_bytes,
        }
    }
}

/// Frames and stacks that later events refer to.
#[derive(Default, Serialize, Deserialize)]
pub struct NewFrames<'a> {
    /// Everything before is forgotten: ids begin anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reset: bool,
    pub frames: Vec<FrameDef<'a>>,
    pub nodes: Vec<NodeDef>,
}

#[derive(Serialize, Deserialize)]
pub struct FrameDef<'a> {
    pub id: u32,
    pub name: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Place<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<Cow<'a, str>>,
    pub origin: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inlined: bool,
    /// Of a frame without a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<u64>,
    /// Of its module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_id: Option<Cow<'a, str>>,
}

/// `[id, parent, frame]`: the frame called by the stack `parent`; 0 is the empty stack.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct NodeDef(pub u32, pub u32, pub u32);

#[derive(Serialize, Deserialize)]
pub struct Place<'a> {
    pub file: Cow<'a, str>,
    pub line: u32,
}

/// `args` of a slow poll.
#[derive(Serialize, Deserialize)]
pub struct SlowArgs<'a> {
    pub cause: Cow<'a, str>,
    #[serde(default)]
    pub task: Option<u64>,
    #[serde(default)]
    pub worker: Option<u32>,
    pub runtime: u32,
    pub on_cpu_us: Micros,
    pub run_queue_us: Micros,
    pub blocked_us: Micros,
    pub causes: Vec<CauseTime<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Place<'a>>,
    #[serde(default)]
    pub chain: Vec<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub running: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub began_before_attach: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub throttled: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stolen: bool,
    /// The heaviest stack for people and other programs; hud reads `stacks`.
    #[serde(default)]
    pub stack: Vec<Cow<'a, str>>,
    pub stacks: Vec<StackRef<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_by: Option<Released<'a>>,
}

/// Who ended the longest wait of a slow poll.
#[derive(Serialize, Deserialize)]
pub struct Released<'a> {
    pub tid: u32,
    pub thread: Cow<'a, str>,
    pub how: Cow<'a, str>,
    pub wait_us: Micros,
    pub function: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Place<'a>>,
    #[serde(default)]
    pub chain: Vec<Cow<'a, str>>,
    pub sf: u32,
}

#[derive(Serialize, Deserialize)]
pub struct CauseTime<'a> {
    pub cause: Cow<'a, str>,
    pub us: Micros,
}

#[derive(Serialize, Deserialize)]
pub struct StackRef<'a> {
    pub sf: u32,
    pub weight_us: Micros,
    pub activity: Cow<'a, str>,
    pub cause: Cow<'a, str>,
    pub complete: bool,
}

/// The head of the file.
#[derive(Serialize, Deserialize)]
pub struct OtherData<'a> {
    pub format: Cow<'a, str>,
    pub format_version: u32,
    #[serde(flatten)]
    pub header: Head<'a>,
}

/// What was recorded.
#[derive(Serialize, Deserialize)]
pub struct Head<'a> {
    pub hud_version: Cow<'a, str>,
    pub pid: u32,
    pub process: Cow<'a, str>,
    pub command: Cow<'a, str>,
    pub executable: Cow<'a, str>,
    pub tokio_version: Option<Cow<'a, str>>,
    pub tier: u8,
    pub tier_text: Cow<'a, str>,
    /// Whole nanoseconds: times in the head are not on the viewer's axis.
    pub threshold_ns: u64,
    pub start_ns: u64,
    pub start_unix_ns: u64,
    /// The same as a date, for people.
    pub start_time: Cow<'a, str>,
}

impl<'a> OtherData<'a> {
    pub fn of(header: &'a Header) -> Self {
        let start_time = jiff::Timestamp::from_nanosecond(header.start_unix_ns.into());
        OtherData {
            format: FORMAT.into(),
            format_version: FORMAT_VERSION,
            header: Head {
                hud_version: header.hud_version.as_str().into(),
                pid: header.pid,
                process: header.process.as_str().into(),
                command: header.command.as_str().into(),
                executable: header.executable.as_str().into(),
                tokio_version: header.tokio_version.as_deref().map(Cow::from),
                tier: header.tier.number(),
                tier_text: header.tier.describe().into(),
                threshold_ns: header.threshold_ns,
                start_ns: header.start_ns,
                start_unix_ns: header.start_unix_ns,
                start_time: start_time.map_or_else(|_| "".into(), |t| t.to_string().into()),
            },
        }
    }
}

/// What a name in the file stands for; the error says that it stands for nothing.
pub fn known<T>(
    what: &str,
    name: &str,
    from_name: impl Fn(&str) -> Option<T>,
) -> Result<T, String> {
    from_name(name).ok_or_else(|| format!("unknown {what} {name:?}"))
}
