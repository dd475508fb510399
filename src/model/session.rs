//! What was recorded and how: the header and the end of a session, and its tiers.

use super::named_enum::named_enum;

/// How hud knows where polls begin and end: the best that this target allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// Tier 1: field offsets from the target's own debug info.
    DebugInfo,
    /// Tier 2: Tokio's symbol, with offsets from a version table that the live process confirms.
    VersionTable,
    /// Tier 3: no symbols, but the offsets of the table fit one place in thread-local memory.
    Scan,
    /// Tier 3 as well: no known offsets fit, so they were learnt from what the workers do.
    Learnt,
    /// Tier 4: return addresses on the workers' stacks show where their loops call into polls.
    Frames,
    /// Tier 5: scheduler latency alone.
    Scheduler,
}

impl Tier {
    /// Best first.
    pub const ALL: [Tier; 6] = [
        Tier::DebugInfo,
        Tier::VersionTable,
        Tier::Scan,
        Tier::Learnt,
        Tier::Frames,
        Tier::Scheduler,
    ];

    /// From 1, the best, to 5.
    pub fn number(self) -> u8 {
        match self {
            Tier::DebugInfo => 1,
            Tier::VersionTable => 2,
            Tier::Scan | Tier::Learnt => 3,
            Tier::Frames => 4,
            Tier::Scheduler => 5,
        }
    }

    /// Tier of that number; `learnt` distinguishes the two of number 3.
    pub fn from_number(n: u8, learnt: bool) -> Option<Tier> {
        let is_it =
            |tier: &Tier| tier.number() == n && (*tier == Tier::Learnt) == (learnt && n == 3);
        Tier::ALL.into_iter().find(is_it)
    }

    /// What it rests on, in a few words.
    pub fn describe(self) -> &'static str {
        match self {
            Tier::DebugInfo => "exact polls, layout from debug info",
            Tier::VersionTable => "exact polls, layout from the version table, checked live",
            Tier::Scan => "exact polls, layout found by shape",
            Tier::Learnt => "exact polls, layout learnt from what the workers do",
            Tier::Frames => "polls known by the workers' stacks alone",
            Tier::Scheduler => "scheduler latency only",
        }
    }
}

/// What was recorded, and how: the first record of every session.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    pub hud_version: String,
    pub pid: u32,
    /// The process's name (`comm`).
    pub process: String,
    /// The command line, arguments separated by spaces.
    pub command: String,
    /// Path of the executable.
    pub executable: String,
    /// Tokio's version, where the binary says.
    pub tokio_version: Option<String>,
    pub tier: Tier,
    pub threshold_ns: u64,
    /// When hud attached, on `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// The same moment as Unix time.
    pub start_unix_ns: u64,
}

named_enum! {
    /// Why a session ended.
    pub enum EndReason {
        /// `--duration` has passed.
        Duration = "duration",
        /// Ctrl+C, SIGTERM, SIGHUP or `q`.
        Interrupted = "interrupted",
        /// The target process exited.
        TargetExited = "target_exited",
        /// hud itself failed: its exit code is not 0.
        Failed = "failed",
    }
}
