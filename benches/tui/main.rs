//! The cost of the interactive view: a redraw over many culprits, and all of hud in a terminal while
//! a target has 1,000 slow polls a second.
//!
//! Run with `cargo bench --bench tui`. Fails if a limit is exceeded. Without root, which BPF needs,
//! only redraws are measured.

mod live;
mod redraw;
mod screen;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

/// Limit for the median redraw.
const REDRAW: Duration = Duration::from_millis(5);
/// Limit from a key to its effect on the screen, for the slowest.
const KEY: Duration = Duration::from_millis(50);
/// Limit of hud's CPU time, percent of one core.
const CPU: f64 = 5.0;

fn main() -> Result<ExitCode> {
    let (median, longest) = redraw::times();
    println!(
        "redraw over {} culprits: median {median:.2?}, longest {longest:.2?}",
        redraw::CULPRITS
    );
    let mut within_limits = median <= REDRAW;
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
        within_limits &= view.longest <= KEY && view.cpu_percent < CPU;
    }
    Ok(match within_limits {
        true => ExitCode::SUCCESS,
        false => {
            eprintln!("more than {REDRAW:?} for a redraw, {KEY:?} for a key or {CPU} % of a core");
            ExitCode::FAILURE
        }
    })
}
