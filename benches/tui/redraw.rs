//! How long a redraw of the first screen takes over 10,000 culprits: snapshot, layout and cells.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hud::model::{
    Cause, Culprit, Flavor, Header, HeldBack, Location, Record, Role, SlowPoll, Tier, TimeSplit,
    Worker,
};
use hud::tui::{App, AppOptions, Palette, Theme};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

pub const CULPRITS: u64 = 10_000;
const WORKERS: u32 = 16;
const MS: u64 = 1_000_000;
const ROUNDS: usize = 200;

/// Median and longest of many redraws.
pub fn times() -> (Duration, Duration) {
    let mut app = App::new(AppOptions {
        window: None,
        workers_prefix: None,
        replay: false,
        theme: Theme {
            palette: Palette::Indexed,
            light: false,
        },
    });
    app.apply(&header());
    for index in 0..WORKERS {
        app.apply(&worker(index));
    }
    for i in 0..CULPRITS {
        app.apply(&poll(i));
    }
    let mut terminal = Terminal::new(TestBackend::new(200, 50)).expect("a test terminal");
    let mut times: Vec<Duration> = (0..ROUNDS as u64)
        .map(|i| {
            // Each redraw follows a new record, as in a live session.
            app.apply(&poll(i * 7 % CULPRITS));
            let begun = Instant::now();
            app.refresh(Some((CULPRITS + i) * MS));
            terminal.draw(|frame| app.draw(frame)).expect("a drawing");
            begun.elapsed()
        })
        .collect();
    times.sort();
    (times[ROUNDS / 2], times[ROUNDS - 1])
}

fn header() -> Record {
    Record::Header(Box::new(Header {
        hud_version: "bench".into(),
        pid: 1,
        process: "bench".into(),
        command: "bench".into(),
        executable: "/bench".into(),
        tokio_version: None,
        tier: Tier::DebugInfo,
        threshold_ns: 5 * MS,
        start_ns: 0,
        start_unix_ns: 0,
    }))
}

fn worker(index: u32) -> Record {
    Record::Worker(Worker {
        tid: index,
        role: Role::Worker,
        index: Some(index),
        runtime: 0,
        flavor: Some(Flavor::MultiThread),
        thread_name: "tokio-rt-worker".into(),
    })
}

fn poll(i: u64) -> Record {
    let held = (5 + i % 95) * MS;
    Record::SlowPoll(Arc::new(SlowPoll {
        tid: (i % u64::from(WORKERS)) as u32,
        worker: None,
        root: None,
        runtime: 0,
        task: Some(i),
        start_ns: i * MS,
        end_ns: i * MS + held,
        running: false,
        began_before_attach: false,
        split: TimeSplit {
            on_cpu_ns: held,
            ..TimeSplit::default()
        },
        cause: Cause::Cpu,
        causes: vec![(Cause::Cpu, held)],
        held_back: HeldBack::default(),
        culprit: Culprit {
            function: format!("bench::module_{}::handler_{i}", i % 100).into(),
            calls: Some("bcrypt::hash".into()),
            location: Some(Location {
                file: "/bench/src/main.rs".into(),
                line: i as u32 + 1,
            }),
            chain: Vec::new(),
        },
        stacks: Vec::new(),
        released_by: None,
    }))
}
