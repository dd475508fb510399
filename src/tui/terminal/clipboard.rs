//! The clipboard of the terminal's user, set by the OSC 52 escape sequence, which works over ssh.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Terminals truncate or ignore longer OSC 52 sequences.
const OSC52_MOST: usize = 74_000;

/// What a terminal does with OSC 52, as far as the environment says. No terminal confirms that it
/// took a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clipboard {
    /// Most terminals put it into the clipboard.
    Supported,
    /// It ignores the sequence, or may do so unless configured otherwise.
    Uncertain,
    /// It would print the sequence as characters.
    Unsupported,
}

impl Clipboard {
    /// From the variables that terminals and multiplexers set.
    pub fn from_env(get: impl Fn(&str) -> Option<String>) -> Clipboard {
        let set = |name: &str| get(name).filter(|value| !value.is_empty());
        let term = set("TERM").unwrap_or_default();
        if term == "linux" || term == "dumb" || term.is_empty() {
            return Clipboard::Unsupported;
        }
        // sudo removes TMUX and STY but keeps TERM.
        let multiplexed = ["tmux", "screen"].iter().any(|name| term.starts_with(name))
            || set("TMUX").is_some()
            || set("STY").is_some();
        let ignores = set("VTE_VERSION").is_some()
            || set("TERM_PROGRAM").is_some_and(|program| program == "Apple_Terminal");
        match multiplexed || ignores {
            true => Clipboard::Uncertain,
            false => Clipboard::Supported,
        }
    }
}

/// The sequence that puts a text into the clipboard; None where terminals would truncate it.
pub fn osc52(text: &str) -> Option<String> {
    let encoded = STANDARD.encode(text);
    (encoded.len() <= OSC52_MOST).then(|| format!("\x1b]52;c;{encoded}\x07"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_tells_whether_a_text_arrives() {
        let clipboard = |set: &[(&str, &str)]| {
            let find = |name: &str| set.iter().find(|(n, _)| *n == name);
            Clipboard::from_env(|name| find(name).map(|(_, value)| (*value).to_owned()))
        };
        let xterm = ("TERM", "xterm-256color");
        assert_eq!(clipboard(&[xterm]), Clipboard::Supported);
        assert_eq!(clipboard(&[xterm, ("TMUX", "")]), Clipboard::Supported);
        for uncertain in [("TMUX", "/tmp/tmux-0/default,1,0"), ("VTE_VERSION", "7200")] {
            assert_eq!(clipboard(&[xterm, uncertain]), Clipboard::Uncertain);
        }
        assert_eq!(
            clipboard(&[("TERM", "tmux-256color")]),
            Clipboard::Uncertain
        );
        assert_eq!(clipboard(&[("TERM", "linux")]), Clipboard::Unsupported);
    }

    #[test]
    fn a_text_too_long_for_terminals_is_not_cut_short() {
        assert_eq!(osc52("hud"), Some("\x1b]52;c;aHVk\x07".into()));
        assert_eq!(osc52(&"x".repeat(OSC52_MOST)), None);
    }
}
