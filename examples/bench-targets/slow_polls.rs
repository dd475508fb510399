//! Polls that each hold their worker a little longer than hud's default threshold, at a steady rate.

use std::io;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::time::{MissedTickBehavior, interval};

use crate::COUNTER;

/// How long each poll sleeps.
const HELD: Duration = Duration::from_millis(6);

/// Starts so many slow polls a second, spread over the workers; it runs until the counter says stop.
pub fn start(workers: usize, rate: u32) -> io::Result<Runtime> {
    let runtime = crate::runtime(workers)?;
    let period = Duration::from_secs(workers as u64) / rate.max(1);
    for _ in 0..workers {
        runtime.spawn(async move {
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                std::thread::sleep(HELD);
                if !COUNTER.add(1) {
                    break;
                }
            }
        });
    }
    Ok(runtime)
}
