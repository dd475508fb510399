//! All poll time: which code the workers' CPU time in polls goes to, slow polls or not. A table, and
//! below it the call tree or flame graph of the code under the cursor.

mod table;

use std::sync::Arc;

use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::Span;

use self::table::Table;
use crate::session::{CallTree, ProfileView, Snapshot, SpotKey, SpotRow};
use crate::text;
use crate::tui::state::Handled;
use crate::tui::state::keys::Action;
use crate::tui::widgets::call_tree::CallTreeView;
use crate::tui::widgets::call_tree::rows::Path;
use crate::tui::widgets::canvas::{Canvas, Hit};
use crate::tui::widgets::flame_graph::FlameGraph;

/// Rows of the table that stay in view while the call tree has the focus.
const TABLE_LEAST: u16 = 4;
/// What the call tree is about when it is about everything.
const EVERYTHING: &str = "all poll time";

/// The table, and what is shown below it.
#[derive(Debug, Default)]
pub struct PollTimeView {
    table: Table,
    /// The part below the table has the focus.
    below: bool,
    /// The part below is a flame graph, not a call tree.
    as_flame: bool,
    /// The part below is about everything, not about the code under the cursor.
    everything: bool,
    tree: CallTreeView,
    flame: FlameGraph,
    /// What the part below is about; None: everything.
    about: Option<SpotKey>,
}

impl PollTimeView {
    /// Takes the rows of a new snapshot; with a search, those that contain it.
    pub fn update(&mut self, snap: &Snapshot, search: &str) {
        let Some(profile) = &snap.profile else {
            return;
        };
        // While the call tree has the focus, the search is for functions in it.
        self.table
            .update(profile, if self.below { "" } else { search });
        let about = match self.everything {
            true => None,
            false => self.table.selected().map(|row| row.key.clone()),
        };
        if about != self.about {
            self.about = about;
            self.tree = CallTreeView::default();
            self.flame.reset();
        }
        let tree = self.subject(profile);
        let function = self.about.as_ref().map_or("", |(function, _)| function);
        self.tree.update(&tree, function);
        self.flame.set_tree(tree);
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
        let row = self.table.selected()?;
        snap.profile.as_ref()?.find(&row.key).cloned()
    }

    /// Does what a key asks for.
    pub fn act(&mut self, action: Action, search: &str) -> Handled {
        match (action, self.below) {
            (Action::Pane, _) => self.below = !self.below,
            (Action::AsFlame, _) => self.as_flame = !self.as_flame,
            (Action::Everything, _) => self.everything = !self.everything,
            (Action::Back, true) if !self.as_flame => self.below = false,
            (other, true) if self.as_flame => {
                self.below = self.flame.act(other, search) == Handled::Here;
            }
            (other, true) => self.tree.act(other, search),
            (Action::Open | Action::Right, false) => self.below = true,
            (Action::Unfold, false) => {
                self.tree.act(action, search);
                self.flame.act(action, search);
            }
            (Action::Back, false) => return Handled::Leave,
            (other, false) => self.table.act(other),
        }
        Handled::Here
    }

    /// The mouse wheel over the table or what is below it.
    pub fn wheel(&mut self, by: isize, over: Option<Hit>) {
        match over {
            Some(Hit::Spot(_)) => self.table.move_by(by),
            _ => self.tree.scroll(by),
        }
    }

    /// A click on a row of the table; on the one under the cursor it opens it.
    pub fn click(&mut self, at: usize) {
        self.below = self.table.is_at(at);
        self.table.select(at);
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
        let (title, note) = ("All poll time", note(c.snap, &profile));
        let heading = area;
        let area = Rect {
            y: area.y + 1,
            height: area.height.saturating_sub(1),
            ..area
        };
        if profile.spots.is_empty() {
            c.heading(heading, 0, title, &note);
            explain(c, area, replay);
            return;
        }
        let most = match self.below {
            true => TABLE_LEAST.max(area.height / 4),
            false => area.height / 2,
        };
        let rows = self.table.height().min(most);
        let [table, below] =
            Layout::vertical([Constraint::Length(rows), Constraint::Fill(1)]).areas(area);
        let end = match self.table.draw(c, table, &profile, search) {
            0 => String::new(),
            hidden => format!("{} more below", text::count(hidden as u64)),
        };
        c.heading_with_end(heading, 0, title, &note, &end);
        if self.as_flame {
            let about = match &self.about {
                Some((function, _)) => function,
                None => EVERYTHING,
            };
            self.flame.draw(c, below, about, "of CPU time", search);
        } else {
            let tree = self.subject(&profile);
            let title = match self.about {
                Some(_) => "Call tree",
                None => "Call tree of all poll time",
            };
            self.tree.draw(c, below, (&tree, title), self.below, search);
        }
    }
}

/// How much was sampled, and whether sampling is on.
fn note(snap: &Snapshot, profile: &ProfileView) -> String {
    let state = match (snap.profiling, snap.profiled_ns) {
        (true, _) => "on",
        (false, 0) => "off",
        (false, _) => "no longer sampled",
    };
    if profile.spots.is_empty() {
        return state.to_owned();
    }
    let share = text::share(profile.cpu_ns, snap.profiled_ns);
    let scope = match snap.window_ns {
        Some(ns) => format!(" of the last {}", text::duration(ns)),
        None => String::new(),
    };
    format!(
        "{} on CPU in polls, slow or not, in {}{scope} ({} of one CPU); {state}",
        text::duration(profile.cpu_ns),
        text::duration(snap.profiled_ns),
        text::percent(share),
    )
}

/// What all poll time is, and how to sample it.
fn explain(c: &mut Canvas, area: Rect, replay: bool) {
    let how = match (replay, c.snap.profiling, c.snap.ended) {
        (true, ..) if c.snap.profiled_ns == 0 => {
            "This recording has none: it was off. Record with --all-poll-time, or press x while \
             recording."
        }
        (true, ..) => "It was sampled, and no sample fell into a poll.",
        (_, true, _) => "It is on: the first samples appear in a second, if any poll computes.",
        (.., Some(_)) => "It was off, and the session has ended.",
        _ => "It is off: press x to sample it from now on (or start hud with --all-poll-time).",
    };
    let what = "All poll time is where the workers' CPU time in polls goes, slow polls or not: a \
                poll of 2 ms blocks nobody, but a thousand of them fill a worker. It comes from \
                samples with whole stacks, so it is an estimate, and each sample costs hud CPU \
                time. Waiting does not count. Slow polls are in the other views.";
    let width = usize::from(area.width).saturating_sub(4);
    let styled = |text: &str, style: Style| {
        let rows = text::wrap(text, width).into_iter();
        rows.map(move |row| (row, style))
    };
    let how = styled(how, c.theme.strong());
    let what = styled(what, c.theme.dim());
    let gap = (String::new(), Style::new());
    let rows: Vec<_> = how.chain([gap]).chain(what).collect();
    for (y, (row, style)) in (1..area.height).zip(rows) {
        c.row(area, y, Span::styled(format!("  {row}"), style));
    }
}
