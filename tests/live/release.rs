//! The other side of a wait: hud must name the code that made others wait, and nobody where no thread of the
//! process did.

use std::collections::BTreeMap;

use testing::run::Watched;

/// hud listens to wake-ups from the first long wait on; waits that end within this time may end
/// unheard, ns.
const UNHEARD: u64 = 500_000_000;

/// The functions that block, and whom they wait for.
const RELEASERS: [(&str, Option<&str>); 6] = [
    ("block_on_lock", Some("hold_the_lock")),
    ("block_on_channel", Some("send_late")),
    ("block_on_pipe", Some("answer_late")),
    ("block_on_network", Some("answer_late")),
    ("block_on_file_io", None),
    ("block_on_sleep", None),
];

/// A run of all these functions.
pub fn check(run: &Watched) {
    // Long enough to be listened to.
    let mut long = run.polls();
    long.retain(|poll| poll.cause.blames_code() && poll.held_ns() >= 2 * run.threshold_ns());
    let first = long.iter().map(|poll| poll.end_ns).min().unwrap_or(0);
    let mut found: BTreeMap<&str, Vec<Option<&str>>> = BTreeMap::new();
    for poll in &long {
        let by = poll.released_by.as_ref();
        if by.is_some() || poll.end_ns >= first + UNHEARD {
            let function = poll.culprit.function.rsplit("::").next().unwrap();
            let by = by.map(|by| by.culprit.function.as_str());
            found.entry(function).or_default().push(by);
        }
    }
    for (function, releaser) in RELEASERS {
        let by = found.get(function).map_or(&[][..], Vec::as_slice);
        assert!(by.len() >= 5, "only {} of {function}", by.len());
        let is_right = |by: &&Option<&str>| match releaser {
            Some(name) => by.is_some_and(|by| by.ends_with(name)),
            None => by.is_none(),
        };
        let right = by.iter().filter(is_right).count();
        eprintln!("{function}: {right} of {} releasers right", by.len());
        let least = match releaser {
            Some(_) => by.len() * 95 / 100,
            None => by.len(),
        };
        assert!(right >= least, "{function}: {by:?}");
    }
    assert!(run.report.contains("released by"), "{}", run.report);
}
