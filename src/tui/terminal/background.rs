//! Whether the terminal's background is light: asked by OSC 11, the answer separated from what is
//! typed.
//!
//! Nothing waits for the answer: it may take long (ssh) or never come. crossterm does not know the
//! sequence and reads it as keys: `Alt+]`, then its text, then a terminator. Keys that do not continue
//! an answer were typed, and are returned in order.

use std::time::{Duration, Instant};

use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};

/// The question. The answer ends with the terminator of the question: BEL, which all terminals
/// implement.
pub const QUESTION: &str = "\x1b]11;?\x07";

/// After this long no answer is expected any more.
const PATIENCE: Duration = Duration::from_secs(10);
/// How an answer begins, after `Alt+]`.
const BEGINNING: &str = "11;rgb";
/// `11;rgba:ffff/ffff/ffff/ffff` and some to spare.
const LONGEST: usize = 40;

/// What an event turned out to be.
#[derive(Debug, PartialEq)]
pub enum Picked {
    /// Possibly a part of the answer.
    Held,
    /// The answer is complete: whether the background is light.
    Light(bool),
    /// Events that the user typed.
    Typed(Vec<Event>),
}

/// Separates the answer from what is typed.
#[derive(Debug, Default)]
pub struct Background {
    asked: Option<Instant>,
    /// Events that may be the beginning of the answer.
    held: Vec<Event>,
    text: String,
}

impl Background {
    /// Notes that the question was sent.
    pub fn asked(&mut self) {
        self.asked = Some(Instant::now());
    }

    /// Whether an answer may still arrive.
    pub fn is_due(&self) -> bool {
        self.asked.is_some_and(|asked| asked.elapsed() < PATIENCE)
    }

    /// Takes in an event.
    pub fn pick(&mut self, event: Event) -> Picked {
        if self.held.is_empty() {
            let begins = matches!(
                event,
                Event::Key(KeyEvent {
                    code: KeyCode::Char(']'),
                    modifiers: KeyModifiers::ALT,
                    ..
                })
            );
            if !begins || !self.is_due() {
                return Picked::Typed(vec![event]);
            }
            self.held.push(event);
            return Picked::Held;
        }
        let key = match &event {
            Event::Key(key) => Some((key.code, key.modifiers - KeyModifiers::SHIFT)),
            _ => None,
        };
        self.held.push(event);
        match key {
            Some((KeyCode::Char(c), KeyModifiers::NONE)) if self.continues_answer(c) => {
                self.text.push(c);
                Picked::Held
            }
            // BEL, and ESC \.
            Some(
                (KeyCode::Char('g'), KeyModifiers::CONTROL)
                | (KeyCode::Char('\\'), KeyModifiers::ALT),
            ) => match is_light(&self.text) {
                Some(light) => {
                    *self = Background::default();
                    Picked::Light(light)
                }
                None => self.give_back(),
            },
            _ => self.give_back(),
        }
    }

    fn continues_answer(&self, c: char) -> bool {
        match BEGINNING.chars().nth(self.text.len()) {
            Some(expected) => c == expected,
            None => (c.is_ascii_hexdigit() || matches!(c, ':' | '/')) && self.text.len() < LONGEST,
        }
    }

    fn give_back(&mut self) -> Picked {
        self.text.clear();
        Picked::Typed(std::mem::take(&mut self.held))
    }
}

/// Whether `11;rgb:RRRR/GGGG/BBBB`, of one to four digits each and with an opacity or without, is a
/// light colour.
fn is_light(answer: &str) -> Option<bool> {
    let (_, colour) = answer.split_once(':')?;
    let part = |digits: &str| {
        let most = match digits.len() {
            length @ 1..=4 => (1u32 << (4 * length)) - 1,
            _ => return None,
        };
        let value = u32::from_str_radix(digits, 16).ok()?;
        Some(f64::from(value) / f64::from(most))
    };
    let parts: Option<Vec<f64>> = colour.split('/').map(part).collect();
    match parts?.as_slice() {
        // Perceived brightness: ITU-R BT.601.
        [red, green, blue] | [red, green, blue, _] => {
            Some(0.299 * red + 0.587 * green + 0.114 * blue > 0.5)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(c: char, modifiers: KeyModifiers) -> Event {
        Event::Key(KeyEvent::new(KeyCode::Char(c), modifiers))
    }

    fn alt(c: char) -> Event {
        key(c, KeyModifiers::ALT)
    }

    fn bell() -> Event {
        key('g', KeyModifiers::CONTROL)
    }

    fn keys(text: &str) -> Vec<Event> {
        let shift = |c: char| match c.is_uppercase() {
            true => KeyModifiers::SHIFT,
            false => KeyModifiers::NONE,
        };
        text.chars().map(|c| key(c, shift(c))).collect()
    }

    /// All that is typed, and the answer.
    fn picked(background: &mut Background, events: Vec<Event>) -> (Vec<Event>, Option<bool>) {
        let (mut typed, mut light) = (Vec::new(), None);
        for event in events {
            match background.pick(event) {
                Picked::Held => {}
                Picked::Light(answer) => light = Some(answer),
                Picked::Typed(events) => typed.extend(events),
            }
        }
        (typed, light)
    }

    fn waiting() -> Background {
        let mut background = Background::default();
        background.asked();
        background
    }

    #[test]
    fn an_answer_among_keys_is_picked_out_of_them() {
        for (colour, end, light) in [
            ("rgb:ffff/FFFF/ffff", bell(), true),
            ("rgb:fd/f6/e3", alt('\\'), true), // Solarized, light
            ("rgba:0000/2b2b/3636/ffff", bell(), false), // Solarized, dark
            ("rgb:0/0/f", bell(), false),
        ] {
            let mut background = waiting();
            let events = [
                keys("jj"),
                vec![alt(']')],
                keys(&format!("11;{colour}")),
                vec![end],
                keys("q"),
            ];
            let (typed, answer) = picked(&mut background, events.concat());
            assert_eq!((typed, answer), (keys("jjq"), Some(light)), "{colour}");
            assert!(!background.is_due());
        }
    }

    #[test]
    fn what_was_typed_is_given_back_whole() {
        let typed = [
            [vec![alt(']')], keys("11;q")].concat(),
            [vec![alt(']')], keys("1"), vec![bell()]].concat(),
            [vec![alt(']')], keys("11;rgb:12/34"), vec![bell()]].concat(),
            [vec![alt(']')], keys("11;rgb:12345/1/1"), vec![bell()]].concat(),
            [vec![alt(']')], keys("11;rgb"), vec![Event::Resize(80, 24)]].concat(),
            [vec![alt(']')], keys("11;rgb:"), keys(&"f".repeat(LONGEST))].concat(),
        ];
        for events in typed {
            let answer = picked(&mut waiting(), events.clone());
            assert_eq!(answer, (events, None));
        }
    }

    #[test]
    fn without_a_question_there_is_no_answer() {
        let events = [vec![alt(']')], keys("11;rgb:f/f/f"), vec![bell()]].concat();
        let answer = picked(&mut Background::default(), events.clone());
        assert_eq!(answer, (events, None));
    }
}
