//! What the interactive view costs: a redraw over many culprits, and hud as a whole in a terminal
//! while a target has 1,000 slow polls a second.
//!
//! `cargo bench --bench tui`; fails where a limit is exceeded. Without root, which loading BPF takes,
//! only redraws are measured.

mod live;
mod redraw;
mod screen;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

/// What a redraw may take, in the median.
const REDRAW: Duration = Duration::from_millis(5);
/// What a key may take from being pressed to being answered on the screen, at the longest.
const ANSWER: Duration = Duration::from_millis(50);
/// What hud may take of one core meanwhile, percent.
const CPU: f64 = 5.0;

fn main() -> Result<ExitCode> {
    let (median, longest) = redraw::times();
    println!(
        "redraw over {} culprits: median {median:.2?}, longest {longest:.2?}",
        redraw::CULPRITS
    );
    let mut kept = median <= REDRAW;
    // SAFETY: no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        println!("skipped: the view over a live target (needs root)");
    } else {
        let view = live::view()?;
        println!(
            "{:.0} findings a second: a key answered in {:.2?} (median), {:.2?} (longest of {}); hud {:.1} % of a core, headless {:.1} %",
            view.rate,
            view.median,
            view.longest,
            live::KEYS,
            view.cpu_percent,
            view.headless_percent,
        );
        kept &= view.longest <= ANSWER && view.cpu_percent < CPU;
    }
    Ok(match kept {
        true => ExitCode::SUCCESS,
        false => {
            eprintln!(
                "more than {REDRAW:?} for a redraw, {ANSWER:?} for a key or {CPU} % of a core"
            );
            ExitCode::FAILURE
        }
    })
}
