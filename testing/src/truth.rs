//! What a scenario wrote about its own polls. `examples/scenarios/truth.rs` has the format.

use serde_json::Value;

/// A poll of 1 ms or more, as the program timed it from inside. Times are nanoseconds, points in time
/// on `CLOCK_MONOTONIC`.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    pub tid: u32,
    pub start_ns: u64,
    /// None for a poll that never ends.
    pub end_ns: Option<u64>,
    /// CPU time, by the thread's own clock.
    pub on_cpu_ns: u64,
    /// Time the thread was runnable and waited for a CPU, by the scheduler's count.
    pub run_queue_ns: u64,
    /// How often the thread went to sleep.
    pub sleeps: u64,
    /// The function that blocked; empty where none did.
    pub function: String,
    /// Why, in hud's words; empty where `function` is.
    pub cause: String,
    /// What the block held up.
    pub holds: Holds,
}

/// What could not run while a poll blocked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Holds {
    /// A worker, and with it other tasks.
    Worker,
    /// The rest of the root future of a `multi_thread` runtime.
    Root,
    #[default]
    Nothing,
}

impl Truth {
    /// Reads a line of a truth file.
    ///
    /// # Panics
    ///
    /// If the line is not in the format.
    pub fn parse(line: &str) -> Truth {
        let value: Value = serde_json::from_str(line).unwrap();
        let count = |name: &str| value[name].as_u64().unwrap_or(0);
        let text = |name: &str| value[name].as_str().unwrap_or("").to_owned();
        Truth {
            tid: value["tid"].as_u64().unwrap() as u32,
            start_ns: value["start_ns"].as_u64().unwrap(),
            end_ns: value["end_ns"].as_u64(),
            on_cpu_ns: count("on_cpu_ns"),
            run_queue_ns: count("run_queue_ns"),
            sleeps: count("sleeps"),
            function: text("function"),
            cause: text("cause"),
            holds: match value["holds"].as_str() {
                Some("worker") => Holds::Worker,
                Some("root") => Holds::Root,
                _ => Holds::Nothing,
            },
        }
    }

    /// Wall time; none for a poll that never ends.
    pub fn wall_ns(&self) -> Option<u64> {
        self.end_ns.map(|end| end.saturating_sub(self.start_ns))
    }

    /// Time asleep. A hypervisor that takes the CPU away stops the thread without a sleep, and its time
    /// counts as none of the three; so without a sleep this is 0.
    pub fn asleep_ns(&self) -> u64 {
        match self.sleeps {
            0 => 0,
            _ => self
                .wall_ns()
                .unwrap_or(0)
                .saturating_sub(self.on_cpu_ns + self.run_queue_ns),
        }
    }
}
