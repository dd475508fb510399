//! Runs the interactive view: passes it records and events, draws it, and carries out its effects.

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cli::{Config, Source};
use crate::clock;
use crate::export::TraceWriter;
use crate::model::Record;
use crate::target::process::Target;
use crate::tui::terminal::{Input, Screen};
use crate::tui::{App, AppOptions, Clipboard, Effect, Palette, Theme};

/// The screen is redrawn this often at most, unless a key was pressed.
const REDRAW_EVERY: Duration = Duration::from_millis(100);
/// How long to wait for a key before records are handled again.
const KEY_TIMEOUT: Duration = Duration::from_millis(25);

/// The app and its terminal.
pub struct Interactive {
    app: App,
    screen: Screen,
    drawn: Option<Instant>,
    live: bool,
    clipboard: Clipboard,
    /// The user asked to switch the sampling of all poll time on or off.
    all_poll_time: Option<bool>,
    /// Input may be available that was not handled yet.
    more: bool,
    /// The user asked for a list of every thread.
    wants_census: bool,
}

/// Whether the view goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    GoOn,
    /// `q`, Ctrl+C, or the terminal is gone.
    Quit,
}

impl Interactive {
    /// Sets up the terminal.
    ///
    /// # Errors
    /// When standard output is not a terminal.
    pub fn new(config: &Config) -> Result<Self> {
        let replay = matches!(config.source, Source::Trace(_));
        let theme = Theme::from_env(|name| std::env::var(name).ok());
        let app = App::new(AppOptions {
            window: config.window,
            workers_prefix: config.workers_prefix.clone(),
            replay,
            theme,
        });
        let mut screen = Screen::enter().context("cannot set up the terminal (try --headless)")?;
        if theme.palette == Palette::Indexed {
            // The other palettes do not depend on the background.
            screen
                .ask_background()
                .context("cannot write to the terminal")?;
        }
        Ok(Interactive {
            app,
            screen,
            drawn: None,
            live: !replay,
            more: false,
            clipboard: Clipboard::from_env(|name| std::env::var(name).ok()),
            all_poll_time: None,
            wants_census: false,
        })
    }

    /// Handles a record.
    pub fn take(&mut self, record: &Record) {
        self.app.apply(record);
    }

    /// Shows a message.
    pub fn say(&mut self, message: &str) {
        self.app.say(message);
    }

    /// Sets what hud itself is busy with, if with anything.
    pub fn set_status(&mut self, status: Option<String>) {
        self.app.set_status(status);
    }

    /// Whether the user has asked to switch the sampling of all poll time on or off since the last
    /// call.
    pub fn asked_for_all_poll_time(&mut self) -> Option<bool> {
        self.all_poll_time.take()
    }

    /// Names the process about to be watched, before the first record.
    pub fn watches(&mut self, target: &Target) {
        self.app.expect(&target.comm, target.pid, &target.command);
    }

    /// Whether the user has asked for a list of every thread since the last call.
    pub fn wants_census(&mut self) -> bool {
        std::mem::take(&mut self.wants_census)
    }

    /// Draws if anything changed, and waits a moment for keys. A terminal that is gone ends the view,
    /// not the session: the trace is still completed.
    pub fn turn(&mut self) -> Turn {
        match self.try_turn() {
            Ok(turn) => turn,
            Err(error) => {
                log::warn!("the terminal is gone: {error}");
                Turn::Quit
            }
        }
    }

    fn try_turn(&mut self) -> io::Result<Turn> {
        if self.screen.follow_signals()? {
            self.draw()?;
        }
        self.app.expire_message(Instant::now());
        let since = self.drawn.map_or(REDRAW_EVERY, |drawn| drawn.elapsed());
        if since >= REDRAW_EVERY && self.app.needs_redraw(since) {
            self.draw()?;
        }
        if !self.more && !self.screen.wait(KEY_TIMEOUT)? {
            // A resize is not seen as input.
            if self
                .screen
                .size()
                .is_some_and(|size| size != self.app.size())
            {
                self.draw()?;
            }
            return Ok(Turn::GoOn);
        }
        let begun = Instant::now();
        self.more = true;
        // A mouse being dragged sends events without pause: draw in between.
        while self.more && begun.elapsed() < KEY_TIMEOUT {
            let event = match self.screen.event()? {
                Some(Input::Event(event)) => event,
                Some(Input::Light(light)) => {
                    self.app.set_light(light);
                    continue;
                }
                None => {
                    self.more = false;
                    break;
                }
            };
            if let Some(effect) = self.app.handle(&event)
                && self.carry_out(effect)? == Turn::Quit
            {
                return Ok(Turn::Quit);
            }
        }
        self.draw()?;
        Ok(Turn::GoOn)
    }

    fn draw(&mut self) -> io::Result<()> {
        self.app.refresh(self.live.then(clock::monotonic_ns));
        self.screen.draw(|frame| self.app.draw(frame))?;
        log::trace!("drawn");
        self.drawn = Some(Instant::now());
        Ok(())
    }

    fn carry_out(&mut self, effect: Effect) -> io::Result<Turn> {
        match effect {
            Effect::Quit => return Ok(Turn::Quit),
            Effect::Census => self.wants_census = true,
            Effect::Suspend => self.screen.suspend()?,
            Effect::AllPollTime(on) => self.all_poll_time = Some(on),
            Effect::Mouse(take) => self.screen.mouse(take)?,
            Effect::Copy(text) => {
                let sent = match self.clipboard {
                    Clipboard::Unsupported => false,
                    Clipboard::Supported | Clipboard::Uncertain => self.screen.copy(&text)?,
                };
                let said = match (sent, self.clipboard) {
                    (true, Clipboard::Supported) => {
                        "copied to the clipboard (OSC 52); Y writes a file".to_owned()
                    }
                    (true, _) => format!(
                        "{}, and copied to the clipboard if this terminal supports OSC 52",
                        write_down(&text)
                    ),
                    (false, _) => write_down(&text),
                };
                self.app.say(said);
            }
            Effect::CopyToFile(text) => self.app.say(write_down(&text)),
            Effect::Save(path) => {
                let said = match self.save(&path) {
                    Ok(()) => format!("saved {}", path.display()),
                    Err(error) => format!("{error:#}"),
                };
                self.app.say(said);
            }
        }
        Ok(Turn::GoOn)
    }

    /// Writes what the session keeps into a new trace.
    fn save(&self, path: &Path) -> Result<()> {
        let mut records = self.app.session().kept_records().into_iter();
        let Some(Record::Header(header)) = records.next() else {
            anyhow::bail!("nothing recorded yet");
        };
        let mut trace = TraceWriter::create_new(path, &header)?;
        for record in records {
            trace.write(&record)?;
        }
        trace.finish()?;
        Ok(())
    }
}

/// Writes a text into a new file; returns a message that says where, or why not.
fn write_down(text: &str) -> String {
    match into_new_file(text) {
        Ok(name) => format!("written to {name}"),
        Err(error) => format!("cannot write: {error}"),
    }
}

/// Writes a text into the first of `hud-1.txt`, `hud-2.txt` ... that does not exist.
fn into_new_file(text: &str) -> io::Result<String> {
    for n in 1..1000 {
        let name = format!("hud-{n}.txt");
        match std::fs::File::create_new(&name) {
            Ok(mut file) => return file.write_all(text.as_bytes()).map(|()| name),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("hud-1.txt to hud-999.txt exist already"))
}
