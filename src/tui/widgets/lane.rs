//! One cell of a worker's lane: a stretch of its time as a character and a style.

use ratatui::style::{Modifier, Style};

use crate::session::Slice;
use crate::text;
use crate::tui::widgets::bars::EIGHTHS;
use crate::tui::widgets::theme::{Lane, Theme, cause_letter};

/// A letter for a slow poll, else the height of the CPU time, or a shade for waiting. `width_ns` is
/// the time that the cell covers.
pub fn cell(theme: Theme, slice: &Slice, width_ns: u64) -> (char, Style) {
    if let Some((cause, ns)) = slice.slowest {
        let style = theme.cause(cause).add_modifier(Modifier::BOLD);
        let style = match cause.blames_code() && ns >= width_ns / 2 {
            true => style.add_modifier(Modifier::REVERSED),
            false => style,
        };
        return (cause_letter(cause), style);
    }
    let known = slice.known_ns();
    let most = slice
        .on_cpu_ns
        .max(slice.blocked_ns)
        .max(slice.run_queue_ns);
    let share = text::share(most, known);
    if known == 0 {
        (' ', Style::new())
    } else if share < 0.01 {
        match slice.parked_ns >= slice.asleep_ns {
            true => ('·', theme.lane(Lane::Parked)),
            false => ('~', theme.lane(Lane::Asleep)),
        }
    } else if most == slice.on_cpu_ns {
        let height = (share * 8.0).ceil() as usize;
        (EIGHTHS[height.min(8)], theme.lane(Lane::OnCpu))
    } else if most == slice.blocked_ns {
        ('▒', theme.lane(Lane::Blocked))
    } else {
        ('░', theme.lane(Lane::RunQueue))
    }
}
