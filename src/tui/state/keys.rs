//! The keys: what each asks for, and how the footer and the help describe it.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::View;

/// What a key asks for. The view decides what it acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Quit,
    Suspend,
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
    Open,
    Back,
    View(View),
    NextView,
    PreviousView,
    Search,
    Next,
    Previous,
    Longest,
    ZoomIn,
    ZoomOut,
    Whole,
    Everything,
    Clear,
    Group,
    Sort,
    SortBack,
    Reverse,
    Pause,
    Raise,
    Lower,
    Workers,
    Save,
    Copy,
    CopyToFile,
    Help,
    Mouse,
    Scope,
    Unfold,
    Pane,
    LanesUp,
    LanesDown,
    AllPollTime,
    AsFlame,
    Threads,
}

/// Where a key works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Everywhere,
    Culprits,
    Detail,
    Flame,
    Timeline,
    PollTime,
}

/// A line of the help.
pub struct Key {
    pub keys: &'static str,
    pub place: Place,
    pub does: &'static str,
    /// A word for the footer; empty: only in the help.
    pub hint: &'static str,
}

const fn key(place: Place, keys: &'static str, hint: &'static str, does: &'static str) -> Key {
    Key {
        keys,
        place,
        does,
        hint,
    }
}

/// All keys, the most important first.
pub const KEYS: &[Key] = &[
    key(
        Place::Culprits,
        "Enter",
        "open",
        "drill down into the culprit",
    ),
    key(
        Place::Culprits,
        "s S",
        "sort",
        "sort by the next / previous column (or click a heading)",
    ),
    key(
        Place::Culprits,
        "g",
        "group",
        "group by culprit, function, file, cause, future, task",
    ),
    key(
        Place::Culprits,
        "/",
        "search",
        "show only rows that contain a text",
    ),
    key(Place::Culprits, "r", "", "reverse the order"),
    key(
        Place::Culprits,
        "c",
        "",
        "clear the slow polls counted so far (live only)",
    ),
    key(
        Place::Culprits,
        "t",
        "",
        "switch between totals since the start and the window of --window",
    ),
    key(Place::Culprits, "J K", "", "scroll the workers"),
    key(
        Place::Detail,
        "Enter",
        "fold",
        "fold or unfold (also Left / Right)",
    ),
    key(
        Place::Detail,
        "u",
        "runtime",
        "unfold or fold all runtime frames",
    ),
    key(
        Place::Detail,
        "p",
        "pane",
        "move between the call tree and the facts",
    ),
    key(
        Place::Detail,
        "/ n N",
        "search",
        "find a function, next, previous",
    ),
    key(Place::Detail, "Esc", "back", "back to the culprits"),
    key(
        Place::Flame,
        "Enter",
        "zoom in",
        "zoom into the frame (also a second click)",
    ),
    key(Place::Flame, "Esc", "out", "zoom out, then back"),
    key(
        Place::Flame,
        "a",
        "all",
        "switch between all blocking code and the culprit",
    ),
    key(
        Place::Flame,
        "/ n N",
        "search",
        "highlight functions, next, previous",
    ),
    key(
        Place::Flame,
        "u",
        "runtime",
        "show or hide the frames of the runtime",
    ),
    key(Place::Flame, "Home", "", "zoom all the way out"),
    key(
        Place::Timeline,
        "n N",
        "next poll",
        "the next / previous slow poll",
    ),
    key(
        Place::Timeline,
        "L",
        "longest",
        "the longest slow poll, then the next longest",
    ),
    key(
        Place::Timeline,
        "z Z",
        "zoom",
        "zoom in, out at the cursor (also the wheel)",
    ),
    key(Place::Timeline, "0", "whole", "the whole session"),
    key(
        Place::Timeline,
        "Enter",
        "open",
        "drill down into the poll's culprit",
    ),
    key(
        Place::Timeline,
        "Left Right",
        "",
        "move the cursor by a column; PgUp, PgDn by half a screen",
    ),
    key(Place::Timeline, "Up Down", "", "another worker"),
    key(
        Place::PollTime,
        "x",
        "on/off",
        "start or stop sampling all poll time (live only)",
    ),
    key(
        Place::PollTime,
        "Enter",
        "open",
        "open the call tree of the code under the cursor",
    ),
    key(
        Place::PollTime,
        "f",
        "flame",
        "switch between call tree and flame graph",
    ),
    key(
        Place::PollTime,
        "a",
        "all",
        "switch between everything and the code under the cursor",
    ),
    key(
        Place::PollTime,
        "p",
        "pane",
        "move between the table and the call tree",
    ),
    key(
        Place::PollTime,
        "/ n N",
        "search",
        "filter the table; in the call tree: find, next, previous",
    ),
    key(
        Place::PollTime,
        "u",
        "",
        "unfold or fold all runtime frames",
    ),
    key(Place::Everywhere, "?", "help", "columns, concepts and keys"),
    key(
        Place::Everywhere,
        "Space",
        "pause",
        "pause the view; recording goes on",
    ),
    key(
        Place::Everywhere,
        "1-5 Tab",
        "view",
        "culprits, call tree, flame, timeline, all poll time",
    ),
    key(
        Place::Everywhere,
        "T",
        "",
        "list every thread of the process: state, stack, poll, and what hangs",
    ),
    key(Place::Everywhere, "w", "workers", "choose workers"),
    key(
        Place::Everywhere,
        "+ -",
        "threshold",
        "raise / lower the threshold of the view",
    ),
    key(
        Place::Everywhere,
        "y Y",
        "copy",
        "copy the selection as text / write it into a file",
    ),
    key(Place::Everywhere, "e", "save", "save the trace now"),
    key(Place::Everywhere, "q", "quit", "quit (also Ctrl+C)"),
    key(
        Place::Everywhere,
        "hjkl",
        "",
        "move, as the arrows, PgUp, PgDn, Home, End",
    ),
    key(
        Place::Everywhere,
        "m",
        "",
        "switch the mouse between hud and the terminal",
    ),
    key(Place::Everywhere, "Ctrl+Z", "", "suspend; fg comes back"),
];

/// What a key asks for, unless a prompt is open.
pub fn action(event: &KeyEvent) -> Option<Action> {
    let control = event.modifiers.contains(KeyModifiers::CONTROL);
    if control {
        return Some(match event.code {
            KeyCode::Char('c') => Action::Quit,
            KeyCode::Char('z') => Action::Suspend,
            KeyCode::Char('f' | 'd') => Action::PageDown,
            KeyCode::Char('b' | 'u') => Action::PageUp,
            _ => return None,
        });
    }
    Some(match event.code {
        KeyCode::Char('q') => Action::Quit,
        KeyCode::Up | KeyCode::Char('k') => Action::Up,
        KeyCode::Down | KeyCode::Char('j') => Action::Down,
        KeyCode::Left | KeyCode::Char('h') => Action::Left,
        KeyCode::Right | KeyCode::Char('l') => Action::Right,
        KeyCode::PageUp => Action::PageUp,
        KeyCode::PageDown => Action::PageDown,
        KeyCode::Home => Action::Home,
        KeyCode::End | KeyCode::Char('G') => Action::End,
        KeyCode::Enter => Action::Open,
        KeyCode::Esc | KeyCode::Backspace => Action::Back,
        KeyCode::Tab => Action::NextView,
        KeyCode::BackTab => Action::PreviousView,
        KeyCode::Char('1') => Action::View(View::Culprits),
        KeyCode::Char('2') => Action::View(View::Detail),
        KeyCode::Char('3') => Action::View(View::Flame),
        KeyCode::Char('4') => Action::View(View::Timeline),
        KeyCode::Char('5') => Action::View(View::PollTime),
        KeyCode::Char('x') => Action::AllPollTime,
        KeyCode::Char('f') => Action::AsFlame,
        KeyCode::Char('/') => Action::Search,
        KeyCode::Char('n' | ']') => Action::Next,
        KeyCode::Char('N' | '[') => Action::Previous,
        KeyCode::Char('L') => Action::Longest,
        KeyCode::Char('z') => Action::ZoomIn,
        KeyCode::Char('Z') => Action::ZoomOut,
        KeyCode::Char('0') => Action::Whole,
        KeyCode::Char('a') => Action::Everything,
        KeyCode::Char('c') => Action::Clear,
        KeyCode::Char('g') => Action::Group,
        KeyCode::Char('s') => Action::Sort,
        KeyCode::Char('S') => Action::SortBack,
        KeyCode::Char('r') => Action::Reverse,
        KeyCode::Char(' ') => Action::Pause,
        KeyCode::Char('+' | '=') => Action::Raise,
        KeyCode::Char('-' | '_') => Action::Lower,
        KeyCode::Char('w') => Action::Workers,
        KeyCode::Char('e') => Action::Save,
        KeyCode::Char('y') => Action::Copy,
        KeyCode::Char('Y') => Action::CopyToFile,
        KeyCode::Char('?') | KeyCode::F(1) => Action::Help,
        KeyCode::Char('m') => Action::Mouse,
        KeyCode::Char('t') => Action::Scope,
        KeyCode::Char('u') => Action::Unfold,
        KeyCode::Char('p') => Action::Pane,
        KeyCode::Char('K') => Action::LanesUp,
        KeyCode::Char('J') => Action::LanesDown,
        KeyCode::Char('T') => Action::Threads,
        _ => return None,
    })
}
