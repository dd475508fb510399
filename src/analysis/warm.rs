//! Whether the tables of the target's binary are read: told by the analysis, asked by the views.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Until the tables are read no stack can be named, and findings are shown without names.
#[derive(Clone, Debug, Default)]
pub struct Warm(Arc<State>);

#[derive(Debug, Default)]
struct State {
    done: AtomicBool,
    bytes: AtomicU64,
}

impl Warm {
    /// Whether names are known at once from here on.
    pub fn is_done(&self) -> bool {
        self.0.done.load(Ordering::Relaxed)
    }

    pub(super) fn set_done(&self) {
        self.0.done.store(true, Ordering::Relaxed);
    }

    /// Size of the file being read, 0 until it is known.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn set_bytes(&self, bytes: u64) {
        self.0.bytes.store(bytes, Ordering::Relaxed);
    }
}
