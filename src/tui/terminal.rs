//! The terminal: taken, drawn on, and given back on every way out, a panic included.

use std::io::{self, Stdout, Write};
use std::sync::Once;
use std::time::Duration;

use crossterm::cursor::Show;
use crossterm::event::{
    self, DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture,
    Event,
};
use crossterm::execute;
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

use super::app::App;
use super::copy;

/// The screen while hud has it. Dropping it gives it back.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    mouse: bool,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// When it cannot be put into raw mode.
    pub fn enter() -> io::Result<Screen> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                before(panic);
            }));
        });
        // From here on a failure drops the guard, which undoes what was done.
        let undo = Undo;
        take(true)?;
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout()))?;
        std::mem::forget(undo);
        Ok(Screen {
            terminal,
            mouse: true,
        })
    }

    /// Draws the picture.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn draw(&mut self, app: &mut App) -> io::Result<()> {
        self.terminal.draw(|frame| app.draw(frame)).map(drop)
    }

    /// The next event, if one comes within a time.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn event(&self, within: Duration) -> io::Result<Option<Event>> {
        match event::poll(within) {
            Ok(true) => event::read().map(Some),
            Ok(false) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes the mouse, or leaves it to the terminal.
    ///
    /// # Errors
    /// As [`Screen::draw`].
    pub fn mouse(&mut self, take: bool) -> io::Result<()> {
        self.mouse = take;
        match take {
            true => execute!(io::stdout(), EnableMouseCapture),
            false => execute!(io::stdout(), DisableMouseCapture),
        }
    }

    /// Puts a text into the clipboard; false if it is too long for that.
    ///
    /// # Errors
    /// As [`Screen::draw`].
    pub fn copy(&mut self, text: &str) -> io::Result<bool> {
        let Some(sequence) = copy::osc52(text) else {
            return Ok(false);
        };
        let mut out = io::stdout();
        out.write_all(sequence.as_bytes())?;
        out.flush()?;
        Ok(true)
    }

    /// Gives the terminal to the shell until `fg`.
    ///
    /// # Errors
    /// As [`Screen::enter`].
    pub fn suspend(&mut self) -> io::Result<()> {
        restore();
        signal_hook::low_level::raise(signal_hook::consts::SIGTSTP)?;
        take(self.mouse)?;
        self.terminal.clear()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

struct Undo;

impl Drop for Undo {
    fn drop(&mut self) {
        restore();
    }
}

fn take(mouse: bool) -> io::Result<()> {
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste)?;
    match mouse {
        true => execute!(io::stdout(), EnableMouseCapture),
        false => Ok(()),
    }
}

/// Undoes everything; harmless where there is nothing to undo. A terminal that is gone needs none
/// of it, so errors are passed over.
fn restore() {
    let _ = execute!(
        io::stdout(),
        DisableMouseCapture,
        DisableBracketedPaste,
        LeaveAlternateScreen,
        Show
    );
    let _ = disable_raw_mode();
}
