//! What to do about a culprit, by its cause.

use crate::model::Cause;

/// One sentence; None where nothing general can be said.
pub fn advice(cause: Cause) -> Option<&'static str> {
    Some(match cause {
        Cause::Cpu => {
            "It computes inside a poll: move it to tokio::task::spawn_blocking or a thread pool, or \
             split it with yield_now."
        }
        Cause::Lock => {
            "It waits for another thread inside a poll: shorten what the lock protects, or use the \
             locks and channels of tokio::sync."
        }
        Cause::FileIo => "It uses files inside a poll: move it to tokio::task::spawn_blocking.",
        Cause::Sleep => "It puts the whole worker to sleep: use tokio::time::sleep.",
        Cause::Network => {
            "It uses a blocking socket or resolver: use tokio::net, or move it to \
             tokio::task::spawn_blocking."
        }
        Cause::Pipe => "It blocks on a pipe: use tokio::net::unix::pipe or tokio::process.",
        Cause::ChildProcess => "It starts or waits for a process: use tokio::process.",
        Cause::PageFault => {
            "It waits for memory: touch less new memory per poll, or move it to \
             tokio::task::spawn_blocking."
        }
        Cause::RunQueue => "The workers had no CPU: fewer busy threads, or more CPU for them.",
        Cause::Stopped | Cause::Unknown => return None,
    })
}
