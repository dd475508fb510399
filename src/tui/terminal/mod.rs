//! The terminal: set up, drawn on, and restored on every way out, a panic included.

mod background;
pub mod clipboard;
mod job_control;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IsTerminal, Stdout, Write};
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
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
use ratatui::backend::CrosstermBackend;
use ratatui::{Frame, Terminal};

use self::background::{Background, Picked, QUESTION};
use self::job_control::{JobControl, Turn};

/// Whether hud has set up the terminal. A panic on any thread restores it at once, and nothing may be
/// drawn over the panic's message.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// How long crossterm waits for an event that is available; with zero it does not read at all.
const READ_TIMEOUT: Duration = Duration::from_millis(1);

/// The screen while hud has it. Dropping it restores the terminal.
pub struct Screen {
    /// Never dropped: ratatui would show the cursor, which [`restore`] does already, and panic if the
    /// terminal and standard error are gone.
    terminal: ManuallyDrop<Terminal<CrosstermBackend<Stdout>>>,
    mouse: bool,
    /// The terminal, if standard input is something else.
    input: Option<File>,
    background: Background,
    job_control: JobControl,
    /// Events read and not returned yet, oldest first.
    read: VecDeque<Event>,
}

/// What came from the terminal.
#[derive(Debug)]
pub enum Input {
    Event(Event),
    /// Whether its background is light.
    Light(bool),
}

impl Screen {
    /// Whether the terminal reports a size to draw on.
    pub fn has_size() -> bool {
        crossterm::terminal::size().is_ok_and(|(columns, rows)| columns > 0 && rows > 0)
    }

    /// Sets up the terminal.
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
        // A failure from here on drops the guard, which restores the terminal.
        let undo = Undo;
        let input = match io::stdin().is_terminal() {
            true => None,
            false => Some(File::open("/dev/tty")?),
        };
        let job_control = JobControl::begin()?;
        take(true)?;
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout()))?;
        std::mem::forget(undo);
        Ok(Screen {
            terminal: ManuallyDrop::new(terminal),
            mouse: true,
            input,
            background: Background::default(),
            job_control,
            read: VecDeque::new(),
        })
    }

    /// Asks the terminal for the colour of its background. The answer, if any, arrives as
    /// [`Input::Light`].
    ///
    /// # Errors
    /// As [`Screen::draw`].
    pub fn ask_background(&mut self) -> io::Result<()> {
        ours()?;
        self.background.asked();
        let mut out = io::stdout();
        out.write_all(QUESTION.as_bytes())?;
        out.flush()
    }

    /// Suspends hud if a signal asked for it, and sets the terminal up again after the shell had it.
    /// Returns whether the screen has to be redrawn.
    ///
    /// # Errors
    /// As [`Screen::enter`].
    pub fn follow_signals(&mut self) -> io::Result<bool> {
        ours()?;
        match self.job_control.turn() {
            Turn::None => return Ok(false),
            Turn::Stop => self.suspend()?,
            Turn::Continued => {
                // The shell has set its own modes in the meantime.
                restore();
                self.retake()?;
            }
        }
        Ok(true)
    }

    /// Draws a screen.
    ///
    /// # Errors
    /// When the terminal is gone, or was restored because of a panic.
    pub fn draw(&mut self, render: impl FnOnce(&mut Frame)) -> io::Result<()> {
        ours()?;
        self.terminal.draw(render).map(drop)
    }

    /// Waits for input for `within` at most; returns whether there is any. crossterm's own wait would
    /// spin through its last millisecond.
    ///
    /// # Errors
    /// As [`Screen::draw`].
    pub fn wait(&self, within: Duration) -> io::Result<bool> {
        ours()?;
        let mut input = libc::pollfd {
            fd: self
                .input
                .as_ref()
                .map_or(libc::STDIN_FILENO, AsRawFd::as_raw_fd),
            events: libc::POLLIN,
            revents: 0,
        };
        let within = i32::try_from(within.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one descriptor, which lives throughout.
        let ready = unsafe { libc::poll(&mut input, 1, within) };
        if ready < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                // A signal; its handler has set a flag.
                io::ErrorKind::Interrupted => Ok(false),
                _ => Err(error),
            };
        }
        if input.revents & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(ready > 0)
    }

    /// The next event, if one is available.
    ///
    /// # Errors
    /// As [`Screen::draw`].
    pub fn event(&mut self) -> io::Result<Option<Input>> {
        ours()?;
        loop {
            if let Some(event) = self.read.pop_front() {
                return Ok(Some(Input::Event(event)));
            }
            let event = match event::poll(READ_TIMEOUT) {
                Ok(true) => event::read()?,
                Ok(false) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(None),
                Err(error) => return Err(error),
            };
            match self.background.pick(event) {
                Picked::Held => {}
                Picked::Light(light) => return Ok(Some(Input::Light(light))),
                Picked::Typed(events) => self.read.extend(events),
            }
        }
    }

    /// Columns and rows, if the terminal reports them.
    pub fn size(&self) -> Option<(u16, u16)> {
        crossterm::terminal::size().ok()
    }

    /// Captures the mouse, or leaves it to the terminal.
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

    /// Puts a text into the clipboard. Returns false if it is too long for that.
    ///
    /// # Errors
    /// As [`Screen::draw`].
    pub fn copy(&mut self, text: &str) -> io::Result<bool> {
        let Some(sequence) = clipboard::osc52(text) else {
            return Ok(false);
        };
        let mut out = io::stdout();
        out.write_all(sequence.as_bytes())?;
        out.flush()?;
        Ok(true)
    }

    /// Restores the terminal and stops hud until `fg`.
    ///
    /// # Errors
    /// As [`Screen::enter`].
    pub fn suspend(&mut self) -> io::Result<()> {
        self.await_answer();
        restore();
        self.job_control.stop()?;
        self.retake()
    }

    fn retake(&mut self) -> io::Result<()> {
        take(self.mouse)?;
        self.terminal.clear()
    }

    /// Waits for an outstanding answer, which would otherwise end up as text in the shell. Terminals
    /// answer in order: after the position of the cursor nothing is outstanding.
    fn await_answer(&mut self) {
        if self.background.is_due() && ours().is_ok() {
            let _ = crossterm::cursor::position();
            self.background = Background::default();
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.await_answer();
        restore();
    }
}

struct Undo;

impl Drop for Undo {
    fn drop(&mut self) {
        restore();
    }
}

fn ours() -> io::Result<()> {
    match TAKEN.load(Ordering::Relaxed) {
        true => Ok(()),
        false => Err(io::Error::other("the terminal was restored after a panic")),
    }
}

fn take(mouse: bool) -> io::Result<()> {
    TAKEN.store(true, Ordering::Relaxed);
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste)?;
    match mouse {
        true => execute!(io::stdout(), EnableMouseCapture),
        false => Ok(()),
    }
}

/// Restores the terminal, once. Errors are ignored: a terminal that is gone needs no restoring.
fn restore() {
    if !TAKEN.swap(false, Ordering::Relaxed) {
        return;
    }
    let _ = execute!(
        io::stdout(),
        DisableMouseCapture,
        DisableBracketedPaste,
        LeaveAlternateScreen,
        Show
    );
    let _ = disable_raw_mode();
}
