//! Decides when to listen to wake-ups.
//!
//! A program on `sched_waking` is in the path of every wake-up of the whole machine, and it has
//! something to report only where slow polls wait. So it is attached at the first long wait, and
//! detached once none was seen for a while: a healthy service pays nothing for it.

use std::time::{Duration, Instant};

/// How long to listen after the last long wait.
const LISTEN_FOR: Duration = Duration::from_secs(60);

/// When the last long wait was seen.
#[derive(Debug, Default)]
pub struct Wakes {
    /// Long waits in slow polls, as counted so far.
    long_waits: u64,
    until: Option<Instant>,
}

impl Wakes {
    /// Whether to listen from now on. `long_waits` have ended so far; `one_lasts`: another has not.
    pub fn should_listen(&mut self, now: Instant, long_waits: u64, one_lasts: bool) -> bool {
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
    fn hud_listens_for_a_while_after_a_long_wait() {
        let mut wakes = Wakes::default();
        let start = Instant::now();
        assert!(!wakes.should_listen(start, 0, false));
        assert!(wakes.should_listen(start, 1, false));
        assert!(wakes.should_listen(start + LISTEN_FOR / 2, 1, false));
        assert!(wakes.should_listen(start + LISTEN_FOR / 2, 2, false));
        assert!(wakes.should_listen(start + LISTEN_FOR, 2, false));
        assert!(!wakes.should_listen(start + LISTEN_FOR * 2, 2, false));
        assert!(wakes.should_listen(start + LISTEN_FOR * 2, 2, true));
    }
}
