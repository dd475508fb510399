//! What keys, clicks and records change on the screen.

use std::time::{Duration, Instant};

use super::*;

#[test]
fn all_workers_held_is_an_alarm() {
    let mut driven = Driven::empty(USUAL, Palette::Mono);
    let stuck = |i| {
        let mut poll = t::poll(i, 7_000, 3_000, Cause::Lock, "shop::stock", "Mutex::lock");
        poll.running = true;
        Record::Running(poll.into())
    };
    driven.take(&[t::header(), t::worker(0), t::worker(1), stuck(0)]);
    assert!(!driven.has("ALL WORKERS"));
    driven.take(&[stuck(1)]);
    assert!(driven.has("ALL WORKERS HELD for 3.0 s"));
    driven.now_ns = Some(START_NS + 11_500 * MS);
    driven.draw();
    assert!(driven.has("ALL WORKERS HELD for 4.5 s"));
}

#[test]
fn the_cursor_follows_its_culprit() {
    let mut driven = Driven::new(USUAL, Palette::Mono);
    driven.press("j");
    assert_eq!(driven.selected(), "shop::retry");
    // Its row becomes the first; the cursor follows it.
    let poll = |i| {
        slow(t::poll(
            1,
            i,
            900,
            Cause::Sleep,
            "shop::retry",
            "std::thread::sleep",
        ))
    };
    driven.take(&[poll(1), poll(1000)]);
    assert_eq!(driven.selected(), "shop::retry");
    assert!(driven.find("shop::retry → ").1 < driven.find("shop::hash → bcrypt::bcrypt  ").1);
    driven.key(KeyCode::Home);
    driven.take(&[slow(t::poll(
        0,
        1,
        9000,
        Cause::Cpu,
        "shop::hash",
        "bcrypt::bcrypt",
    ))]);
    assert_eq!(driven.selected(), "shop::hash", "on top, it stays on top");
}

#[test]
fn sorting_grouping_and_searching() {
    let mut driven = Driven::new(USUAL, Palette::Mono);
    assert!(driven.has("▼OWN"));
    driven.press("s");
    assert!(driven.has("▼TOTAL"));
    driven.press("S");
    let (x, y) = driven.find("MAX");
    driven.click(x, y);
    assert!(driven.has("▼MAX"));
    driven.click(x, y);
    assert!(driven.has("▲MAX"));
    driven.press("g");
    assert!(driven.has("By function"));
    driven.press("gg");
    assert!(driven.has("By cause"));
    driven.press("gggg");
    driven.press("/retry");
    assert!(driven.has("search: retry"));
    driven.key(KeyCode::Enter);
    assert!(driven.has("matching \"retry\"") && !driven.has("shop::audit"));
    driven.key(KeyCode::Esc);
    assert!(driven.has("shop::audit"));
    // A letter in a prompt is a letter.
    assert_eq!(driven.press("/q"), None);
    assert_eq!(driven.key(KeyCode::Esc), None);
    assert_eq!(driven.press("q"), Some(Effect::Quit));
}

#[test]
fn a_wide_table_sorts_by_location_too() {
    let mut driven = Driven::new((240, 50), Palette::Mono);
    let (x, y) = driven.find("LOCATION");
    driven.click(x, y);
    assert!(driven.has("▼LOCATION"));
    // All are at the same place: the one with most time stays on top.
    assert_eq!(driven.selected(), "shop::hash");
    assert!(driven.has("AWAITED BY"));
}

#[test]
fn a_pause_stops_the_view_and_not_the_session() {
    let mut driven = Driven::new(USUAL, Palette::Mono);
    driven.press(" ");
    let before = driven.text();
    let poll = || {
        slow(t::poll(
            0,
            9_900,
            70,
            Cause::FileIo,
            "shop::late",
            "std::fs::read",
        ))
    };
    assert!(!driven.app.needs_redraw(std::time::Duration::MAX));
    driven.take(&[poll(), poll()]);
    assert!(!driven.has("shop::late"));
    assert!(driven.has("PAUSED  +2 slow polls since"));
    assert_eq!(before.lines().count(), driven.text().lines().count());
    // The paused view can still be sorted.
    driven.press("s");
    assert!(driven.has("▼TOTAL"));
    driven.press(" ");
    assert!(driven.has("shop::late") && driven.has("LIVE"));
}

#[test]
fn the_view_threshold_goes_up_and_never_below_the_captured_one() {
    let mut driven = Driven::new(USUAL, Palette::Mono);
    driven.press("-");
    driven.press("++");
    assert!(driven.has("polls of 20 ms and longer") && !driven.has("shop::retry"));
    driven.press("---");
    assert!(driven.has("5 ms are not captured"));
    assert!(driven.has("shop::retry"));
    // Beside the tabs of a narrow screen it is said in fewer words.
    let mut narrow = Driven::new((80, 24), Palette::Mono);
    narrow.press("++");
    narrow.key(KeyCode::Home);
    assert!(narrow.has("≥ 20 ms") && !narrow.has("and longer"));
}

#[test]
fn drilling_down_folding_and_coming_back() {
    let mut driven = Driven::new(USUAL, Palette::Mono);
    driven.press("jj");
    driven.key(KeyCode::Enter);
    assert_eq!(driven.app.view, View::Detail);
    assert!(driven.has("shop::audit → std::fs::write") && driven.has("2 frames of the runtime"));
    driven.press("u");
    assert!(driven.has("tokio::runtime::task::raw::poll"));
    driven.key(KeyCode::Esc);
    assert_eq!(
        (driven.app.view, driven.selected().as_str()),
        (View::Culprits, "shop::audit")
    );
    let (x, y) = driven.find("shop::retry");
    driven.click(x, y);
    assert_eq!(driven.selected(), "shop::retry");
    driven.click(x, y);
    assert!(driven.app.view == View::Detail && driven.has("shop::retry → std::thread::sleep"));
}

#[test]
fn the_flame_view_is_about_what_one_comes_from() {
    let mut driven = Driven::new(USUAL, Palette::Mono);
    driven.press("3");
    assert!(driven.has("all blocking code") && driven.has("▏shop::retry"));
    driven.press("a");
    assert!(driven.has("Flame shop::hash") && !driven.has("▏shop::retry"));
    driven.press("1j23");
    assert!(driven.has("Flame shop::retry"));
    driven.press("j");
    driven.key(KeyCode::Enter);
    assert!(driven.has("zoomed in 1 time "));
    driven.key(KeyCode::Esc);
    driven.key(KeyCode::Esc);
    assert_eq!(driven.app.view, View::Detail);
}

#[test]
fn a_poll_of_the_timeline_leads_to_its_culprit_and_back() {
    let mut driven = Driven::new(USUAL, Palette::Mono);
    driven.press("4LLL");
    let poll = driven.app.timeline.poll().unwrap().clone();
    assert_eq!(poll.culprit.function, "shop::検索::照会する");
    let copied = driven.press("y");
    assert!(matches!(copied, Some(Effect::Copy(text)) if text.contains("検索")));
    driven.key(KeyCode::Enter);
    assert!(driven.app.view == View::Detail && driven.has("shop::検索::照会する"));
    driven.key(KeyCode::Esc);
    assert_eq!(driven.app.view, View::Timeline);
    assert_eq!(driven.app.timeline.poll(), Some(&poll));
    // A click on the scrubber moves there.
    let (x, y) = driven.find("━━━━");
    driven.click(x, y);
    assert!(driven.has("▲ 00:00.0"));
}

#[test]
fn keys_between_two_drawings_act_one_after_another() {
    let mut driven = Driven::new(USUAL, Palette::Mono);
    for key in "4LL".chars() {
        driven
            .app
            .handle(&Event::Key(KeyEvent::from(KeyCode::Char(key))));
    }
    driven.draw();
    let poll = driven.app.timeline.poll().expect("the second longest");
    assert_eq!(poll.held_ns(), 150 * MS);
}

#[test]
fn chosen_workers_narrow_every_view() {
    let mut driven = Driven::new(USUAL, Palette::Mono);
    driven.press("wa ");
    driven.key(KeyCode::Enter);
    assert!(driven.has("1 worker chosen"));
    assert!(driven.has("shop::hash") && !driven.has("shop::retry"));
    driven.press("4");
    assert!(!driven.has("worker 1"));
}

#[test]
fn the_keys_of_the_views_close_an_overlay() {
    let mut driven = Driven::new(USUAL, Palette::Mono);
    driven.press("?");
    assert!(driven.app.overlay.is_some());
    driven.press("4");
    assert!(driven.app.overlay.is_none());
    assert_eq!(driven.app.view, View::Timeline);
}

#[test]
fn keys_with_an_effect_for_the_caller() {
    let mut driven = Driven::new(USUAL, Palette::Mono);
    let control = |c| Event::Key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL));
    assert_eq!(driven.event(control('c')), Some(Effect::Quit));
    assert_eq!(driven.event(control('z')), Some(Effect::Suspend));
    assert_eq!(driven.press("m"), Some(Effect::Mouse(false)));
    let Some(Effect::Copy(text)) = driven.press("y") else {
        panic!("nothing copied");
    };
    assert!(text.starts_with("shop::hash -> bcrypt::bcrypt\n  at /srv/shop/src/main.rs:42"));
    assert!(text.contains("shop::serve (/srv/shop/src/main.rs:20)"));
    assert_eq!(driven.press("e"), None);
    let saved = driven.key(KeyCode::Enter);
    assert_eq!(saved, Some(Effect::Save("shop.trace.json".into())));
    driven.press("w");
    assert_eq!(
        driven.event(control('c')),
        Some(Effect::Quit),
        "even above a list"
    );
}

#[test]
fn the_workers_of_an_exited_target_stay_in_view() {
    let mut driven = Driven::new(USUAL, Palette::Mono);
    let at_ns = START_NS + 10_000 * MS;
    let reason = EndReason::TargetExited;
    let gone = |tid| Record::WorkerGone { tid, at_ns };
    driven.take(&[4001, 4002, 4003, 4101].map(gone));
    driven.take(&[Record::End { reason, at_ns }]);
    assert!(driven.has("2 runtimes, 4 workers") && driven.has("runtime 0 worker 2"));
}

#[test]
fn an_exited_target_stays_readable() {
    let mut driven = Driven::new(USUAL, Palette::Mono);
    let at_ns = START_NS + 10_500 * MS;
    let reason = EndReason::TargetExited;
    driven.take(&[Record::End { reason, at_ns }]);
    assert!(driven.has("EXITED") && driven.has("Stuck at the end") && driven.has("shop::stock"));
    // The clock does not advance.
    driven.now_ns = Some(START_NS + 60_000 * MS);
    let before = driven.text();
    driven.draw();
    assert_eq!(driven.text(), before);
    assert!(!driven.app.needs_redraw(std::time::Duration::MAX));
}

#[test]
fn every_thread_is_a_key_away() {
    let mut driven = Driven::new(USUAL, Palette::Mono);
    assert_eq!(driven.press("T"), Some(Effect::Census));
    assert!(driven.has("reading every thread"));
    driven.take(&[crate::session::testing::census()]);
    assert!(driven.has("shop waits for itself") && driven.has("asleep in futex"));
    assert!(driven.has("shop::serve") && driven.has("task 9 for 2.000 s"));
    driven.key(KeyCode::Esc);
    assert!(!driven.has("asleep in futex"));
}

#[test]
fn a_message_leaves_once_there_was_time_to_read_it() {
    let mut driven = Driven::new(USUAL, Palette::Mono);
    driven.app.say("a message of thirty characters");
    let said = Instant::now();
    let seconds = |n| said + Duration::from_secs(n);
    driven.app.expire_message(seconds(3));
    driven.draw();
    assert!(driven.has("a message of thirty"));
    driven.app.expire_message(seconds(6));
    assert!(driven.app.needs_redraw(Duration::ZERO));
    driven.draw();
    assert!(!driven.has("a message of thirty"));
}

#[test]
fn a_light_background_changes_the_colours() {
    let mut driven = Driven::new(USUAL, Palette::Indexed);
    let dark = driven.styles();
    driven.app.set_light(true);
    assert!(driven.app.needs_redraw(Duration::ZERO));
    driven.draw();
    assert_ne!(driven.styles(), dark);
    driven.app.set_light(false);
    driven.draw();
    assert_eq!(driven.styles(), dark);
}
