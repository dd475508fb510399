//! Tasks that compute in every poll for longer than hud's default threshold, one after another: the
//! workers never leave the CPU of themselves.

use std::hint::black_box;
use std::io;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::COUNTER;

/// How long each poll computes.
const HELD: Duration = Duration::from_millis(20);
/// Rounds of a multiplication each, some 20 us, that count as one operation.
const ROUNDS: u64 = 10_000;

/// Starts so many tasks; they run until the counter says stop.
pub fn start(workers: usize, tasks: usize) -> io::Result<Runtime> {
    let runtime = crate::runtime(workers)?;
    for _ in 0..tasks {
        runtime.spawn(async {
            loop {
                let begun = Instant::now();
                while begun.elapsed() < HELD {
                    let product = (1..ROUNDS).fold(1_u64, |x, i| black_box(x.wrapping_mul(i | 1)));
                    black_box(product);
                    if !COUNTER.add(1) {
                        return;
                    }
                }
                tokio::task::yield_now().await;
            }
        });
    }
    Ok(runtime)
}
