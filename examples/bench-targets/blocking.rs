//! Two tasks, each on a thread and a current_thread runtime of its own, that block inside their
//! polls: they bounce a byte through pipes, and each op is a sleep of one and a wake of the other.

use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::time::Duration;

use crate::COUNTER;
use crate::ping_pong::Players;

/// Starts the game; it runs until the counter says stop. A poll lasts for `blocks_per_poll`, with a
/// sleep of `pause` before each where it is not zero.
pub fn start(blocks_per_poll: u32, pause: Duration) -> io::Result<Players> {
    let (ping, to_ping) = io::pipe()?;
    let (pong, to_pong) = io::pipe()?;
    // The first ball.
    (&to_ping).write_all(&[0])?;
    let mut players = Players::default();
    for (name, receive, send) in [("ping", ping, to_pong), ("pong", pong, to_ping)] {
        players.add(name, play(receive, send, blocks_per_poll, pause))?;
    }
    Ok(players)
}

/// Returns every byte, until it is time to stop or the other side has.
async fn play(
    mut receive: PipeReader,
    mut send: PipeWriter,
    blocks_per_poll: u32,
    pause: Duration,
) {
    let mut ball = [0];
    loop {
        for _ in 0..blocks_per_poll {
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
            let returned = receive
                .read_exact(&mut ball)
                .and_then(|()| send.write_all(&ball));
            if returned.is_err() || !COUNTER.add(1) {
                return;
            }
        }
        tokio::task::yield_now().await;
    }
}
