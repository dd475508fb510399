//! What is seen live and what a recording of it shows are the same: the same picture from the same
//! records, after they went to disk and back, and after names that came late.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hud::clock;
use hud::export::{TraceWriter, read_trace};
use hud::live::{Live, Options};
use hud::model::{EndReason, Record};
use hud::session::{Group, Query, Session, SessionOptions};
use hud::target::debug_files::DebugFiles;
use hud::target::process;
use hud::tui::{App, AppOptions, Palette, Theme};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use crate::program::{Build, Target};

/// Findings that are to come before their names.
const WITHOUT_NAMES: usize = 5;
/// How long anything may take, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(20);
/// The symbols may be read now.
static READ: AtomicBool = AtomicBool::new(false);

/// Stands in for a large binary: the thread that is about to read its symbols says so in hud's log,
/// and waits there.
struct SlowSymbols;

impl log::Log for SlowSymbols {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.args().to_string().starts_with("reading symbols") {
            let begun = Instant::now();
            while !READ.load(Ordering::Relaxed) && begun.elapsed() < PATIENCE {
                thread::sleep(Duration::from_millis(5));
            }
        }
    }

    fn flush(&self) {}
}

/// The records of two seconds of several causes, as they came, and as the trace gives them back.
fn recorded() -> (Vec<Record>, Vec<Record>) {
    log::set_logger(&SlowSymbols).expect("no other test has a logger");
    log::set_max_level(log::LevelFilter::Debug);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    let arguments = ["--scenario", "mixed", "--duration", "30"];
    let program = Target::start(&Build::Release.program(), &arguments);
    let target = process::Target::open(program.pid).unwrap();
    let options = Options {
        threshold: Duration::from_millis(5),
        symbols: None,
        debug_files: DebugFiles::default(),
        all_poll_time: false,
        worker_names: None,
        by_frames: false,
    };
    let mut live = Live::start(&target, &options, &AtomicBool::new(false), |_| ())
        .unwrap()
        .expect("it runs");
    let mut trace = TraceWriter::create(&path, &live.header).unwrap();
    let mut records = vec![Record::Header(Box::new(live.header.clone()))];
    let begun = Instant::now();
    let (mut unnamed, mut polls, mut stopped) = (0, 0, false);
    while let Ok(record) = live.records.recv_timeout(PATIENCE) {
        unnamed += usize::from(is_unnamed(&record));
        READ.fetch_or(unnamed >= WITHOUT_NAMES, Ordering::Relaxed);
        polls += usize::from(matches!(record, Record::SlowPoll(_)));
        trace.write(&record).unwrap();
        records.push(record);
        if !stopped && polls > 50 && begun.elapsed() > Duration::from_secs(2) {
            live.stop().unwrap();
            stopped = true;
        }
    }
    assert!(stopped, "{polls} slow polls");
    let end = Record::End {
        reason: EndReason::Interrupted,
        at_ns: clock::monotonic_ns(),
    };
    trace.write(&end).unwrap();
    records.push(end);
    trace.finish().unwrap();
    live.finish().unwrap();
    log::set_max_level(log::LevelFilter::Off);
    let mut replayed = Vec::new();
    read_trace(&path, |record| replayed.push(record)).unwrap();
    (records, replayed)
}

/// A slow poll that has ended, and has no names yet.
fn is_unnamed(record: &Record) -> bool {
    matches!(record, Record::Unnamed(poll) if !poll.running)
}

/// Every row of every grouping, with the details of the first ones, as text.
fn tables(records: &[Record]) -> Vec<String> {
    let mut session = Session::new(SessionOptions::default());
    records.iter().for_each(|record| session.apply(record));
    let tables = Group::ALL.map(|group| {
        let snap = session.snapshot(&Query {
            group,
            details: 5,
            recent: 100,
            ..Query::default()
        });
        assert!(!snap.rows.is_empty());
        format!(
            "{group:?} {:?} {:?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}",
            snap.blocking,
            snap.not_code,
            snap.rows,
            snap.not_code_rows,
            snap.details,
            snap.recent,
            snap.workers
        )
    });
    tables.to_vec()
}

/// The first screen.
fn picture(records: &[Record], (width, height): (u16, u16)) -> String {
    let mut app = App::new(AppOptions {
        window: None,
        workers_prefix: None,
        replay: true,
        theme: Theme {
            palette: Palette::Indexed,
            light: false,
        },
    });
    records.iter().for_each(|record| app.apply(record));
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    for _ in 0..2 {
        app.refresh(None);
        terminal.draw(|frame| app.draw(frame)).unwrap();
    }
    terminal.backend().to_string()
}

/// Findings must be there before their names, and once more with them.
fn assert_named_later(records: &[Record]) {
    let named_at = |record: &Record| matches!(record, Record::NamesKnown);
    let at = records.iter().position(named_at).expect("names come");
    let (before, after) = records.split_at(at);
    let unnamed = before.iter().filter_map(|record| match record {
        Record::Unnamed(poll) if !poll.running => Some(poll),
        _ => None,
    });
    let unnamed: Vec<_> = unnamed.collect();
    assert!(unnamed.len() >= WITHOUT_NAMES, "{}", unnamed.len());
    assert!(
        !after
            .iter()
            .any(|record| matches!(record, Record::Unnamed(_)))
    );
    let named = before.iter().filter_map(|record| match record {
        Record::SlowPoll(poll) => Some(poll),
        _ => None,
    });
    let named: Vec<_> = named.collect();
    for early in unnamed {
        assert!(early.stacks.is_empty() && !early.culprit.function.contains("block_on_"));
        let same = named.iter().filter(|poll| {
            poll.tid == early.tid && poll.start_ns.abs_diff(early.start_ns) < 1_000_000
        });
        let held: Vec<_> = same.map(|poll| poll.held_ns()).collect();
        assert!(
            held.len() == 1 && held[0].abs_diff(early.held_ns()) < 1_000_000,
            "{early:?} {held:?}"
        );
    }
}

#[test]
fn a_recording_shows_what_was_seen_live_even_before_symbols_are_read() {
    let (live, replayed) = recorded();
    assert_named_later(&live);
    for (live, replayed) in tables(&live).iter().zip(&tables(&replayed)) {
        let first = live.lines().zip(replayed.lines()).find(|(a, b)| a != b);
        assert_eq!(first, None, "in\n{}", live.lines().next().unwrap_or(""));
        assert_eq!(live.lines().count(), replayed.lines().count());
    }
    for size in [(60, 16), (110, 32), (200, 60)] {
        let live = picture(&live, size);
        assert!(live.contains("block_on_"), "{live}");
        assert_eq!(live, picture(&replayed, size));
    }
}
