//! The table of culprits: which code held workers, how often and how long. Code that held root
//! futures, and polls delayed from outside (run queue, stopped), follow below under headings of
//! their own.

use std::sync::Arc;

use ratatui::layout::{Margin, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Widget, Wrap};

use super::columns::{Column, Columns, Wanted};
use crate::model::Cause;
use crate::session::{Basis, Group, Kind, Row, RowKey, Snapshot, Sort, TREND_BINS};
use crate::text;
use crate::tui::state::keys::Action;
use crate::tui::widgets::bars::sparkline;
use crate::tui::widgets::canvas::{Canvas, Hit, narrow, row_of};
use crate::tui::widgets::cursor::{Cursor, Keyed};
use crate::tui::widgets::row::RowText;
use crate::tui::widgets::theme::Theme;

/// The rows as shown, and the one under the cursor.
#[derive(Debug, Default)]
pub struct Table {
    shown: Vec<Arc<Row>>,
    cursor: Cursor<Arc<Row>>,
    pub reversed: bool,
}

impl Table {
    /// Takes the rows of a new snapshot; with a search, those that contain it.
    pub fn update(&mut self, snap: &Snapshot, search: &str) {
        let keep = |row: &&Arc<Row>| search.is_empty() || contains(row, search);
        self.shown.clear();
        for rows in [&snap.rows, &snap.root_rows, &snap.not_code_rows] {
            let start = self.shown.len();
            self.shown.extend(rows.iter().filter(keep).cloned());
            if self.reversed {
                self.shown[start..].reverse();
            }
        }
        self.cursor.update(&self.shown);
    }

    /// The culprit under the cursor. While the chosen one is not in the table, that is the one in
    /// its place.
    pub fn selected_key(&self) -> Option<RowKey> {
        let row = self.shown.get(self.cursor.at());
        row.map(Keyed::key).or_else(|| self.cursor.key().cloned())
    }

    /// Puts the cursor on the first row, whichever that is.
    pub fn select_first(&mut self) {
        self.cursor.follow(None);
    }

    /// Puts the cursor on a row as shown.
    pub fn select(&mut self, at: usize) {
        self.cursor.select(at, &self.shown);
    }

    /// Moves the cursor by rows.
    pub fn move_by(&mut self, by: isize) {
        self.cursor.move_by(by, &self.shown);
    }

    /// Moves the cursor if the key asks for that.
    pub fn act(&mut self, action: Action) {
        self.cursor.act(action, &self.shown);
    }

    /// Rows of the screen that show everything, headings included.
    pub fn height(&self) -> u16 {
        narrow(2 + self.shown.len().max(1) + self.headings())
    }

    /// How many kinds of rows have a heading of their own: all but [`Kind::Worker`].
    fn headings(&self) -> usize {
        let kinds = [Kind::Root, Kind::Outside].into_iter();
        kinds
            .filter(|kind| self.shown.iter().any(|row| row.key.kind() == *kind))
            .count()
    }

    /// The kind of the row at `at`, if it differs from that of the row above.
    fn section_at(&self, at: usize, first: usize) -> Option<Kind> {
        let kind = self.shown.get(at)?.key.kind();
        let above = at.checked_sub(1).filter(|_| at > first);
        let above = above.map_or(Kind::Worker, |above| self.shown[above].key.kind());
        (kind != above).then_some(kind)
    }

    /// Whether the cursor is on this row as shown.
    pub fn is_at(&self, at: usize) -> bool {
        self.cursor.at() == at
    }
}

impl Keyed for Arc<Row> {
    type Key = RowKey;

    fn key(&self) -> RowKey {
        self.key.clone()
    }
}

fn contains(row: &Row, search: &str) -> bool {
    let has = |text: &str| text.to_lowercase().contains(search);
    has(&row.label)
        || row.calls.as_deref().is_some_and(has)
        || row.cause.as_str().contains(search)
        || row.location.as_ref().is_some_and(|l| has(&l.file))
        || row.chain.iter().any(|name| has(name))
}

/// Draws the table.
pub fn draw(c: &mut Canvas, area: Rect, table: &mut Table, sort: Sort, search: &str) {
    if area.height < 2 {
        return;
    }
    let columns = Columns::fit(area.width, wanted(&table.shown, c.snap.group));
    let note = note(c.snap, search);
    headings(c, area, &columns, sort, table.reversed);
    let body = Rect {
        y: area.y + 2,
        height: area.height - 2,
        ..area
    };
    if table.shown.is_empty() {
        c.heading(area, 0, title(c.snap.group), &note);
        empty(c, body, search);
        return;
    }
    // The headings of the other rows take rows themselves.
    let height = body.height.saturating_sub(narrow(table.headings()));
    let in_view = table.cursor.in_view(height, &table.shown);
    let hidden = table.shown.len() - in_view.end;
    let end = match hidden {
        0 => String::new(),
        hidden => format!("{} more below", text::count(hidden as u64)),
    };
    c.heading_with_end(area, 0, title(c.snap.group), &note, &end);
    let mut y = 0;
    for at in in_view.clone() {
        if let Some(kind) = table.section_at(at, in_view.start) {
            let (title, note) = section(c.snap, kind);
            c.heading(body, y, title, &note);
            y += 1;
        }
        let row = &table.shown[at];
        let is_dim = row.key.kind() == Kind::Outside;
        let line = line(c.theme, c.snap, row, &columns, is_dim);
        c.row(body, y, line);
        if table.is_at(at) {
            c.style_row(body, y, c.theme.selected());
        }
        c.hit(row_of(body, y), Hit::Row(at));
        y += 1;
    }
}

/// The heading of a kind of rows, and what they add up to.
fn section(snap: &Snapshot, kind: Kind) -> (&'static str, String) {
    let (title, sum, what) = match kind {
        Kind::Worker => ("held workers", snap.blocking, ""),
        Kind::Root => ("held root futures", snap.roots, ": no worker was held"),
        Kind::Outside => (
            "held up from outside",
            snap.not_code,
            ": not this code's fault",
        ),
    };
    let polls = text::counted(sum.polls, "poll");
    (
        title,
        format!("{polls}, {}{what}", text::duration(sum.held_ns)),
    )
}

fn title(group: Group) -> &'static str {
    match group {
        Group::Culprit => "Culprits",
        Group::Function => "By function",
        Group::File => "By file",
        Group::Cause => "By cause",
        Group::Future => "By future",
        Group::Task => "By task",
    }
}

/// What the table covers.
fn note(snap: &Snapshot, search: &str) -> String {
    let blocking = snap.blocking;
    let mut note = format!(
        "{} in {}",
        text::duration(blocking.held_ns),
        text::counted(blocking.polls, "slow poll")
    );
    match snap.window_ns {
        Some(ns) => note.push_str(&format!(", last {}", text::duration(ns))),
        None => note.push_str(" since start"),
    }
    if let Basis::Kept { since_ns } = snap.basis {
        let ago = text::duration(snap.now_ns.saturating_sub(since_ns));
        note.push_str(&format!(", from polls kept whole (last {ago})"));
    }
    if !search.is_empty() {
        note.push_str(&format!(", matching \"{search}\""));
    }
    note
}

fn headings(c: &mut Canvas, area: Rect, columns: &Columns, sort: Sort, reversed: bool) {
    let theme = c.theme;
    let mark = |sorted: bool| match (sorted, reversed) {
        (false, _) => "",
        (true, false) => "▼",
        (true, true) => "▲",
    };
    let style = |sorted: bool| match sorted {
        true => theme.title(),
        false => theme.dim().add_modifier(Modifier::BOLD),
    };
    let row = row_of(area, 1);
    let mut line = RowText::default();
    let mut clicks = Vec::new();
    let by_name = sort == Sort::Name;
    let heading = format!(
        "  {}{}",
        c.snap.group.as_str().to_uppercase(),
        mark(by_name)
    );
    clicks.push((0, columns.name + 2, Sort::Name));
    line.push(text::left(&heading, columns.name + 2), style(by_name));
    for &(column, width) in &columns.fixed {
        let sorted = column.sort() == Some(sort) && column != Column::Share;
        let heading = format!("{}{}", mark(sorted), column.heading());
        let text = match column {
            Column::Cause | Column::Trend => text::left(&heading, width),
            _ => text::right(&heading, width),
        };
        line.push(" ", Style::new());
        if let Some(sort) = column.sort() {
            clicks.push((line.used(), width, sort));
        }
        line.push(text, style(sorted));
    }
    if columns.location > 0 {
        let sorted = sort == Sort::Location;
        let heading = text::left(&format!("{}LOCATION", mark(sorted)), columns.location);
        line.push(" ", Style::new());
        clicks.push((line.used(), columns.location, Sort::Location));
        line.push(heading, style(sorted));
    }
    if columns.future > 0 {
        let heading = text::left("AWAITED BY", columns.future);
        line.push(format!(" {heading}"), style(false));
    }
    c.row(area, 1, line.line());
    for (x, width, sort) in clicks {
        let click = Rect {
            x: row.x + narrow(x),
            width: narrow(width),
            ..row
        };
        c.hit(click.intersection(row), Hit::Sort(sort));
    }
}

fn line(
    theme: Theme,
    snap: &Snapshot,
    row: &Row,
    columns: &Columns,
    outside: bool,
) -> Line<'static> {
    let mut line = RowText::default();
    let share = snap.share(row);
    let severity = match share {
        _ if outside => ("  ", theme.dim()),
        s if s >= 0.4 => ("▌ ", theme.cause(Cause::Cpu)),
        s if s >= 0.1 => ("▎ ", theme.warn()),
        _ => ("  ", Style::new()),
    };
    line.push(severity.0, severity.1);
    name(&mut line, theme, row, columns.name, snap.group, outside);
    for &(column, width) in &columns.fixed {
        line.push(" ", Style::new());
        let (text, style) = match column {
            Column::Cause => {
                let text = text::left(text::cause(row.cause, width), width);
                line.push(text, theme.cause(row.cause));
                continue;
            }
            Column::Polls => (text::count(row.polls), Style::new()),
            Column::Own => (text::duration(row.own_ns), theme.strong()),
            Column::Total => (text::duration(row.total_ns), Style::new()),
            Column::Max => (text::duration(row.max_ns), Style::new()),
            Column::P50 => (text::duration(row.p50_ns), Style::new()),
            Column::P99 => (text::duration(row.p99_ns), Style::new()),
            Column::Share => (text::percent(share), theme.strong()),
            Column::Last => (
                text::ago(snap.now_ns.saturating_sub(row.last_seen_ns)),
                theme.dim(),
            ),
            Column::Trend => {
                let bins = row.trend.last_until(snap.now_ns, TREND_BINS);
                let text = text::left(&sparkline(&bins, width), width);
                line.push(text, theme.cause(row.cause));
                continue;
            }
        };
        let style = if outside { theme.dim() } else { style };
        line.push(text::right(&text, width), style);
    }
    if columns.location > 0 {
        let location = row.location.as_ref().map(text::location);
        let location = text::path(&location.unwrap_or_default(), columns.location);
        let location = text::left(&location, columns.location);
        line.push(format!(" {location}"), theme.dim());
    }
    if columns.future > 0 {
        let future = text::path(future(row, snap.group).unwrap_or(""), columns.future);
        line.push(format!(" {future}"), theme.dim());
    }
    line.line()
}

/// How wide the texts of the rows are, in bytes: an upper bound of the columns, and much cheaper.
fn wanted(rows: &[Arc<Row>], group: Group) -> Wanted {
    let longest = |length: fn(&Row, Group) -> usize| {
        let lengths = rows.iter().map(|row| length(row, group));
        lengths.max().unwrap_or(0)
    };
    Wanted {
        name: longest(|row, group| {
            let calls = calls(row, group).map_or(0, |calls| calls.len() + " → ".len());
            row.label.len() + calls
        }),
        location: longest(|row, _| {
            let line = |line: u32| line.checked_ilog10().unwrap_or(0) as usize + ":1".len();
            let location = row.location.as_ref();
            location.map_or(0, |at| at.file.len() + line(at.line))
        }),
        future: longest(|row, group| future(row, group).map_or(0, str::len)),
        quantiles: rows.iter().any(|row| row.p99_ns < row.max_ns),
    }
}

/// What the row's code called, if the row is about one function.
fn calls(row: &Row, group: Group) -> Option<&str> {
    match group {
        Group::Culprit | Group::Function => row.calls.as_deref(),
        _ => None,
    }
}

/// The task's future, unless the row is itself about futures or tasks.
fn future(row: &Row, group: Group) -> Option<&str> {
    match group {
        Group::Culprit | Group::Function | Group::File => {
            row.chain.last().map(|name| name.as_str())
        }
        _ => None,
    }
}

/// `function → what it called`, in exactly `columns`.
fn name(line: &mut RowText, theme: Theme, row: &Row, columns: usize, group: Group, outside: bool) {
    let own = if outside { theme.dim() } else { theme.strong() };
    let (label, calls) = text::fit_call(&row.label, calls(row, group), columns);
    let used = text::width(&label) + text::width(&calls);
    line.push(label, own);
    line.push(calls, theme.dim());
    line.push(" ".repeat(columns.saturating_sub(used)), own);
}

fn empty(c: &mut Canvas, body: Rect, search: &str) {
    let text = match search {
        "" if c.snap.sees_no_polls() => match c.snap.tier_changes.last() {
            Some(change) => {
                let why = text::reason(&change.why);
                format!("Tier {}: {why}", change.tier.number())
            }
            None => "Polls cannot be observed.".to_owned(),
        },
        "" => "No slow poll.".to_owned(),
        search => format!("Nothing matches \"{search}\"; Esc clears the search."),
    };
    let inner = body.inner(Margin::new(2, 0)).intersection(c.buf.area);
    Paragraph::new(Line::styled(text, c.theme.dim()))
        .wrap(Wrap { trim: true })
        .render(inner, c.buf);
}
