//! Records survive writing and reading, whatever happens to the file in between.

mod arbitrary;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use self::arbitrary::record;
use super::dictionary::Dictionary;
use super::viewer_samples::ViewerSamples;
use super::whole_file::testing::Disk;
use super::*;
use crate::model::*;
use crate::session::testing as t;
use crate::session::{Query, Session, SessionOptions};

fn header_of(records: &[Record]) -> Header {
    match &records[0] {
        Record::Header(header) => (**header).clone(),
        other => panic!("{other:?}"),
    }
}

fn writer(disk: &Disk, records: &[Record]) -> TraceWriter {
    TraceWriter::begin(Box::new(disk.clone()), "test".into(), &header_of(records)).unwrap()
}

fn trace_of(records: &[Record]) -> Vec<u8> {
    let disk = Disk::default();
    let mut writer = writer(&disk, records);
    records.iter().for_each(|r| writer.write(r).unwrap());
    writer.finish().unwrap();
    drop(writer);
    std::mem::take(&mut disk.bytes.lock().unwrap())
}

fn read(bytes: &[u8]) -> (Vec<Record>, Result<Completeness, TraceError>) {
    let mut records = Vec::new();
    let result = read_trace_from(bytes, |record| records.push(record));
    (records, result)
}

#[test]
fn a_session_survives_and_the_file_is_a_chrome_trace() {
    let records = t::session();
    let bytes = trace_of(&records);
    let (back, result) = read(&bytes);
    assert_eq!(result.unwrap(), Completeness::Whole);
    assert_eq!(back, records);

    let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(json["otherData"]["losses"]["ring_full"], 3);
    let events = json["traceEvents"].as_array().unwrap();
    let slow: Vec<_> = events.iter().filter(|e| e["ph"] == "X").collect();
    assert_eq!(slow.len(), 50);
    let first = slow[0];
    assert_eq!(first["name"], "shop::hash");
    assert_eq!(first["cat"], "slow_poll,cpu");
    assert_eq!(first["ts"], (t::START_NS + 100 * t::MS) as f64 / 1000.0);
    assert_eq!(first["dur"], 60_000.0);
    assert_eq!(first["args"]["on_cpu_us"], 60_000.0);
    assert_eq!(
        first["args"]["stack"][1],
        "shop::hash (/srv/shop/src/main.rs:42)"
    );
    // The frames lead from the leaf to the thread's start.
    let mut id = first["sf"].as_str().unwrap();
    let mut names = Vec::new();
    loop {
        let frame = &json["stackFrames"][id];
        names.push(frame["name"].as_str().unwrap());
        let Some(parent) = frame["parent"].as_str() else {
            break;
        };
        id = parent;
    }
    assert_eq!(names.len(), 6);
    assert!(names[5].starts_with("std::thread::spawn"), "{names:?}");
    let counter = events.iter().find(|e| e["ph"] == "C").unwrap();
    assert!(counter["args"]["on_cpu"].as_f64().unwrap() > 0.0);
}

/// What a viewer that keeps times as doubles and prefers samples to events shows of each thread:
/// microseconds by the names of its stacks, leaf last.
fn sampled(json: &serde_json::Value, tid: u64) -> BTreeMap<Vec<String>, f64> {
    let samples = json["samples"].as_array().unwrap();
    let of_thread: Vec<_> = samples.iter().filter(|s| s["tid"] == tid).collect();
    let mut times = BTreeMap::new();
    for pair in of_thread.windows(2) {
        let at = |sample: &serde_json::Value| sample["ts"].as_f64().unwrap();
        let mut names = Vec::new();
        let mut id = pair[0]["sf"].as_u64().unwrap().to_string();
        while id != "0" {
            let frame = &json["stackFrames"][&id];
            names.insert(0, frame["name"].as_str().unwrap().to_owned());
            id = frame["parent"].as_str().unwrap_or("0").to_owned();
        }
        assert!(at(pair[1]) >= at(pair[0]), "samples go back in time");
        *times.entry(names).or_insert(0.0) += at(pair[1]) - at(pair[0]);
    }
    times.remove(&Vec::new());
    times
}

#[test]
fn other_viewers_see_separate_polls_and_the_time_of_each_stack() {
    let records = t::session();
    let bytes = trace_of(&records);
    let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let events = json["traceEvents"].as_array().unwrap();
    let mut polls: BTreeMap<u64, Vec<(f64, f64)>> = BTreeMap::new();
    for event in events.iter().filter(|e| e["ph"] == "X") {
        let start = event["ts"].as_f64().unwrap();
        let end = start + event["dur"].as_f64().unwrap();
        let tid = event["tid"].as_u64().unwrap();
        polls.entry(tid).or_default().push((start, end));
    }
    assert_eq!(polls.values().map(Vec::len).sum::<usize>(), 50);
    for (tid, polls) in &mut polls {
        polls.sort_by(|a, b| a.0.total_cmp(&b.0));
        for pair in polls.windows(2) {
            assert!(pair[0].1 < pair[1].0, "polls of thread {tid} touch");
        }
        let held: f64 = polls.iter().map(|(start, end)| end - start).sum();
        let shown: f64 = sampled(&json, *tid).values().sum();
        assert!((held - shown).abs() < 1.0, "thread {tid}: {held} {shown}");
    }
    // Equal stacks merge: their names carry no arguments.
    let names: BTreeSet<String> = polls
        .keys()
        .flat_map(|tid| sampled(&json, *tid).into_keys())
        .filter_map(|stack| stack.last().cloned())
        .collect();
    assert!(names.len() < 10, "{names:?}");
}

#[test]
fn a_recording_with_more_samples_than_there_is_room_for_has_none() {
    let Some(Record::SlowPoll(poll)) = t::session()
        .into_iter()
        .find(|record| matches!(record, Record::SlowPoll(_)))
    else {
        panic!("no slow poll");
    };
    let mut samples = ViewerSamples::default();
    let mut dictionary = Dictionary::default();
    let is_empty = |samples: &ViewerSamples| samples.chunks(1).next().is_none();
    samples.add(&poll, &[(1, 5)], &mut dictionary);
    assert!(!is_empty(&samples));
    samples.add(&poll, &vec![(1, 5); 300_000], &mut dictionary);
    assert!(is_empty(&samples));
    samples.add(&poll, &[(1, 5)], &mut dictionary);
    assert!(is_empty(&samples), "a part is not the whole");
}

/// A trace as format 1 was first written: it has to replay as long as hud reads format 1.
#[test]
fn a_trace_of_the_first_version_still_replays() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/trace-v1.json");
    if std::env::var_os("UPDATE_TRACE_FIXTURE").is_some() {
        std::fs::write(path, trace_of(&t::session())).unwrap();
    }
    let mut back = Vec::new();
    let result = read_trace(path.as_ref(), |record| back.push(record));
    assert_eq!((result.unwrap(), back), (Completeness::Whole, t::session()));
}

#[test]
fn all_poll_time_survives_as_counters() {
    let second = |at_ms| {
        let spots = [
            ("shop::render", "serde_json::to_string", 600),
            ("shop::parse", "serde_json::from_str", 150),
        ];
        Record::PollTime(Arc::new(t::poll_time(0, at_ms, &spots)))
    };
    let switch = |on, at_ms| Record::AllPollTime {
        on,
        at_ns: t::START_NS + at_ms * t::MS,
    };
    let records = [
        t::header(),
        t::worker(0),
        switch(true, 0),
        second(1000),
        second(2000),
        switch(false, 2100),
        t::end(3000),
    ];
    let bytes = trace_of(&records);
    let (back, result) = read(&bytes);
    assert_eq!(
        (result.unwrap(), &back[..]),
        (Completeness::Whole, &records[..])
    );
    let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let events = json["traceEvents"].as_array().unwrap();
    let counter = events.iter().find(|e| e["ph"] == "C").unwrap();
    assert_eq!(counter["args"]["in_polls"], 75.0);
    assert_eq!(counter["cat"], "all_poll_time");
    assert!(events.iter().all(|e| e["ph"] != "X"), "no slow poll");
}

#[test]
fn running_polls_are_written_at_the_end() {
    let mut poll = t::poll(
        0,
        100,
        900,
        Cause::Lock,
        "shop::wait",
        "std::sync::Mutex::lock",
    );
    poll.running = true;
    let running = Record::Running(Arc::new(poll.clone()));
    poll.end_ns -= t::MS;
    let earlier = Record::Running(Arc::new(poll));
    let records = [
        t::header(),
        t::worker(0),
        earlier,
        running.clone(),
        t::end(1000),
    ];
    let (back, _) = read(&trace_of(&records));
    assert_eq!(back, [t::header(), t::worker(0), running, t::end(1000)]);
}

#[test]
fn a_tier_change_drops_running_polls() {
    let mut poll = t::poll(0, 100, 900, Cause::Lock, "shop::wait", "lock");
    poll.running = true;
    let changed = Record::TierChanged {
        tier: Tier::Frames,
        at_ns: t::START_NS + 500 * t::MS,
        why: "a rule was broken".to_owned(),
    };
    let records = [
        t::header(),
        t::worker(0),
        Record::Running(Arc::new(poll)),
        changed.clone(),
        t::end(1000),
    ];
    let (back, _) = read(&trace_of(&records));
    assert_eq!(back, [t::header(), t::worker(0), changed, t::end(1000)]);
    let mut session = Session::new(SessionOptions::default());
    records.iter().for_each(|record| session.apply(record));
    let snap = session.snapshot(&Query::default());
    assert_eq!((snap.running.len(), snap.blocking.polls), (0, 0));
}

#[test]
fn a_full_disk_leaves_a_whole_file_and_counts_what_is_missing() {
    let records = t::session();
    let whole = trace_of(&records).len();
    for size in (1000..whole).step_by(997) {
        let disk = Disk {
            size: Some(size),
            ..Disk::default()
        };
        let mut writer = writer(&disk, &records);
        let mut errors = 0;
        for record in &records {
            errors += usize::from(writer.write(record).is_err());
            errors += usize::from(writer.flush().is_err());
        }
        errors += usize::from(writer.finish().is_err());
        assert_eq!(errors, 1);
        let unwritten = writer.unwritten();
        drop(writer);
        let bytes = disk.bytes.lock().unwrap().clone();
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(json["otherData"]["losses"]["trace_unwritten"], unwritten);
        let (back, result) = read(&bytes);
        let kept = records.len() - unwritten as usize;
        assert_eq!(back[..kept], records[..kept], "{size}");
        match unwritten {
            0 => assert_eq!(result.unwrap(), Completeness::Whole),
            _ => {
                assert!(matches!(result, Ok(Completeness::Truncated { .. })));
                assert!(
                    matches!(back.last(), Some(Record::Losses(l)) if l.trace_unwritten == unwritten)
                );
            }
        }
    }
}

#[test]
fn a_killed_recording_gives_everything_that_was_flushed() {
    let records = t::session();
    let disk = Disk::default();
    let mut writer = writer(&disk, &records);
    let half = records.len() / 2;
    records[..half]
        .iter()
        .for_each(|r| writer.write(r).unwrap());
    writer.flush().unwrap();
    let bytes = disk.bytes.lock().unwrap().clone();
    let (back, result) = read(&bytes);
    let recovered = half as u64;
    assert_eq!(result.unwrap(), Completeness::Truncated { recovered });
    assert_eq!(back, records[..half]);
}

#[test]
fn files_that_are_no_trace_are_explained() {
    let error = |text: &str| read(text.as_bytes()).1.unwrap_err();
    assert!(matches!(
        error("ELF \u{1}"),
        TraceError::NotJson { line: 1, column: 1 }
    ));
    assert!(matches!(error(""), TraceError::Empty));
    assert!(matches!(error("[]"), TraceError::NotATrace));
    assert!(matches!(error("{}"), TraceError::NotATrace));
    assert!(matches!(
        error(r#"{"traceEvents":[]}"#),
        TraceError::NotATrace
    ));
    assert!(matches!(
        error(r#"{"otherData":{"format":"x"}}"#),
        TraceError::NotATrace
    ));
    let newer = r#"{"otherData":{"format":"hud","format_version":2}}"#;
    assert!(matches!(error(newer), TraceError::Newer { version: 2 }));
    let text = String::from_utf8(trace_of(&t::session())).unwrap();
    let broken = text.replacen("\"cause\":\"sleep\"", "\"cause\":\"magic\"", 1);
    let TraceError::Corrupt { line, what, .. } = error(&broken) else {
        panic!("not found corrupt");
    };
    assert!(line > 5 && what.contains("magic"), "{line}: {what}");
}

#[test]
fn unwritable_paths_are_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let header = header_of(&t::session());
    let failure = |path: &std::path::Path| TraceWriter::create(path, &header).err().unwrap();
    assert!(failure(dir.path()).what.contains("directory"));
    let nowhere = dir.path().join("no/such/trace.json");
    assert!(failure(&nowhere).hint.is_some());
    assert!(failure("/dev/full".as_ref()).what.contains("No space"));
    let path = dir.path().join("trace.json");
    std::fs::write(&path, "x".repeat(100_000)).unwrap();
    let records = t::session();
    let mut writer = TraceWriter::create(&path, &header).unwrap();
    records.iter().for_each(|r| writer.write(r).unwrap());
    drop(writer);
    let mut back = Vec::new();
    let result = read_trace(&path, |r| back.push(r));
    assert_eq!((result.unwrap(), back), (Completeness::Whole, records));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_record_survives(middle in vec(record(), 0..12)) {
        let mut records = vec![t::header()];
        records.extend(middle);
        records.push(t::end(5));
        let (back, result) = read(&trace_of(&records));
        prop_assert_eq!(result.unwrap(), Completeness::Whole);
        prop_assert_eq!(back, records);
    }

    #[test]
    fn a_truncated_file_gives_every_record_before_the_cut(cut in 0.0..1.0f64) {
        let records = t::session();
        let bytes = trace_of(&records);
        let cut = (bytes.len() as f64 * cut) as usize;
        let (back, result) = read(&bytes[..cut]);
        prop_assert_eq!(&back[..], &records[..back.len()]);
        match result {
            Ok(Completeness::Truncated { recovered }) => prop_assert_eq!(recovered, back.len() as u64),
            Err(TraceError::Empty) => prop_assert!(back.is_empty()),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn damaged_bytes_never_panic(flips in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = trace_of(&t::session());
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= byte;
        }
        let mut session = crate::session::Session::new(Default::default());
        let _ = read_trace_from(&bytes[..], |record| session.apply(&record));
        session.snapshot(&crate::session::Query { details: 3, ..Default::default() });
    }
}
