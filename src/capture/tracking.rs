//! How polls are known, and the order to know them in another way, from the analysis to the ring
//! thread.
//!
//! How they are known is fixed in the loaded programs, and all that the kernel side knows of workers
//! and polls rests on it. So the ring thread ends the capture and begins another one.

use std::sync::{Arc, Mutex, PoisonError};

use crate::tokio::TokioLayout;

/// What polls are known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracking {
    /// Tokio's own state, which lies there.
    State(TokioLayout),
    /// The workers' frames.
    Frames,
    /// Nothing: only what the scheduler says of the threads is told.
    Nothing,
}

impl Tracking {
    /// Where Tokio keeps its state, if polls are known by it.
    pub fn layout(&self) -> Option<&TokioLayout> {
        match self {
            Tracking::State(layout) => Some(layout),
            Tracking::Frames | Tracking::Nothing => None,
        }
    }
}

/// Shared by the analysis and the ring thread.
#[derive(Clone, Debug, Default)]
pub struct Change(Arc<Mutex<Option<Tracking>>>);

impl Change {
    /// Polls are to be known that way from now on. From the first [`super::Drained::Anew`] that
    /// follows on, all is of the new capture.
    pub fn order(&self, tracking: Tracking) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(tracking);
    }

    pub(super) fn take(&self) -> Option<Tracking> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
