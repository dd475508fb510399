//! `otherData`, the head of a trace: the format, and what was recorded.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::model::{Header, Tier};

/// The value of `otherData.format`.
pub const FORMAT: &str = "hud";
/// Readers refuse a higher version than theirs.
pub const FORMAT_VERSION: u32 = 1;

/// The whole of `otherData`, without `losses`.
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
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub layout_learnt: bool,
    /// Whole nanoseconds, since viewers do not draw these times.
    pub threshold_ns: u64,
    pub start_ns: u64,
    pub start_unix_ns: u64,
    /// `start_unix_ns` as a date; nothing reads it back.
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
                layout_learnt: header.tier == Tier::Learnt,
                threshold_ns: header.threshold_ns,
                start_ns: header.start_ns,
                start_unix_ns: header.start_unix_ns,
                start_time: start_time.map_or_else(|_| "unknown".into(), |t| t.to_string().into()),
            },
        }
    }
}
