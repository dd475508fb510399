//! Which columns the table of culprits has, by the room there is.

use crate::session::Sort;

/// Columns of the table that have a fixed width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Cause,
    Polls,
    Own,
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
            Column::Own => "OWN",
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
            Column::Own => Sort::Own,
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
    /// Width of the location; 0 without room for it or where no row has one.
    pub location: usize,
    /// Width of the future that awaited it; 0 likewise.
    pub future: usize,
}

/// Columns that would show the texts of the rows whole.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    pub name: usize,
    pub location: usize,
    pub future: usize,
    /// P99 differs from the longest poll in some row.
    pub quantiles: bool,
}

/// From this width on, columns end where their texts do: numbers far from the names they belong to
/// are hard to read.
const WIDE: usize = 150;
/// A narrower text column is left out.
const LEAST: usize = 24;

impl Columns {
    /// The columns of a table of that width.
    pub fn fit(width: u16, wanted: Wanted) -> Columns {
        use Column::*;
        let width = usize::from(width);
        let trend = if width >= WIDE { 30 } else { 12 };
        let cause = if width >= 100 { 13 } else { 7 };
        // Width, and the width of the table from which on the column is shown.
        let columns = [
            (Cause, cause, 0),
            (Own, 7, 0),
            (Total, 7, 0),
            (Polls, 6, 0),
            (Max, 7, 70),
            (Share, 5, 78),
            (Trend, trend, 92),
            (P99, 7, 110),
            (Last, 7, 124),
            (P50, 7, 136),
        ];
        let fits = |column: Column| {
            let found = columns.iter().find(|(c, ..)| *c == column);
            let shown = wanted.quantiles || !matches!(column, P50 | P99);
            found.filter(|(_, _, from)| width >= *from && shown)
        };
        let order = [Cause, Polls, Own, Total, Max, P50, P99, Share, Trend, Last];
        let fixed: Vec<_> = order
            .into_iter()
            .filter_map(|column| fits(column).map(|&(c, w, _)| (c, w)))
            .collect();
        let used: usize = fixed.iter().map(|(_, w)| w + 1).sum();
        let left = width.saturating_sub(used + 2);
        let apart = |column: usize| column + usize::from(column > 0);
        let location = match wanted.location {
            1.. if width >= 110 => left * 2 / 5,
            _ => 0,
        };
        if width < WIDE {
            return Columns {
                name: left.saturating_sub(apart(location)),
                fixed,
                location,
                future: 0,
            };
        }
        // A column leaves what it does not need to the next one.
        let name = wanted
            .name
            .clamp(LEAST, left.saturating_sub(apart(location)).max(LEAST));
        let location = match wanted.location {
            0 => 0,
            wanted => left
                .saturating_sub(name + 1)
                .min(wanted.max("LOCATION".len())),
        };
        let room = left.saturating_sub(name + apart(location) + 1);
        Columns {
            name,
            fixed,
            location,
            future: match wanted.future {
                1.. if room >= LEAST => room.min(wanted.future.max("AWAITED BY".len())),
                _ => 0,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(columns: &Columns) -> usize {
        let fixed: usize = columns.fixed.iter().map(|(_, width)| width + 1).sum();
        let texts = [columns.location, columns.future];
        let texts: usize = texts
            .iter()
            .map(|width| width + usize::from(*width > 0))
            .sum();
        2 + columns.name + fixed + texts
    }

    #[test]
    fn columns_fill_a_narrow_table_and_never_more_than_any() {
        for width in 60..=400 {
            for (name, location, future) in [(10, 0, 0), (300, 300, 300), (60, 30, 40), (9, 99, 0)]
            {
                let wanted = Wanted {
                    name,
                    location,
                    future,
                    quantiles: width % 2 == 0,
                };
                let columns = Columns::fit(width, wanted);
                let total = total(&columns);
                let width = usize::from(width);
                assert!(total <= width, "{total} of {width} for {wanted:?}");
                assert!(total == width || width >= WIDE, "{total} of {width}");
                assert!(columns.name >= 10, "{width}");
            }
        }
    }

    #[test]
    fn wide_tables_keep_numbers_beside_names_and_have_room_for_more() {
        let wanted = Wanted {
            name: 60,
            location: 40,
            future: 50,
            quantiles: true,
        };
        let columns = Columns::fit(300, wanted);
        assert_eq!(
            (columns.name, columns.location, columns.future),
            (60, 40, 50)
        );
        let columns = Columns::fit(200, wanted);
        assert_eq!((columns.name, columns.future), (55, 0));
        assert!(columns.location >= 30);
    }
}
