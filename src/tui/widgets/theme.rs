//! Colours and marks. Every meaning has a mark or a word; colour only repeats it, so that nothing is
//! lost with NO_COLOR, 16 colours or a light background.

use ratatui::style::{Color, Modifier, Style};

use crate::model::{Cause, Origin};

/// The colours to draw with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Palette {
    /// Bold, dim, reversed and underlined text only.
    Mono,
    /// The terminal's own sixteen colours, which its user configured.
    Ansi16,
    /// The 256-colour cube.
    Indexed,
}

/// The palette and the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theme {
    pub palette: Palette,
    /// The terminal's background is light.
    pub light: bool,
}

/// What a worker's time is shown as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    OnCpu,
    Blocked,
    RunQueue,
    Parked,
    /// Parked or blocked: tier 5 cannot tell.
    Asleep,
}

impl Theme {
    /// From the environment: `NO_COLOR`, `TERM`, `COLORTERM`, `COLORFGBG`.
    pub fn from_env(get: impl Fn(&str) -> Option<String>) -> Theme {
        let set = |name: &str| get(name).filter(|value| !value.is_empty());
        let term = set("TERM").unwrap_or_default();
        let palette = if set("NO_COLOR").is_some() || term == "dumb" {
            Palette::Mono
        } else if set("COLORTERM").is_some() || term.contains("256color") || term.contains("kitty")
        {
            Palette::Indexed
        } else {
            Palette::Ansi16
        };
        // "foreground;background" as indexes of the sixteen colours: 7 and 15 are light.
        let background = set("COLORFGBG").and_then(|v| v.rsplit(';').next()?.parse::<u8>().ok());
        Theme {
            palette,
            light: matches!(background, Some(7 | 15)),
        }
    }

    /// A foreground: indexes of the 256 colours for a dark and a light background, and one of the
    /// sixteen.
    fn fg(self, dark: u8, light: u8, ansi: Color) -> Style {
        match (self.palette, self.light) {
            (Palette::Mono, _) => Style::new(),
            (Palette::Ansi16, _) => Style::new().fg(ansi),
            (Palette::Indexed, false) => Style::new().fg(Color::Indexed(dark)),
            (Palette::Indexed, true) => Style::new().fg(Color::Indexed(light)),
        }
    }

    /// Secondary text.
    pub fn dim(self) -> Style {
        match self.palette {
            Palette::Mono => Style::new().add_modifier(Modifier::DIM),
            // Bright black is invisible in some dark schemes, dim is not.
            Palette::Ansi16 => Style::new().add_modifier(Modifier::DIM),
            Palette::Indexed => self.fg(245, 242, Color::DarkGray),
        }
    }

    /// Headings.
    pub fn title(self) -> Style {
        self.fg(81, 25, Color::Cyan).add_modifier(Modifier::BOLD)
    }

    /// The most important text of a row.
    pub fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// All is well.
    pub fn good(self) -> Style {
        self.fg(78, 28, Color::Green)
    }

    /// A warning.
    pub fn warn(self) -> Style {
        self.fg(214, 130, Color::Yellow)
            .add_modifier(Modifier::BOLD)
    }

    /// An alarm: something is wrong now.
    pub fn alarm(self) -> Style {
        self.fg(203, 160, Color::Red)
            .add_modifier(Modifier::BOLD | Modifier::REVERSED)
    }

    /// The row or frame under the cursor.
    pub fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// A search result.
    pub fn found(self) -> Style {
        self.fg(226, 90, Color::Magenta)
            .add_modifier(Modifier::UNDERLINED | Modifier::BOLD)
    }

    /// A key in the footer.
    pub fn key(self) -> Style {
        self.fg(117, 25, Color::Cyan).add_modifier(Modifier::BOLD)
    }

    /// The colour of a cause.
    pub fn cause(self, cause: Cause) -> Style {
        match cause {
            Cause::Cpu => self.fg(203, 160, Color::Red),
            Cause::Lock => self.fg(177, 91, Color::Magenta),
            Cause::FileIo => self.fg(214, 130, Color::Yellow),
            Cause::Sleep => self.fg(75, 26, Color::Blue),
            Cause::Network => self.fg(80, 30, Color::Cyan),
            Cause::Pipe | Cause::ChildProcess => self.fg(149, 64, Color::Green),
            Cause::PageFault => self.fg(210, 125, Color::LightRed),
            // The terminal's own grey is invisible on light backgrounds.
            Cause::RunQueue | Cause::Stopped | Cause::Unknown => self.fg(248, 240, Color::Reset),
        }
    }

    /// The colour of a worker's time.
    pub fn lane(self, lane: Lane) -> Style {
        match lane {
            Lane::OnCpu => self.fg(78, 28, Color::Green),
            Lane::Blocked => self.fg(177, 91, Color::Magenta),
            Lane::RunQueue => self.fg(214, 130, Color::Yellow),
            Lane::Parked | Lane::Asleep => self.dim(),
        }
    }

    /// A frame's name; the user's own code is emphasised.
    pub fn origin(self, origin: Origin) -> Style {
        match origin {
            Origin::User => self.strong().patch(self.fg(231, 16, Color::Reset)),
            Origin::ThirdParty => self.fg(152, 24, Color::Reset),
            Origin::Std => self.fg(250, 238, Color::Reset),
            Origin::Kernel => self.fg(180, 94, Color::Reset),
            Origin::Runtime | Origin::Unknown => self.dim(),
        }
    }

    /// The background of a frame in the flame graph, and text readable on it.
    pub fn flame(self, origin: Origin) -> Style {
        let on = |bg: u8| Style::new().fg(Color::Indexed(16)).bg(Color::Indexed(bg));
        let style = match self.palette {
            Palette::Mono => Style::new(),
            Palette::Ansi16 => match origin {
                Origin::User => Style::new().fg(Color::Black).bg(Color::Yellow),
                Origin::ThirdParty => Style::new().fg(Color::Black).bg(Color::Cyan),
                Origin::Kernel => Style::new().fg(Color::Black).bg(Color::Red),
                _ => Style::new(),
            },
            Palette::Indexed => match origin {
                Origin::User => on(215),
                Origin::ThirdParty => on(153),
                Origin::Std => on(187),
                Origin::Kernel => on(174),
                Origin::Runtime | Origin::Unknown => on(250),
            },
        };
        match origin {
            Origin::User => style.add_modifier(Modifier::BOLD),
            _ => style,
        }
    }
}

/// The letter of a cause in lanes. The help lists them.
pub fn cause_letter(cause: Cause) -> char {
    match cause {
        Cause::Cpu => 'C',
        Cause::Lock => 'L',
        Cause::FileIo => 'F',
        Cause::Sleep => 'S',
        Cause::Network => 'N',
        Cause::Pipe => 'P',
        Cause::ChildProcess => 'X',
        Cause::PageFault => 'M',
        Cause::RunQueue => 'Q',
        Cause::Stopped => 'T',
        Cause::Unknown => '?',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn theme(vars: &[(&str, &str)]) -> Theme {
        let find = |name: &str| vars.iter().find(|(n, _)| *n == name);
        Theme::from_env(|name| find(name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn the_environment_decides() {
        let palette = |vars: &[(&str, &str)]| theme(vars).palette;
        assert_eq!(palette(&[("TERM", "xterm-256color")]), Palette::Indexed);
        assert_eq!(palette(&[("TERM", "linux")]), Palette::Ansi16);
        let no_color = [("TERM", "xterm-256color"), ("NO_COLOR", "1")];
        assert_eq!(palette(&no_color), Palette::Mono);
        // An empty NO_COLOR has no effect: no-color.org.
        let empty = [
            ("TERM", "xterm"),
            ("NO_COLOR", ""),
            ("COLORTERM", "truecolor"),
        ];
        assert_eq!(palette(&empty), Palette::Indexed);
        assert!(theme(&[("COLORFGBG", "0;15")]).light);
        assert!(!theme(&[("COLORFGBG", "15;0")]).light);
    }

    #[test]
    fn every_cause_has_its_own_letter() {
        let letters: std::collections::BTreeSet<char> =
            Cause::ALL.into_iter().map(cause_letter).collect();
        assert_eq!(letters.len(), Cause::ALL.len());
    }

    #[test]
    fn mono_uses_no_colour() {
        let theme = Theme {
            palette: Palette::Mono,
            light: false,
        };
        for cause in Cause::ALL {
            assert_eq!(theme.cause(cause), Style::new());
        }
        assert_eq!(theme.alarm().fg, None);
        assert_eq!(theme.flame(Origin::User).bg, None);
    }
}
