//! Every view as text at three sizes, over one recorded session. What keys and records change is
//! tested in `behaviour`.

mod behaviour;

use crossterm::event::MouseEventKind;
use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Cell;
use ratatui::style::{Color, Modifier};

use super::{App, AppOptions, Effect, View};
use super::{Palette, Theme};
use crate::model::{Cause, EndReason, Flavor, Record, Role, SelfCost, SlowPoll, Worker};
use crate::session::testing::{self as t, MS, START_NS};

const SMALL: (u16, u16) = (60, 16);
const USUAL: (u16, u16) = (100, 30);
const LARGE: (u16, u16) = (160, 45);

/// Ten seconds of a process with two runtimes: culprits of several causes, names that are long or
/// wide, one poll that is stuck, and one that was delayed from outside.
fn records() -> Vec<Record> {
    let mut records = t::session();
    records.pop(); // the end
    let blocking = Worker {
        tid: 4101,
        role: Role::Worker,
        index: Some(0),
        runtime: 1,
        flavor: Some(Flavor::CurrentThread),
        thread_name: "io-runtime".into(),
    };
    records.push(Record::Worker(blocking));
    let generic = format!(
        "shop::cache::Cache<{}>::refill",
        "shop::Key<u64>, ".repeat(20)
    );
    for (i, (function, calls, cause)) in [
        (generic.as_str(), "std::sync::Mutex<T>::lock", Cause::Lock),
        (
            "shop::検索::照会する",
            "std::net::TcpStream::connect",
            Cause::Network,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let at = 8000 + 300 * i as u64;
        records.push(slow(t::poll(2, at, 150, cause, function, calls)));
    }
    let mut stuck = t::poll(
        1,
        9000,
        900,
        Cause::Lock,
        "shop::stock",
        "std::sync::Mutex<T>::lock",
    );
    stuck.running = true;
    records.push(Record::Running(stuck.into()));
    for (at_ms, cpu_ms) in [(9_000, 40), (10_000, 45)] {
        records.push(Record::Cost(SelfCost {
            at_ns: START_NS + at_ms * MS,
            cpu_ns: cpu_ms * MS,
            bpf_ns: Some(12 * MS),
            peak_rss: 24 << 20,
        }));
    }
    records
}

fn slow(poll: SlowPoll) -> Record {
    Record::SlowPoll(poll.into())
}

/// A live view over the records, ten seconds after the start.
struct Driven {
    app: App,
    terminal: Terminal<TestBackend>,
    now_ns: Option<u64>,
}

impl Driven {
    fn new(size: (u16, u16), palette: Palette) -> Driven {
        let mut driven = Driven::empty(size, palette);
        driven.take(&records());
        driven
    }

    fn empty((width, height): (u16, u16), palette: Palette) -> Driven {
        let app = App::new(AppOptions {
            window: None,
            workers_prefix: None,
            replay: false,
            theme: Theme {
                palette,
                light: false,
            },
        });
        let terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let mut driven = Driven {
            app,
            terminal,
            now_ns: Some(START_NS + 10_000 * MS),
        };
        driven.draw();
        driven
    }

    fn take(&mut self, records: &[Record]) {
        records.iter().for_each(|record| self.app.apply(record));
        self.draw();
    }

    fn draw(&mut self) {
        self.app.refresh(self.now_ns);
        self.terminal.draw(|frame| self.app.draw(frame)).unwrap();
        // The query depends on the size, which is known after the first drawing.
        self.app.refresh(self.now_ns);
        self.terminal.draw(|frame| self.app.draw(frame)).unwrap();
    }

    fn event(&mut self, event: Event) -> Option<Effect> {
        let effect = self.app.handle(&event);
        self.draw();
        effect
    }

    fn key(&mut self, code: KeyCode) -> Option<Effect> {
        self.event(Event::Key(KeyEvent::from(code)))
    }

    /// Presses a key for each character.
    fn press(&mut self, keys: &str) -> Option<Effect> {
        keys.chars().map(|c| self.key(KeyCode::Char(c))).last()?
    }

    fn click(&mut self, column: u16, row: u16) {
        self.event(Event::Mouse(MouseEvent {
            kind: MouseEventKind::Down(MouseButton::Left),
            column,
            row,
            modifiers: KeyModifiers::NONE,
        }));
    }

    fn text(&self) -> String {
        let buffer = self.terminal.backend().buffer();
        let width = usize::from(buffer.area.width);
        let rows = buffer.content().chunks(width);
        let row = |cells: &[Cell]| {
            let mut skip = 0;
            let mut row = String::new();
            for cell in cells {
                if skip == 0 {
                    row.push_str(cell.symbol());
                    skip = crate::text::width(cell.symbol()).max(1);
                }
                skip -= 1;
            }
            row.trim_end().to_owned()
        };
        rows.map(row).collect::<Vec<_>>().join("\n")
    }

    /// Every run of cells that has a style of its own, row by row.
    fn styles(&self) -> String {
        let buffer = self.terminal.backend().buffer();
        let rows = buffer.content().chunks(usize::from(buffer.area.width));
        let mut out = String::new();
        for (y, row) in rows.enumerate() {
            for run in row.chunk_by(|a, b| a.style() == b.style()) {
                let text: String = run.iter().map(Cell::symbol).collect();
                let plain = Cell::default().style();
                if run[0].style() != plain && !text.trim().is_empty() {
                    let (fg, bg, modifier) = (run[0].fg, run[0].bg, run[0].modifier);
                    out.push_str(&format!(
                        "{y:>2} {fg} on {bg} {modifier:?}: {}\n",
                        text.trim_end()
                    ));
                }
            }
        }
        out
    }

    /// The function in the row under the cursor.
    fn selected(&self) -> String {
        let buffer = self.terminal.backend().buffer();
        let rows = buffer.content().chunks(usize::from(buffer.area.width));
        let reversed = |row: &&[Cell]| row.iter().all(|c| c.modifier.contains(Modifier::REVERSED));
        let row = rows
            .into_iter()
            .find(reversed)
            .expect("no row under the cursor");
        let text: String = row.iter().skip(2).map(Cell::symbol).collect();
        text.split(' ').next().unwrap_or_default().to_owned()
    }

    fn has(&self, text: &str) -> bool {
        self.text().contains(text)
    }

    /// The position of a text on the screen.
    fn find(&self, wanted: &str) -> (u16, u16) {
        for (y, row) in self.text().lines().enumerate() {
            if let Some(at) = row.find(wanted) {
                let x = crate::text::width(&row[..at]);
                return (x as u16, y as u16);
            }
        }
        panic!("no {wanted:?} in\n{}", self.text());
    }
}

/// The keys that lead to a view.
const VIEWS: [(&str, &str); 6] = [
    ("culprits", ""),
    ("detail", "2"),
    ("flame", "3"),
    ("timeline", "4L"),
    ("help", "?"),
    ("workers", "w"),
];

#[test]
fn every_view_at_three_sizes() {
    for (size_name, size) in [("small", SMALL), ("usual", USUAL), ("large", LARGE)] {
        for (view, keys) in VIEWS {
            let mut driven = Driven::new(size, Palette::Mono);
            driven.press(keys);
            insta::assert_snapshot!(format!("{view}_{size_name}"), driven.text());
        }
    }
}

/// The same ten seconds, with all poll time sampled for four of them: much of it in polls that are
/// far from slow.
fn with_poll_time() -> Vec<Record> {
    let switch = |on, at_ms| Record::AllPollTime {
        on,
        at_ns: START_NS + at_ms * MS,
    };
    let mut records = records();
    records.push(switch(true, 6_000));
    for second in 7..=9 {
        let many = [
            ("shop::encode", "serde_json::to_string", 410),
            ("shop::hash", "bcrypt::bcrypt", 220),
            ("shop::encode", "askama::escape", 90),
        ];
        records.push(Record::PollTime(
            t::poll_time(0, second * 1000, &many).into(),
        ));
        let few = [("shop::検索::照会する", "sqlx::encode", 60)];
        records.push(Record::PollTime(
            t::poll_time(1, second * 1000, &few).into(),
        ));
    }
    records
}

#[test]
fn all_poll_time_at_three_sizes() {
    for (size_name, size) in [("small", SMALL), ("usual", USUAL), ("large", LARGE)] {
        let mut driven = Driven::empty(size, Palette::Mono);
        driven.take(&with_poll_time());
        driven.press("5");
        insta::assert_snapshot!(format!("poll_time_{size_name}"), driven.text());
    }
    for (name, palette) in [("256", Palette::Indexed), ("16", Palette::Ansi16)] {
        let mut driven = Driven::empty(USUAL, palette);
        driven.take(&with_poll_time());
        driven.press("5");
        insta::assert_snapshot!(format!("poll_time_{name}_colours"), driven.styles());
    }
}

#[test]
fn all_poll_time_says_when_it_is_off_and_how_to_get_it() {
    let mut driven = Driven::new(USUAL, Palette::Mono);
    driven.press("5");
    insta::assert_snapshot!("poll_time_off", driven.text());
    assert_eq!(driven.press("x"), Some(Effect::AllPollTime(true)));
    let (on, at_ns) = (true, START_NS + 10_000 * MS);
    driven.take(&[Record::AllPollTime { on, at_ns }]);
    driven.key(KeyCode::Up);
    assert!(driven.has("It is on") && driven.has("5 Poll time ●"));
    assert_eq!(driven.press("x"), Some(Effect::AllPollTime(false)));
}

#[test]
fn all_poll_time_drills_down_apart_from_slow_polls() {
    let mut driven = Driven::empty(USUAL, Palette::Mono);
    driven.take(&with_poll_time());
    // Its rows are not in the table of culprits, nor the other way round.
    assert!(!driven.has("shop::encode"));
    driven.press("5");
    assert!(driven.has("shop::encode → serde_json::to_string") && !driven.has("shop::audit"));
    assert!(driven.has("2.34 s on CPU in polls, slow or not, in 4.00 s (58% of one CPU); on"));
    driven.press("j");
    assert_eq!(driven.selected(), "shop::hash");
    driven.key(KeyCode::Enter);
    driven.press("u");
    assert!(driven.has("▸ Call tree") && driven.has("tokio::runtime::task::raw::poll"));
    driven.press("f");
    assert!(driven.has("Flame shop::hash, 660 ms of CPU time") && driven.has("▏bcrypt::bcrypt"));
    driven.press("a");
    assert!(driven.has("all poll time, 2.34 s") && driven.has("▏shop::encode"));
    driven.press("a");
    driven.key(KeyCode::Esc);
    driven.press("/sqlx");
    driven.key(KeyCode::Enter);
    assert!(driven.has("→ sqlx::encode") && !driven.has("→ serde_json::to_string"));
    driven.key(KeyCode::Esc);
    let Some(Effect::Copy(text)) = driven.press("y") else {
        panic!("nothing copied");
    };
    assert!(text.contains("of CPU time in polls, slow or not"), "{text}");
    // The choice of workers applies here as well.
    driven.press("wa ");
    driven.key(KeyCode::Enter);
    assert!(driven.has("→ serde_json::to_string") && !driven.has("→ sqlx::encode"));
}

#[test]
fn colours_repeat_what_marks_say() {
    for (name, palette) in [("256", Palette::Indexed), ("16", Palette::Ansi16)] {
        for (view, keys) in &VIEWS[..4] {
            let mut driven = Driven::new(USUAL, palette);
            driven.press(keys);
            insta::assert_snapshot!(format!("{view}_{name}_colours"), driven.styles());
            // Whatever the palette, the words are the same.
            let mut mono = Driven::new(USUAL, Palette::Mono);
            mono.press(keys);
            assert_eq!(driven.text(), mono.text());
        }
    }
    let mono = Driven::new(USUAL, Palette::Mono);
    let buffer = mono.terminal.backend().buffer();
    let plain = |cell: &Cell| (cell.fg, cell.bg) == (Color::Reset, Color::Reset);
    assert!(buffer.content().iter().all(plain));
}

#[test]
fn every_size_draws_every_view() {
    let mut narrow = Driven::new((10, 5), Palette::Mono);
    narrow.draw();
    assert!(narrow.has(">=60x16"));
    for width in [1, 59, 60, 90, 110, 300] {
        for height in [1, 15, 16, 20, 36, 100] {
            let mut driven = Driven::new((width, height), Palette::Indexed);
            driven.take(&with_poll_time());
            for keys in [
                "", "2", "pGuj", "3", "jja", "4", "nNLzzZ0", "5", "pjufja", "?", "G",
            ] {
                driven.press(keys);
            }
            let small = width < 60 || height < 16;
            assert_eq!(
                driven.has("needs 60x16"),
                small && width > 20,
                "{width}x{height}"
            );
        }
    }
}

#[test]
fn a_healthy_process_is_shown_to_be_watched() {
    let mut driven = Driven::empty(USUAL, Palette::Mono);
    assert!(driven.has("waiting for the first record"));
    let busy = (0..3).map(|i| t::usage(i, 9_900, 2_000));
    let records = [t::header(), t::worker(0), t::worker(1), t::worker(2)];
    driven.take(&records.into_iter().chain(busy).collect::<Vec<_>>());
    insta::assert_snapshot!("healthy", driven.text());
}

#[test]
fn without_visible_polls_nothing_is_claimed_about_them() {
    let mut driven = Driven::empty(USUAL, Palette::Mono);
    driven.take(&t::session_without_polls());
    insta::assert_snapshot!("without_polls", driven.text());
}
