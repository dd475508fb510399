//! When wake-ups are worth listening to.
//!
//! A program on `sched_waking` is in the path of every wake-up of the whole machine. It has
//! something to tell only where slow polls wait, so it is attached by the first long wait that is
//! seen, and detached once none was for a while: a healthy service pays nothing for it.

use std::time::{Duration, Instant};

/// How long after the last long wait wake-ups are listened to.
const LISTEN_FOR: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Wakes {
    /// Long waits in slow polls, as counted so far.
    long_waits: u64,
    until: Option<Instant>,
}

impl Wakes {
    /// Whether to listen from now on: `long_waits` have ended so far, and one lasts at this moment
    /// if `one_lasts`.
    pub fn are_wanted(&mut self, now: Instant, long_waits: u64, one_lasts: bool) -> bool {
        if one_lasts || long_waits != self.long_waits {
            self.long_waits = long_waits;
            self.until = Some(now + LISTEN_FOR);
        }
        self.until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_wait_is_followed_by_a_time_of_listening() {
        let mut wakes = Wakes::default();
        let start = Instant::now();
        assert!(!wakes.are_wanted(start, 0, false));
        assert!(wakes.are_wanted(start, 1, false));
        assert!(wakes.are_wanted(start + LISTEN_FOR / 2, 1, false));
        assert!(wakes.are_wanted(start + LISTEN_FOR / 2, 2, false));
        assert!(wakes.are_wanted(start + LISTEN_FOR, 2, false));
        assert!(!wakes.are_wanted(start + LISTEN_FOR * 2, 2, false));
        assert!(wakes.are_wanted(start + LISTEN_FOR * 2, 2, true));
    }
}
