//! A live session and its recording show the same: the same screens from the same records, after they
//! went to disk and back. And what is captured while symbols are read is reported afterwards.

use std::sync::atomic::AtomicBool;
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

use testing::fixtures::Build;
use testing::target::Target;

/// How long anything may take, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the symbols take to read.
const READING: Duration = Duration::from_millis(1500);

/// Stands in for a large binary: the thread that is about to read its symbols logs that, and is held
/// up there.
struct SlowSymbols;

impl log::Log for SlowSymbols {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.args().to_string().starts_with("reading symbols") {
            thread::sleep(READING);
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
    let program = Target::scenario(&Build::Release, "cpu,lock,sleep,file_io,network,page_fault");
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
    assert!(
        live.busy_with()
            .is_some_and(|what| what.contains("reading symbols"))
    );
    let (mut polls, mut stopped) = (0, false);
    while let Ok(record) = live.records.recv_timeout(PATIENCE) {
        polls += usize::from(matches!(record, Record::SlowPoll(_)));
        trace.write(&record).unwrap();
        records.push(record);
        if !stopped && polls > 50 && begun.elapsed() > Duration::from_secs(2) {
            assert_eq!(live.busy_with(), None);
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

/// Every poll that was captured while the symbols were read must be there.
fn assert_nothing_missed(records: &[Record]) {
    let [Record::Header(header), ..] = records else {
        panic!("no header");
    };
    let read_ns = header.start_ns + READING.as_nanos() as u64 / 2;
    let early = records.iter().filter(|record| match record {
        Record::SlowPoll(poll) => poll.end_ns < read_ns,
        _ => false,
    });
    assert!(early.count() >= 5);
    let dropped = records.iter().any(|record| match record {
        Record::Losses(losses) => losses.analysis_full > 0,
        _ => false,
    });
    assert!(!dropped, "the channel was full");
}

#[test]
fn a_recording_shows_what_was_seen_live_while_symbols_were_read_as_well() {
    let (live, replayed) = recorded();
    assert_nothing_missed(&live);
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
