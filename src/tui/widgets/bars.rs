//! Bars and sparklines of block characters.

/// Eighths of a cell, from empty to full.
pub const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A bar of `columns` cells, the `share` (0 to 1) of it filled, in eighths of a cell.
pub fn bar(share: f64, columns: usize) -> String {
    const PARTS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = (share.clamp(0.0, 1.0) * columns as f64 * 8.0).round() as usize;
    let (full, rest) = (eighths / 8, eighths % 8);
    let mut out = "█".repeat(full);
    if rest > 0 {
        out.push(PARTS[rest]);
    }
    let used = full + usize::from(rest > 0);
    out.extend(std::iter::repeat_n(' ', columns.saturating_sub(used)));
    out
}

/// Values as a line of eighths, the largest full. Every value above 0 is visible.
pub fn sparkline(values: &[u64], columns: usize) -> String {
    let columns = columns.min(values.len());
    if columns == 0 {
        return String::new();
    }
    let bins: Vec<u64> = (0..columns)
        .map(|i| {
            let (from, to) = (i * values.len() / columns, (i + 1) * values.len() / columns);
            values.get(from..to).unwrap_or_default().iter().sum()
        })
        .collect();
    let most = bins.iter().copied().max().unwrap_or(0).max(1);
    bins.iter()
        .map(|&v| EIGHTHS[(v as f64 / most as f64 * 8.0).ceil() as usize])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_and_sparklines_fill_their_columns() {
        assert_eq!(bar(0.5, 4), "██  ");
        assert_eq!(bar(2.0, 3), "███");
        assert_eq!(bar(0.3, 2), "▋ ");
        assert_eq!(sparkline(&[0, 1, 8], 3), " ▁█");
        assert_eq!(sparkline(&[1, 1, 4, 4], 2), "▂█");
        assert_eq!(sparkline(&[], 5), "");
    }
}
