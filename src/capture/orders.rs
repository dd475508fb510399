//! Orders to the ring thread, in the one channel that leads to it.
//!
//! How polls are tracked is fixed in the loaded programs, and all that the kernel side knows of
//! workers and polls rests on it. To track them in another way the ring thread ends the capture and
//! begins another: [`Order::Reload`]. All other orders change the capture that runs.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use super::frames::FrameOrder;
use crate::model::Tier;
use crate::tokio::TokioLayout;

/// How polls are tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackingMode {
    /// Through Tokio's own state, which this layout locates.
    State(TokioLayout),
    /// By return addresses on the workers' stacks (tier 4).
    Frames,
    /// Not at all: the scheduler's counters of the threads are reported (tier 5).
    LoadOnly,
}

impl TrackingMode {
    /// Where Tokio keeps its state, if polls are tracked through it.
    pub fn layout(&self) -> Option<&TokioLayout> {
        match self {
            TrackingMode::State(layout) => Some(layout),
            TrackingMode::Frames | TrackingMode::LoadOnly => None,
        }
    }

    /// The tier that this mode reports.
    pub fn tier(&self) -> Tier {
        match self {
            TrackingMode::State(layout) => layout.tier(),
            TrackingMode::Frames => Tier::Frames,
            TrackingMode::LoadOnly => Tier::Scheduler,
        }
    }
}

/// An order to the ring thread.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// End this capture and begin another that tracks polls in this mode. Orders for the old capture
    /// that are still queued are discarded. [`super::Drained::Restarted`] follows once the new one
    /// is attached.
    Reload(TrackingMode),
    /// The scheduling ticks lie where this layout says. All else of it is as it was loaded.
    CoreTicks(TokioLayout),
    /// Tier 4.
    Frames(FrameOrder),
    /// Sample all poll time from now on, or no longer; stays in force across captures.
    /// [`super::Drained::AllPollTime`] follows.
    AllPollTime(bool),
    /// Detach and end.
    Stop,
}

impl Order {
    /// Whether it is meant for the capture that runs now, not for the session.
    fn ends_with_capture(&self) -> bool {
        match self {
            Order::CoreTicks(_) | Order::Frames(_) | Order::Reload(_) => true,
            Order::AllPollTime(_) | Order::Stop => false,
        }
    }
}

/// The ring thread's end of the channel.
pub(super) struct OrderQueue {
    orders: Receiver<Order>,
    /// Received and not carried out yet.
    queue: VecDeque<Order>,
}

impl OrderQueue {
    pub fn new(orders: Receiver<Order>) -> Self {
        OrderQueue {
            orders,
            queue: VecDeque::new(),
        }
    }

    /// The next order, if there is one. Stop comes before all others.
    pub fn next(&mut self) -> Option<Order> {
        self.receive();
        self.queue.pop_front()
    }

    /// Whether the thread is to end.
    pub fn is_stopped(&mut self) -> bool {
        self.receive();
        self.queue.front() == Some(&Order::Stop)
    }

    /// Waits until an order arrives, at most that long.
    pub fn wait(&mut self, timeout: Duration) {
        if !self.queue.is_empty() {
            return;
        }
        match self.orders.recv_timeout(timeout) {
            Ok(order) => self.push(order),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => self.push(Order::Stop),
        }
    }

    fn receive(&mut self) {
        loop {
            match self.orders.try_recv() {
                Ok(order) => self.push(order),
                Err(TryRecvError::Empty) => return,
                // Nobody is left who could end the thread.
                Err(TryRecvError::Disconnected) => return self.push(Order::Stop),
            }
        }
    }

    fn push(&mut self, order: Order) {
        match order {
            Order::Stop => {
                self.queue.clear();
                self.queue.push_front(Order::Stop);
            }
            Order::Reload(_) => {
                self.queue.retain(|queued| !queued.ends_with_capture());
                self.queue.push_back(order);
            }
            _ => self.queue.push_back(order),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    fn queue() -> (Sender<Order>, OrderQueue) {
        let (sender, orders) = channel();
        (sender, OrderQueue::new(orders))
    }

    fn paths() -> Order {
        Order::Frames(FrameOrder::Paths(Vec::new()))
    }

    fn all(queue: &mut OrderQueue) -> Vec<Order> {
        std::iter::from_fn(|| queue.next()).collect()
    }

    #[test]
    fn a_reload_discards_what_was_queued_for_the_old_capture() {
        let (sender, mut queue) = queue();
        let reload = |mode| Order::Reload(mode);
        for order in [
            paths(),
            Order::AllPollTime(true),
            reload(TrackingMode::LoadOnly),
            reload(TrackingMode::Frames),
            paths(),
        ] {
            sender.send(order).unwrap();
        }
        let kept = [
            Order::AllPollTime(true),
            reload(TrackingMode::Frames),
            paths(),
        ];
        assert_eq!(all(&mut queue), kept);
    }

    #[test]
    fn stop_comes_before_everything_else() {
        let (sender, mut queue) = queue();
        sender.send(Order::Reload(TrackingMode::Frames)).unwrap();
        assert!(!queue.is_stopped());
        sender.send(Order::Stop).unwrap();
        assert!(queue.is_stopped());
        assert_eq!(all(&mut queue), [Order::Stop]);
    }

    #[test]
    fn an_order_ends_the_wait() {
        let (sender, mut queue) = queue();
        queue.wait(Duration::from_millis(1));
        assert_eq!(queue.next(), None);
        sender.send(paths()).unwrap();
        let begun = std::time::Instant::now();
        queue.wait(Duration::from_secs(60));
        assert!(begun.elapsed() < Duration::from_secs(30));
        assert_eq!(queue.next(), Some(paths()));
    }

    #[test]
    fn the_thread_ends_when_nobody_can_order_it_to() {
        let (sender, mut queue) = queue();
        sender.send(paths()).unwrap();
        drop(sender);
        assert!(queue.is_stopped());
    }
}
