//! Slow polls and samples of all poll time as JSON holds them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::Place;
use crate::export::micros::Micros;

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
    /// Of a root future outside of the scheduler: how much of the poll is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub running: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub began_before_attach: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub throttled: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stolen: bool,
    /// The heaviest stack as text, for other viewers; hud reads `stacks`.
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

/// A sampled stack of all poll time, with the code it is attributed to.
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
