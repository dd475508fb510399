//! The census of a hang: it must say what hangs, and nothing of healthy programs.

use std::thread;
use std::time::Duration;

use hud::export::read_trace;
use hud::model::{Duty, Record};
use testing::fixtures::Build;
use testing::target::Target;

/// When the scenarios hang, and some time more.
const HANGING: Duration = Duration::from_millis(2000);

/// What a census said, and the whole report.
struct Said {
    words: String,
    polling: usize,
    report: String,
}

/// Attaches hud for a moment.
fn census(target: &Target, scenario: &str, arguments: &[&str]) -> Said {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.json");
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
    let hangs = [
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
    ];
    // All at once: a program that hangs disturbs no other.
    let targets = hangs.map(|(scenario, ..)| Target::scenario(&Build::Release, scenario));
    thread::sleep(HANGING);
    for (target, (scenario, polling, words)) in targets.iter().zip(hangs) {
        // hud takes it by itself: something hangs at the end.
        let said = census(target, scenario, &[]);
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
        let target = Target::scenario(&Build::Release, scenario);
        let said = census(&target, scenario, &["--census"]);
        assert_eq!(said.words, "", "{scenario}: {}", said.report);
        assert!(said.report.contains("Census of "), "{}", said.report);
    }
}
