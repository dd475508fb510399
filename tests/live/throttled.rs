//! CPU throttling by a cgroup is distinguished from code that blocks, and from other threads.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hud::export::read_trace;
use hud::model::{Cause, Record, SlowPoll};

use testing::fixtures::Build;
use testing::target::Target;

const MS: u64 = 1_000_000;

/// A control group with a fifth of one CPU; removed when dropped, if nothing is left in it.
struct Group(PathBuf);

impl Group {
    /// None where this machine does not let us create one.
    fn new() -> Option<Group> {
        let mounts = fs::read_to_string("/proc/mounts").ok()?;
        let mut tried = Vec::new();
        for mount in mounts.lines() {
            let mut fields = mount.split(' ').skip(1);
            let (Some(path), Some(kind), Some(options)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let parent = Path::new(path);
            let settings: &[(&str, &str)] = match kind {
                "cgroup2" => {
                    // Already enabled in most places; where it cannot be, the next write fails.
                    let _ = fs::write(parent.join("cgroup.subtree_control"), "+cpu");
                    &[("cpu.max", "20000 100000")]
                }
                "cgroup" if options.split(',').any(|option| option == "cpu") => &[
                    ("cpu.cfs_period_us", "100000"),
                    ("cpu.cfs_quota_us", "20000"),
                ],
                _ => continue,
            };
            let group = Group(parent.join(format!("hud-test-{}", std::process::id())));
            let made = fs::create_dir(&group.0).and_then(|()| {
                let mut settings = settings.iter();
                settings.try_for_each(|(file, text)| fs::write(group.0.join(file), text))
            });
            match made {
                Ok(()) => return Some(group),
                Err(error) => tried.push(format!("{path}: {error}")),
            }
        }
        eprintln!("skipped: no cgroup with a CPU limit can be made here: {tried:?}");
        None
    }

    fn add(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// hud's findings in two seconds of a scenario in the group, and its report.
fn watch(group: &Group, scenario: &str) -> (Vec<Arc<SlowPoll>>, String) {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.json");
    let target = Target::scenario(&Build::Release, scenario);
    group.add(target.pid);
    let output = target
        .hud(&["--duration", "2"])
        .args(["--export", trace.to_str().unwrap()])
        .output()
        .unwrap();
    drop(target);
    let mut polls = Vec::new();
    read_trace(&trace, |record| {
        if let Record::SlowPoll(poll) = record {
            polls.push(poll);
        }
    })
    .unwrap();
    (polls, String::from_utf8(output.stdout).unwrap())
}

#[test]
fn throttling_is_named_and_blames_no_code_that_is_not_slow() {
    let Some(group) = Group::new() else { return };
    // Code that is slow by itself is to blame, and the report says what was not its fault.
    let (polls, report) = watch(&group, "cpu");
    let (throttled, calm): (Vec<_>, Vec<_>) = polls
        .iter()
        .filter(|poll| poll.split.run_queue_ns > 30 * MS)
        .partition(|poll| poll.held_back.throttled);
    assert!(throttled.len() > calm.len(), "{report}");
    assert!(
        throttled.iter().any(|poll| poll.cause == Cause::Cpu),
        "{report}"
    );
    assert!(
        report.contains("of it waiting for a CPU: throttled by the cgroup's CPU limit"),
        "{report}"
    );
    // Healthy code is not.
    let (polls, report) = watch(&group, "healthy_busy");
    let excused = polls
        .iter()
        .filter(|poll| poll.cause == Cause::RunQueue && poll.held_back.throttled);
    assert!(excused.count() >= 3, "{report}");
    let blamed = polls.iter().filter(|poll| poll.cause.blames_code()).count();
    assert!(blamed * 10 <= polls.len(), "{blamed} blamed: {report}");
    assert!(
        report.contains("the cgroup's CPU limit was reached"),
        "{report}"
    );
}
