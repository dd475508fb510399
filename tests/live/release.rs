//! The other side of a wait: hud must name the code that made others wait, and nobody where no
//! thread of the process did.

use crate::program::{Build, Run, Watched};

fn watch(build: &Build, scenario: &str) -> Watched {
    let arguments = ["--block-ms", "20"];
    Run::new(build, scenario)
        .arguments(&arguments)
        .seconds(3)
        .watch()
}

/// Wake-ups are listened to from the first long wait on: so long waits may end unheard, ns.
const UNHEARD: u64 = 500_000_000;

/// The functions that ended the waits of polls that held their worker for twice the threshold.
fn releasers(run: &Watched) -> Vec<Option<String>> {
    let polls = run.polls().into_iter();
    let long: Vec<_> = polls
        .filter(|poll| poll.cause.blames_code() && poll.held_ns() >= 10_000_000)
        .collect();
    let first = long.iter().map(|poll| poll.end_ns).min().unwrap_or(0);
    let heard = long
        .iter()
        .filter(|poll| poll.released_by.is_some() || poll.end_ns >= first + UNHEARD);
    heard
        .map(|poll| {
            let by = poll.released_by.as_ref();
            by.map(|by| by.culprit.function.to_string())
        })
        .collect()
}

#[test]
fn waits_name_the_code_that_made_them_wait() {
    for (build, scenario, function) in [
        (Build::Release, "lock", "hold_the_lock"),
        (Build::Dev, "lock", "hold_the_lock"),
        (Build::Release, "channel", "send_late"),
        (Build::Release, "pipe", "answer_late"),
        (Build::Release, "network", "answer_late"),
    ] {
        let run = watch(&build, scenario);
        let found = releasers(&run);
        let is_right =
            |name: &&Option<String>| name.as_ref().is_some_and(|name| name.ends_with(function));
        let right = found.iter().filter(is_right).count();
        eprintln!("{build:?} {scenario}: {right} of {} right", found.len());
        assert!(found.len() >= 10, "only {} blocks", found.len());
        assert!(right * 100 >= found.len() * 95, "{scenario}: {found:?}");
        assert!(run.report.contains("released by"), "{}", run.report);
    }
}

#[test]
fn waits_that_no_thread_ended_name_nobody() {
    for scenario in ["file_io", "sleep"] {
        let run = watch(&Build::Release, scenario);
        let found = releasers(&run);
        assert!(found.len() >= 10, "only {} blocks", found.len());
        let named: Vec<_> = found.iter().flatten().collect();
        assert!(named.is_empty(), "{scenario}: {named:?}");
    }
}
