//! Moments of a session on the wall clock.

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::model::Header;

/// Converts moments on `CLOCK_MONOTONIC` into local time. Exact unless the machine was suspended or
/// its clock was set during the session.
#[derive(Clone, Debug)]
pub struct WallClock {
    start_ns: u64,
    /// The start; None where no header or no time is recorded.
    start: Option<Zoned>,
}

impl WallClock {
    /// For a session that began as its header says.
    pub fn new(header: Option<&Header>, zone: &TimeZone) -> WallClock {
        let unix_ns = header.map_or(0, |h| h.start_unix_ns);
        let start = Timestamp::from_nanosecond(i128::from(unix_ns)).ok();
        WallClock {
            start_ns: header.map_or(0, |h| h.start_ns),
            start: start
                .filter(|_| unix_ns > 0)
                .map(|at| at.to_zoned(zone.clone())),
        }
    }

    /// Time of day: `14:03:25`. On another day than the session's start the date stands before it:
    /// `11-29 14:03:25`. Time into the session where the wall clock is not known.
    pub fn time(&self, at_ns: u64) -> String {
        self.of_day(at_ns, "%T")
            .unwrap_or_else(|| super::elapsed(self.into_session(at_ns)))
    }

    /// As [`WallClock::time`], with milliseconds: `14:03:25.123`.
    pub fn moment(&self, at_ns: u64) -> String {
        self.of_day(at_ns, "%T%.3f")
            .unwrap_or_else(|| super::moment(self.into_session(at_ns)))
    }

    /// Time of day and time into the session: `14:03:25 (00:02)`.
    pub fn both(&self, at_ns: u64) -> String {
        let elapsed = super::elapsed(self.into_session(at_ns));
        match self.of_day(at_ns, "%T") {
            Some(time) => format!("{time} ({elapsed})"),
            None => elapsed,
        }
    }

    /// Time of day and time into the session, with milliseconds, for the beginning of a line:
    /// `14:03:25.123 00:02.500`.
    pub fn stamp(&self, at_ns: u64) -> String {
        let session = super::moment(self.into_session(at_ns));
        match self.of_day(at_ns, "%T%.3f") {
            Some(time) => format!("{time} {session}"),
            None => session,
        }
    }

    /// Date, time and zone of the start: `2026-11-28 14:03:23 +01:00`.
    pub fn started(&self) -> Option<String> {
        let start = self.start.as_ref()?;
        Some(start.strftime("%F %T %:z").to_string())
    }

    /// How far into the session a moment is, nanoseconds.
    pub fn into_session(&self, at_ns: u64) -> u64 {
        at_ns.saturating_sub(self.start_ns)
    }

    fn of_day(&self, at_ns: u64, format: &str) -> Option<String> {
        let start = self.start.as_ref()?;
        let since = i128::from(at_ns) - i128::from(self.start_ns);
        let at = Timestamp::from_nanosecond(start.timestamp().as_nanosecond() + since).ok()?;
        let at = at.to_zoned(start.time_zone().clone());
        let date = if at.date() == start.date() {
            ""
        } else {
            "%m-%d "
        };
        Some(at.strftime(&format!("{date}{format}")).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Record;
    use crate::session::testing as t;

    fn header(unix_ns: u64) -> Header {
        let Record::Header(header) = t::header() else {
            panic!("no header");
        };
        Header {
            start_unix_ns: unix_ns,
            ..*header
        }
    }

    #[test]
    fn moments_are_local_and_say_when_the_day_is_another() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let clock = WallClock::new(Some(&header(1_750_000_000_000_000_000)), &zone);
        let after = |seconds: u64| t::START_NS + seconds * 1_000_000_000;
        assert_eq!(
            clock.started().as_deref(),
            Some("2025-06-15 17:06:40 +02:00")
        );
        assert_eq!(clock.time(after(5)), "17:06:45");
        assert_eq!(clock.both(after(65)), "17:07:45 (01:05)");
        assert_eq!(clock.moment(after(5) + 7_600_000), "17:06:45.007");
        assert_eq!(clock.time(after(86_400)), "06-16 17:06:40");
        // A poll that was under way when hud attached.
        assert_eq!(clock.time(t::START_NS - 1_000_000_000), "17:06:39");
    }

    #[test]
    fn without_an_anchor_moments_are_those_of_the_session() {
        for header in [None, Some(&header(0))] {
            let clock = WallClock::new(header, &TimeZone::UTC);
            let start = header.map_or(0, |h| h.start_ns);
            assert_eq!(clock.both(start + 65_000_000_000), "01:05");
            assert_eq!(clock.time(start), "00:00");
            assert_eq!(clock.started(), None);
        }
    }
}
