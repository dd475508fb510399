//! What the parts of the terminal view share: which view is shown, what a key asks for, and what is
//! being typed.

pub mod keys;

use tui_input::Input;

/// The views, one of which is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// The first screen: workers, what is stuck, and the table of culprits.
    #[default]
    Culprits,
    /// Everything about one row of the table.
    Detail,
    /// Call trees as bars, of one row or of all.
    Flame,
    /// Workers over the whole session.
    Timeline,
    /// Where all of the workers' CPU time in polls goes, slow or not.
    PollTime,
}

impl View {
    /// In the order of their keys.
    pub const ALL: [View; 5] = [
        View::Culprits,
        View::Detail,
        View::Flame,
        View::Timeline,
        View::PollTime,
    ];

    /// The view to the right; after the last, the first.
    pub fn next(self) -> View {
        self.step(1)
    }

    /// The view to the left; before the first, the last.
    pub fn previous(self) -> View {
        self.step(View::ALL.len() - 1)
    }

    fn step(self, by: usize) -> View {
        let at = View::ALL.iter().position(|v| *v == self).unwrap_or(0);
        View::ALL[(at + by) % View::ALL.len()]
    }
}

/// Whether a view used a key itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// The view stays.
    Here,
    /// Nothing was left to close in it: the key leaves the view.
    Leave,
}

/// A line being typed.
#[derive(Debug)]
pub enum Prompt {
    Search(Input),
    Save(Input),
}
