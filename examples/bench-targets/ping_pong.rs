//! Two current_thread runtimes, each on a thread of its own, that bounce one message: each op is
//! a poll, a park, and a wake-up of the other thread.

use std::io;
use std::thread::JoinHandle;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::COUNTER;

/// Threads with a runtime and a task each; waits for their end when dropped.
#[derive(Default)]
pub struct Players(Vec<JoinHandle<()>>);

impl Players {
    /// Starts a thread whose runtime polls this task alone.
    pub fn add(
        &mut self,
        name: &str,
        player: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let thread = std::thread::Builder::new().name(name.to_owned());
        let run = move || runtime.block_on(async { drop(tokio::spawn(player).await) });
        self.0.push(thread.spawn(run)?);
        Ok(())
    }
}

/// Starts the game; it runs until the counter says stop.
pub fn start() -> io::Result<Players> {
    let (to_ping, ping) = unbounded_channel();
    let (to_pong, pong) = unbounded_channel();
    // The first ball. Both receivers are still here, so it cannot be lost.
    let _ = to_ping.send(());
    let mut players = Players::default();
    for (name, receive, send) in [("ping", ping, to_pong), ("pong", pong, to_ping)] {
        players.add(name, play(receive, send))?;
    }
    Ok(players)
}

/// Returns every message, until it is time to stop or the other side has.
async fn play(mut receive: UnboundedReceiver<()>, send: UnboundedSender<()>) {
    while receive.recv().await.is_some() {
        if send.send(()).is_err() || !COUNTER.add(1) {
            break;
        }
    }
}

impl Drop for Players {
    fn drop(&mut self) {
        for player in self.0.drain(..) {
            let _ = player.join();
        }
    }
}
