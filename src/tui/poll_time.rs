//! All poll time: which code the workers' CPU time in polls goes to, slow polls or not; a table, and
//! below it the call tree or flame graph of the code under the cursor.

use std::sync::Arc;

use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Span;

use super::canvas::{Canvas, Hit, narrow, row_of, scrolled};
use super::culprits::cause_name;
use super::flame::{Done, FlameView};
use super::help::wrap;
use super::keys::Action;
use super::text::{self, RowText};
use super::tree_rows::Path;
use super::tree_view::TreeView;
use crate::session::{CallTree, ProfileView, Snapshot, SpotKey, SpotRow};

/// Rows of the table that stay in view while the call tree has the focus.
const TABLE_LEAST: u16 = 4;
/// Columns from which on locations are shown.
const LOCATIONS: usize = 110;

/// The rows, where the cursors are, and what is shown below the table.
#[derive(Debug, Default)]
pub struct PollTimeView {
    shown: Vec<Arc<SpotRow>>,
    /// Code under the cursor; none: whatever is on top.
    selected: Option<SpotKey>,
    at: usize,
    offset: usize,
    page: usize,
    /// The part below the table has the focus.
    below: bool,
    as_flame: bool,
    /// The part below is about everything.
    everything: bool,
    tree: TreeView,
    flame: FlameView,
    /// What the part below is about; none: everything.
    about: Option<SpotKey>,
}

impl PollTimeView {
    /// Takes the rows of a new picture; with a search, those that contain it.
    pub fn update(&mut self, snap: &Snapshot, search: &str) {
        let Some(profile) = &snap.profile else {
            return;
        };
        let keep = |row: &&Arc<SpotRow>| {
            // In the call tree a search is for functions there.
            self.below || search.is_empty() || row.name().to_lowercase().contains(search)
        };
        self.shown = profile.spots.iter().filter(keep).cloned().collect();
        let same = |row: &Arc<SpotRow>| Some(&row.key) == self.selected.as_ref();
        self.at = match self.selected {
            None => 0,
            Some(_) => {
                let at = self.shown.iter().position(same);
                at.unwrap_or(self.at.min(self.shown.len().saturating_sub(1)))
            }
        };
        let about = match self.everything {
            true => None,
            false => self.shown.get(self.at).map(|row| row.key.clone()),
        };
        if about != self.about {
            self.about = about;
            self.tree = TreeView::default();
            self.flame.about(false);
        }
        let tree = self.subject(profile);
        let function = self.about.as_ref().map_or("", |(function, _)| function);
        self.tree.update(&tree, function);
        let title = match &self.about {
            Some((function, _)) => function.to_string(),
            None => "all poll time".to_owned(),
        };
        self.flame.show(tree, title, "of CPU time");
    }

    /// The call tree of what the part below is about.
    fn subject(&self, profile: &ProfileView) -> Arc<CallTree> {
        match &self.about {
            Some(key) => profile.find(key).map(|row| row.tree.clone()),
            None => Some(profile.tree.clone()),
        }
        .unwrap_or_default()
    }

    /// The code under the cursor.
    pub fn selected(&self, snap: &Snapshot) -> Option<Arc<SpotRow>> {
        let row = self.shown.get(self.at)?;
        snap.profile.as_ref()?.find(&row.key).cloned()
    }

    fn select(&mut self, at: usize) {
        self.at = at.min(self.shown.len().saturating_sub(1));
        self.selected = self.shown.get(self.at).map(|row| row.key.clone());
    }

    /// Does what a key asks for.
    pub fn act(&mut self, action: Action, search: &str) -> Done {
        let page = self.page.max(1) as isize;
        match (action, self.below) {
            (Action::Pane, _) => self.below = !self.below,
            (Action::AsFlame, _) => self.as_flame = !self.as_flame,
            (Action::Everything, _) => self.everything = !self.everything,
            (Action::Back, true) if !self.as_flame => self.below = false,
            (other, true) if self.as_flame => {
                self.below = self.flame.act(other, search) == Done::Here;
            }
            (other, true) => self.tree.act(other, search),
            (Action::Up, false) => self.move_by(-1),
            (Action::Down, false) => self.move_by(1),
            (Action::PageUp, false) => self.move_by(-page),
            (Action::PageDown, false) => self.move_by(page),
            (Action::Home, false) => self.selected = None,
            (Action::End, false) => self.select(usize::MAX),
            (Action::Open | Action::Right, false) => self.below = true,
            (Action::Unfold, false) => {
                self.tree.act(action, search);
                self.flame.act(action, search);
            }
            (Action::Back, false) => return Done::Leave,
            _ => {}
        }
        Done::Here
    }

    fn move_by(&mut self, by: isize) {
        self.select(self.at.saturating_add_signed(by));
    }

    /// The wheel moves what it is over.
    pub fn wheel(&mut self, by: isize, over: Option<Hit>) {
        match over {
            Some(Hit::Spot(_)) => self.move_by(by),
            _ => self.tree.scroll(by),
        }
    }

    /// A click on a row of the table; on the one under the cursor it opens it.
    pub fn click(&mut self, at: usize) {
        self.below = at == self.at;
        self.select(at);
    }

    /// A click on a row of the call tree.
    pub fn click_tree(&mut self, at: usize) {
        self.below = true;
        self.tree.click(at);
    }

    /// A click on a bar of the flame graph.
    pub fn click_flame(&mut self, path: Path) {
        self.below = true;
        self.flame.click(path);
    }

    /// Draws the view.
    pub fn draw(&mut self, c: &mut Canvas, area: Rect, search: &str, replay: bool) {
        let Some(profile) = c.snap.profile.clone() else {
            return;
        };
        c.heading(area, 0, "All poll time", &note(c.snap, &profile));
        let area = Rect {
            y: area.y + 1,
            height: area.height.saturating_sub(1),
            ..area
        };
        if profile.spots.is_empty() {
            explain(c, area, replay);
            return;
        }
        let wanted = narrow(self.shown.len().max(1) + 2);
        let most = match self.below {
            true => TABLE_LEAST.max(area.height / 4),
            false => area.height / 2,
        };
        let [table, below] =
            Layout::vertical([Constraint::Length(wanted.min(most)), Constraint::Fill(1)])
                .areas(area);
        self.draw_table(c, table, &profile, search);
        if self.as_flame {
            self.flame.draw(c, below, search);
        } else {
            let tree = self.subject(&profile);
            let title = match self.about {
                Some(_) => "Call tree",
                None => "Call tree of all poll time",
            };
            self.tree.draw(c, below, (&tree, title), self.below, search);
        }
    }

    fn draw_table(&mut self, c: &mut Canvas, area: Rect, profile: &ProfileView, search: &str) {
        let width = usize::from(area.width);
        let cause = if width >= 100 { 13 } else { 7 };
        let numbers = cause + 8 + 6 + 3;
        let location = match width >= LOCATIONS && self.shown.iter().any(|r| r.location.is_some()) {
            true => (width - numbers) * 2 / 5,
            false => 0,
        };
        let name = width.saturating_sub(numbers + 2 + location + usize::from(location > 0));
        let heading = c.theme.dim().add_modifier(Modifier::BOLD);
        let mut line = RowText::default();
        line.push(text::left("  CODE", name + 3), heading);
        line.push(text::left("CAUSE", cause + 1), heading);
        line.push(text::right("▼CPU", 8), c.theme.title());
        line.push(text::right("SHARE", 6), heading);
        if location > 0 {
            line.push("  LOCATION", heading);
        }
        c.row(area, 0, line.line());
        let body = Rect {
            y: area.y + 1,
            height: area.height.saturating_sub(1),
            ..area
        };
        if self.shown.is_empty() {
            let nothing = format!("  Nothing matches \"{search}\"; Esc clears the search.");
            c.row(body, 0, Span::styled(nothing, c.theme.dim()));
            return;
        }
        self.page = usize::from(body.height);
        self.offset = scrolled(self.offset, self.at, self.shown.len(), self.page);
        let rows = self.shown.iter().enumerate().skip(self.offset);
        for (y, (at, row)) in (0..body.height).zip(rows) {
            let share = profile.share(row);
            let (label, calls) = text::call(&row.key.0, row.key.1.as_deref(), name);
            let used = text::width(&label) + text::width(&calls);
            let mut line = RowText::default();
            line.push("  ", Style::new());
            line.push(label, c.theme.strong());
            line.push(calls, c.theme.dim());
            line.push(" ".repeat(name.saturating_sub(used) + 1), Style::new());
            let cause_text = text::left(cause_name(row.cause, cause), cause + 1);
            line.push(cause_text, c.theme.cause(row.cause));
            let cpu = text::right(&text::duration(row.cpu_ns), 8);
            line.push(cpu, c.theme.strong());
            line.push(text::right(&text::percent(share), 6), Style::new());
            if let Some(at) = row.location.as_ref().filter(|_| location > 0) {
                let at = text::path(&at.to_string(), location.saturating_sub(2));
                line.push(format!("  {at}"), c.theme.dim());
            }
            c.row(body, y, line.line());
            if at == self.at {
                c.style_row(body, y, c.theme.selected());
            }
            c.hit(row_of(body, y), Hit::Spot(at));
        }
        let hidden = self.shown.len().saturating_sub(self.offset + self.page);
        if hidden > 0 {
            let more = format!(" {} more below ", text::count(hidden as u64));
            c.right(area, 0, Span::styled(more, c.theme.dim()));
        }
    }
}

/// How much there is, and whether it grows.
fn note(snap: &Snapshot, profile: &ProfileView) -> String {
    let state = match (snap.profiling, snap.profiled_ns) {
        (true, _) => "on",
        (false, 0) => "off",
        (false, _) => "no longer sampled",
    };
    if profile.spots.is_empty() {
        return state.to_owned();
    }
    let part = text::part(profile.cpu_ns, snap.profiled_ns);
    let scope = match snap.window_ns {
        Some(ns) => format!(" of the last {}", text::duration(ns)),
        None => String::new(),
    };
    format!(
        "{} on CPU in polls, slow or not, in {}{scope} ({} of one CPU); {state}",
        text::duration(profile.cpu_ns),
        text::duration(snap.profiled_ns),
        text::percent(part),
    )
}

/// What this is, and how to get it.
fn explain(c: &mut Canvas, area: Rect, replay: bool) {
    let how = match (replay, c.snap.profiling, c.snap.ended) {
        (true, ..) if c.snap.profiled_ns == 0 => {
            "This recording has none: it was off. Record with --all-poll-time, or press x meanwhile."
        }
        (true, ..) => "It was sampled, and no poll met a sample.",
        (_, true, _) => "It is on: the first samples show in a second, if any poll computes.",
        (.., Some(_)) => "It was off, and the session has ended.",
        _ => "It is off: press x to sample it from now on (or start hud with --all-poll-time).",
    };
    let what = "All poll time is where the workers' CPU time in polls goes, slow polls or not: a \
                poll of 2 ms blocks nobody, but a thousand of them fill a worker. It comes from \
                samples with whole stacks, so it is an estimate, and each sample costs hud CPU \
                time. Waiting does not count. Slow polls are in the other views.";
    let width = usize::from(area.width).saturating_sub(4);
    let how = wrap(how, width).map(|row| (row, c.theme.strong()));
    let what = wrap(what, width).map(|row| (row, c.theme.dim()));
    let gap = (String::new(), Style::new());
    let rows: Vec<_> = how.chain([gap]).chain(what).collect();
    for (y, (row, style)) in (1..area.height).zip(rows) {
        c.row(area, y, Span::styled(format!("  {row}"), style));
    }
}
