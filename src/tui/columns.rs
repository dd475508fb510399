//! Which columns the table of culprits has, by the room there is.

use crate::session::Sort;

/// Columns of the table that have a fixed width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Cause,
    Polls,
    Total,
    Max,
    P50,
    P99,
    Share,
    Trend,
    Last,
}

impl Column {
    /// As it stands above the table.
    pub fn heading(self) -> &'static str {
        match self {
            Column::Cause => "CAUSE",
            Column::Polls => "POLLS",
            Column::Total => "TOTAL",
            Column::Max => "MAX",
            Column::P50 => "P50",
            Column::P99 => "P99",
            Column::Share => "SHARE",
            Column::Trend => "LAST MINUTE",
            Column::Last => "LAST",
        }
    }

    /// What a click on it sorts by.
    pub fn sort(self) -> Option<Sort> {
        Some(match self {
            Column::Cause => Sort::Cause,
            Column::Polls => Sort::Polls,
            // A row's share is its total by another name.
            Column::Total | Column::Share => Sort::Total,
            Column::Max => Sort::Max,
            Column::P50 => Sort::P50,
            Column::P99 => Sort::P99,
            Column::Last => Sort::LastSeen,
            Column::Trend => return None,
        })
    }
}

/// What fits into a width.
pub struct Columns {
    /// Width of the culprit's name.
    pub name: usize,
    pub fixed: Vec<(Column, usize)>,
    /// Width of the location, 0 where there is no room or none has one.
    pub location: usize,
}

impl Columns {
    /// Those of a table that wide; `locations` says whether any row has one.
    pub fn fit(width: u16, locations: bool) -> Columns {
        use Column::*;
        let width = usize::from(width);
        let trend = if width >= 150 { 30 } else { 12 };
        let cause = if width >= 100 { 13 } else { 7 };
        // From what says most to what says least.
        let wanted = [
            (Cause, cause, 0),
            (Total, 7, 0),
            (Max, 7, 0),
            (Polls, 6, 0),
            (Share, 5, 64),
            (P99, 7, 76),
            (Trend, trend, 92),
            (Last, 7, 124),
            (P50, 7, 136),
        ];
        let fits = |column: Column| {
            let found = wanted.iter().find(|(c, ..)| *c == column);
            found.filter(|(_, _, from)| width >= *from)
        };
        let order = [Cause, Polls, Total, Max, P50, P99, Share, Trend, Last];
        let fixed: Vec<_> = order
            .into_iter()
            .filter_map(|column| fits(column).map(|&(c, w, _)| (c, w)))
            .collect();
        let used: usize = fixed.iter().map(|(_, w)| w + 1).sum();
        let left = width.saturating_sub(used + 2);
        let location = if locations && width >= 110 {
            left * 2 / 5
        } else {
            0
        };
        Columns {
            name: left.saturating_sub(location + usize::from(location > 0)),
            fixed,
            location,
        }
    }
}
