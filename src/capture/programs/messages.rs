//! What libbpf has to say, the verifier's log included, goes to hud's own log.

use libbpf_rs::{PrintLevel, set_print};

/// Sends libbpf's messages to the log from now on: its own way out is standard error.
pub fn to_log() {
    // Everything at the level of debugging: what fails is also an error, which is told properly.
    set_print(Some((PrintLevel::Debug, |_, message| {
        log::debug!("{}", message.trim_end());
    })));
}
