//! Tasks that do nothing but yield: the runtime at its busiest, with polls of some 100 ns.

use std::io;
use tokio::runtime::Runtime;

use crate::COUNTER;

/// Counting at every poll would measure the counter's cache line.
const POLLS_PER_COUNT: u64 = 64;

/// Starts the storm; it runs until the counter says stop.
pub fn start(workers: usize, tasks: usize) -> io::Result<Runtime> {
    let runtime = crate::runtime(workers)?;
    for _ in 0..tasks {
        runtime.spawn(async {
            while COUNTER.add(POLLS_PER_COUNT) {
                for _ in 0..POLLS_PER_COUNT {
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    Ok(runtime)
}
