//! The terminal: taken, drawn on, and given back on every way out, a panic included.

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
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

use super::app::App;
use super::background::{Background, Picked, QUESTION};
use super::copy;
use super::job_control::{JobControl, Turn};

/// Whether hud has the terminal. A panic on any thread gives it back at once, and what is printed
/// then must not be painted over.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// How long crossterm looks for an event that is there; at zero it would not look.
const LOOK: Duration = Duration::from_millis(1);

/// The screen while hud has it. Dropping it gives it back.
pub struct Screen {
    /// Never dropped: all that ratatui does then is to show the cursor, which is done already, and
    /// where the terminal is gone it complains on a standard error that is gone as well, a panic.
    terminal: ManuallyDrop<Terminal<CrosstermBackend<Stdout>>>,
    mouse: bool,
    /// The terminal, where standard input is something else.
    input: Option<File>,
    background: Background,
    job_control: JobControl,
    /// What was read and not given out yet, oldest first.
    read: VecDeque<Event>,
}

/// What came from the terminal.
#[derive(Debug)]
pub enum Input {
    Event(Event),
    /// It says that its background is light, or that it is not.
    Light(bool),
}

impl Screen {
    /// Whether the terminal has rows and columns to draw on, as far as it says.
    pub fn has_size() -> bool {
        crossterm::terminal::size().is_ok_and(|(columns, rows)| columns > 0 && rows > 0)
    }

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

    /// Asks the terminal for the colour of its background; the answer comes as [`Input::Light`], if
    /// it has one.
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

    /// Stops if hud was told to by a signal, and takes the terminal anew where another one had it
    /// meanwhile. Whether the picture is gone.
    ///
    /// # Errors
    /// As [`Screen::enter`].
    pub fn follow_signals(&mut self) -> io::Result<bool> {
        ours()?;
        match self.job_control.turn() {
            Turn::None => return Ok(false),
            Turn::Stop => self.suspend()?,
            Turn::Continued => {
                // The shell has set its own modes meanwhile.
                restore();
                self.retake()?;
            }
        }
        Ok(true)
    }

    /// Draws the picture.
    ///
    /// # Errors
    /// When the terminal is gone, or was given back because of a panic.
    pub fn draw(&mut self, app: &mut App) -> io::Result<()> {
        ours()?;
        self.terminal.draw(|frame| app.draw(frame)).map(drop)
    }

    /// Waits until there is input, or until a time has passed; whether there is. crossterm itself
    /// spins through the last millisecond of a wait.
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
                // A signal: its handler has set what there is to see.
                io::ErrorKind::Interrupted => Ok(false),
                _ => Err(error),
            };
        }
        if input.revents & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(ready > 0)
    }

    /// The next of what has come.
    ///
    /// # Errors
    /// As [`Screen::draw`].
    pub fn event(&mut self) -> io::Result<Option<Input>> {
        ours()?;
        loop {
            if let Some(event) = self.read.pop_front() {
                return Ok(Some(Input::Event(event)));
            }
            let event = match event::poll(LOOK) {
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

    /// Columns and rows, None where they cannot be told.
    pub fn size(&self) -> Option<(u16, u16)> {
        crossterm::terminal::size().ok()
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
        self.await_answer();
        restore();
        self.job_control.stop()?;
        self.retake()
    }

    fn retake(&mut self) -> io::Result<()> {
        take(self.mouse)?;
        self.terminal.clear()
    }

    /// An answer that is still on its way must not end up as text in the shell. Terminals answer in
    /// order: when this one has told where its cursor is, that was all.
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
        false => Err(io::Error::other("given back because of a panic")),
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

/// Undoes everything, once. A terminal that is gone needs none of it, so errors are passed over.
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
