//! A change of how polls are known, on its way from the analysis to the ring thread.
//!
//! How they are known is fixed in the loaded programs, and all that the kernel side knows of workers
//! and polls rests on it. So the ring thread ends the capture and begins another one.

use std::sync::{Arc, Mutex, PoisonError};

use crate::target::layout::TokioLayout;

/// Where Tokio keeps its state; None: polls are known by the workers' frames.
type Tracked = Option<TokioLayout>;

/// Shared by the analysis and the ring thread.
#[derive(Clone, Debug, Default)]
pub struct Change(Arc<Mutex<Option<Tracked>>>);

impl Change {
    /// Polls are to be known by this layout from now on; None: by the workers' frames. From the
    /// first [`super::Drained::Anew`] that follows on, all is of the new capture.
    pub fn order(&self, layout: Tracked) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(layout);
    }

    pub(super) fn take(&self) -> Option<Tracked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
