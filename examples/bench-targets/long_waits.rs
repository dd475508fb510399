//! A worker that sleeps inside a poll now and then, beside what is measured: hud listens to wake-ups
//! only where slow polls wait.

use std::io;
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time::sleep;

use crate::COUNTER;

/// How long each poll sleeps, and how far apart they are.
const HELD: Duration = Duration::from_millis(20);
const EVERY: Duration = Duration::from_millis(200);

/// Starts a runtime of its own; it runs until the counter says stop.
pub fn start() -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_time().build()?;
    thread::spawn(move || {
        runtime.block_on(async {
            while COUNTER.add(0) {
                thread::sleep(HELD);
                sleep(EVERY).await;
            }
        });
    });
    Ok(())
}
