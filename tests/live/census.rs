//! The census of a hang: the words that say what hangs must come out, and nowhere else.

use std::thread;
use std::time::Duration;

use hud::export::read_trace;
use hud::model::{Duty, Record};

use crate::program::{Build, Target};

/// What a census said, and all that was printed.
struct Said {
    words: String,
    polling: usize,
    report: String,
}

/// Watches a scenario, from two seconds after it has come to hang.
fn census(scenario: &str, arguments: &[&str]) -> Said {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.json");
    let target = Target::start(
        &Build::Release.program(),
        &["--scenario", scenario, "--duration", "6"],
    );
    thread::sleep(Duration::from_millis(3000));
    let output = target
        .hud(&["--duration", "0.6"])
        .args(arguments)
        .args(["--export", trace.to_str().unwrap()])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{scenario}: {errors}");
    let mut found = None;
    read_trace(&trace, |record| {
        if let Record::Census(census) = record {
            found = Some(census);
        }
    })
    .unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    let census = found.unwrap_or_else(|| panic!("{scenario}: no census in\n{report}"));
    let polling = |duty: Duty| matches!(duty, Duty::Polling { .. });
    let said = Said {
        words: census.words.join("\n"),
        polling: census.threads.iter().filter(|t| polling(t.duty)).count(),
        report,
    };
    eprintln!("{scenario}: {}", said.words);
    said
}

#[test]
fn a_hang_is_named_in_words() {
    for (scenario, polling, words) in [
        (
            "deadlock",
            1,
            &[
                "waits in std::sync::Mutex::lock (in scenarios::hangs::deadlock_on_itself)",
                "or by itself",
            ][..],
        ),
        (
            "all_locked",
            2,
            &[
                "all 2 workers of runtime 0 wait in std::sync::Mutex::lock (in scenarios::hangs::wait_for_the_lock)",
                "in scenarios::hangs::hold_for_good",
                "nobody polls the I/O and timer driver of runtime 0",
            ],
        ),
        (
            "block_on",
            1,
            &["sits in scenarios::hangs::block_on inside a poll"],
        ),
        (
            "no_driver",
            2,
            &[
                "nobody polls the I/O and timer driver of runtime 0: all 2 workers of runtime 0 are inside polls",
            ],
        ),
    ] {
        // Nobody asked for it: something hangs at the end.
        let said = census(scenario, &[]);
        for words in words {
            assert!(said.words.contains(words), "{scenario}: {}", said.words);
            assert!(said.report.contains(words), "{scenario}: {}", said.report);
        }
        assert_eq!(said.polling, polling, "{scenario}: {}", said.report);
    }
}

#[test]
fn healthy_programs_have_a_census_without_words() {
    for scenario in ["idle", "timers", "healthy_busy", "spawn_blocking"] {
        let said = census(scenario, &["--census"]);
        assert_eq!(said.words, "", "{scenario}: {}", said.report);
        assert!(said.report.contains("Census of "), "{}", said.report);
    }
}
