//! Exact conversion between nanoseconds and the decimal microseconds of the trace format.
//!
//! Digits are written and read as text, because a double represents every nanosecond of
//! `CLOCK_MONOTONIC` only up to 52 days of uptime.

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// Nanoseconds, in JSON a number of microseconds with three decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Micros(pub u64);

impl Micros {
    pub fn is_zero(&self) -> bool {
        self.0 == 0
    }

    fn parse(text: &str) -> Option<Micros> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) {
            // Another program may have rewritten it as 1.5e3.
            let micros: f64 = text.parse().ok()?;
            let ns = (micros * 1000.0).round();
            // Not negative, not infinite.
            return (0.0..u64::MAX as f64)
                .contains(&ns)
                .then_some(Micros(ns as u64));
        }
        let whole: u64 = whole.parse().ok()?;
        let thousandths = fraction.bytes().chain(*b"000").take(3);
        let fraction = thousandths.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        whole.checked_mul(1000)?.checked_add(fraction).map(Micros)
    }
}

impl Serialize for Micros {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = format!("{}.{:03}", self.0 / 1000, self.0 % 1000);
        let raw = RawValue::from_string(text).map_err(S::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Micros {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Micros::parse(raw.get())
            .ok_or_else(|| D::Error::custom("expected microseconds as a number"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_nanosecond_survives(ns: u64) {
            let text = serde_json::to_string(&Micros(ns)).unwrap();
            prop_assert_eq!(serde_json::from_str::<Micros>(&text).unwrap(), Micros(ns));
        }
    }

    #[test]
    fn other_spellings() {
        assert_eq!(Micros::parse("12"), Some(Micros(12_000)));
        assert_eq!(Micros::parse("0.5"), Some(Micros(500)));
        assert_eq!(Micros::parse("1.5e3"), Some(Micros(1_500_000)));
        for bad in ["-1", "\"1\"", "1e300", "null", "99999999999999999999", ""] {
            assert_eq!(Micros::parse(bad), None, "{bad}");
        }
    }
}
