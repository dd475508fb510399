//! Parsers for option values: durations with units, and moments.

use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp, civil};

/// The longest duration taken: a century.
const MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// The shortest threshold. Running code is sampled every millisecond at most, so shorter polls are
/// found only where they sleep.
const MIN_THRESHOLD: Duration = Duration::from_micros(100);
/// The longest threshold: one hour.
const MAX_THRESHOLD: Duration = Duration::from_secs(3600);

/// A duration above zero, at most a century; a plain number is in seconds.
pub fn seconds(text: &str) -> Result<Duration, String> {
    match duration(text, 1.0)? {
        zero if zero.is_zero() => Err("must be above 0".into()),
        duration => Ok(duration),
    }
}

/// A threshold for slow polls, 100 us to 1 hour; a plain number is in milliseconds.
pub fn threshold(text: &str) -> Result<Duration, String> {
    let threshold = duration(text, 1e-3)?;
    match (MIN_THRESHOLD..=MAX_THRESHOLD).contains(&threshold) {
        true => Ok(threshold),
        false => Err("not between 100us and 1h".into()),
    }
}

/// A duration with units, or a plain number of `unit` seconds.
fn duration(text: &str, unit: f64) -> Result<Duration, String> {
    let parsed = match text.parse::<f64>() {
        Ok(number) => Duration::try_from_secs_f64(number * unit).ok(),
        Err(_) => text
            .parse::<SignedDuration>()
            .ok()
            .and_then(|duration| Duration::try_from(duration).ok()),
    };
    parsed.filter(|duration| *duration <= MAX).ok_or_else(|| {
        "not a duration: write a number and a unit, such as 500us, 5ms, 30s or 2min".into()
    })
}

/// A moment of a recording, as the user names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// So long after the recording's start.
    Elapsed(Duration),
    /// A wall-clock time.
    Wall(Wall),
}

/// A wall-clock time. Without a zone it is local.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wall {
    /// With its zone: `2026-11-28T14:03:20Z`.
    Timestamp(Timestamp),
    /// `2026-11-28 14:03:20`.
    DateTime(civil::DateTime),
    /// `14:03:20`, of the recording's day or the one after.
    Time(civil::Time),
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Moment, String> {
        let wall = || {
            (text.parse().map(Wall::Timestamp))
                .or_else(|_| text.parse().map(Wall::DateTime))
                .or_else(|_| text.parse().map(Wall::Time))
        };
        if text.contains(':') {
            return wall().map(Moment::Wall).map_err(|_| {
                "not a time: write 14:03:20, '2026-11-28 14:03:20' or 2026-11-28T14:03:20Z".into()
            });
        }
        duration(text, 1.0).map(Moment::Elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_numbers_keep_the_unit_of_their_option() {
        assert_eq!(seconds("30"), Ok(Duration::from_secs(30)));
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(threshold("5"), Ok(Duration::from_millis(5)));
        assert_eq!(threshold("2.5"), Ok(Duration::from_micros(2500)));
    }

    #[test]
    fn units_are_taken_by_every_option() {
        for (text, expected) in [
            ("500us", Duration::from_micros(500)),
            ("500µs", Duration::from_micros(500)),
            ("5ms", Duration::from_millis(5)),
            ("5 ms", Duration::from_millis(5)),
            ("30s", Duration::from_secs(30)),
            ("1m", Duration::from_secs(60)),
            ("2min", Duration::from_secs(120)),
            ("1m30s", Duration::from_secs(90)),
            ("1h", Duration::from_secs(3600)),
        ] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
            assert_eq!(threshold(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "0",
            "-1",
            "x",
            "",
            "nan",
            "inf",
            "1e300",
            "-5ms",
            "5 lightyears",
            "200y",
        ] {
            assert!(seconds(text).is_err(), "{text}");
            assert!(threshold(text).is_err(), "{text}");
        }
        assert!(threshold("50us").is_err());
        assert!(threshold("61min").is_err());
    }

    #[test]
    fn moments_are_elapsed_or_by_the_clock() {
        let moment = |text: &str| text.parse::<Moment>();
        let elapsed = |seconds| Ok(Moment::Elapsed(Duration::from_secs(seconds)));
        assert_eq!(moment("0"), elapsed(0));
        assert_eq!(moment("90"), elapsed(90));
        assert_eq!(moment("1m30s"), elapsed(90));
        for text in ["14:03", "14:03:20"] {
            assert!(
                matches!(moment(text), Ok(Moment::Wall(Wall::Time(_)))),
                "{text}"
            );
        }
        for text in ["2026-11-28 14:03", "2026-11-28T14:03:20"] {
            assert!(
                matches!(moment(text), Ok(Moment::Wall(Wall::DateTime(_)))),
                "{text}"
            );
        }
        for text in ["2026-11-28T14:03:20Z", "2026-11-28 14:03:20+02:00"] {
            assert!(
                matches!(moment(text), Ok(Moment::Wall(Wall::Timestamp(_)))),
                "{text}"
            );
        }
        for text in ["", "later", "25:00", "-5"] {
            assert!(moment(text).is_err(), "{text}");
        }
    }
}
