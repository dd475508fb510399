//! Durations, moments, counts, shares and sizes as text.

const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// A measured duration, rounded to three digits below a minute and to two units above:
/// `870 µs`, `12.3 ms`, `1.24 s`, `2m 05s`, `3h 12m`, `2d 04h`. At most 7 columns below 100 days.
pub fn duration(ns: u64) -> String {
    // The bounds are where the next smaller unit would round up to the next larger one.
    match ns {
        0 => "0 ms".to_owned(),
        1..500 => "<1 µs".to_owned(),
        ..999_500 => format!("{} µs", rounded(ns, 1_000)),
        ..999_500_000 => three_digits(ns as f64 / 1e6, " ms"),
        ..59_950_000_000 => three_digits(ns as f64 / 1e9, " s"),
        _ => {
            let seconds = rounded(ns, SECOND);
            let minutes = rounded(ns, MINUTE);
            let hours = rounded(ns, HOUR);
            match (seconds, minutes) {
                (..3600, _) => format!("{}m {:02}s", seconds / 60, seconds % 60),
                (_, ..1440) => format!("{}h {:02}m", minutes / 60, minutes % 60),
                _ => format!("{}d {:02}h", hours / 24, hours % 24),
            }
        }
    }
}

/// A duration that is still growing: tenths of a second up to ten minutes, so that it is seen to
/// move. Rounded down, like every clock.
pub fn running(ns: u64) -> String {
    match ns {
        ..SECOND => format!("{} ms", ns / 1_000_000),
        ..600_000_000_000 => format!("{}.{} s", ns / SECOND, ns / 100_000_000 % 10),
        _ => duration(ns),
    }
}

/// A duration that somebody chose, in full: `5 ms`, `2.5 ms`, `30 s`.
pub fn setting(ns: u64) -> String {
    match ns {
        ..1_000_000 => format!("{} µs", ns as f64 / 1e3),
        ..SECOND => format!("{} ms", ns as f64 / 1e6),
        _ => format!("{} s", ns as f64 / 1e9),
    }
}

/// Time into the session: `03:25`, `1:03:25`.
pub fn elapsed(ns: u64) -> String {
    let seconds = ns / SECOND;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes:02}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// Time into the session with milliseconds: `00:05.123`.
pub fn moment(ns: u64) -> String {
    format!("{}.{:03}", elapsed(ns), ns / 1_000_000 % 1000)
}

/// How long ago: `now` within the last second, then `12 s`, `3m 20s`.
pub fn ago(ns: u64) -> String {
    match ns / SECOND {
        0 => "now".to_owned(),
        seconds @ 1..60 => format!("{seconds} s"),
        _ => duration(ns),
    }
}

/// A count in at most five columns (below 10^12): `9999`, `12.3k`, `4.56M`.
pub fn count(n: u64) -> String {
    match n {
        ..10_000 => n.to_string(),
        ..999_500 => three_digits(n as f64 / 1e3, "k"),
        ..999_500_000 => three_digits(n as f64 / 1e6, "M"),
        _ => three_digits(n as f64 / 1e9, "G"),
    }
}

/// A count with its noun: `1 poll`, `2 polls`, `12.3k polls`.
pub fn counted(n: impl TryInto<u64>, noun: &str) -> String {
    match n.try_into().unwrap_or(u64::MAX) {
        1 => format!("1 {noun}"),
        n => format!("{} {noun}s", count(n)),
    }
}

/// A share from 0 to 1 in whole percent, at most four columns: `0%`, `<1%`, `34%`, `100%`.
pub fn percent(share: f64) -> String {
    match share * 100.0 {
        p if p <= 0.0 => "0%".to_owned(),
        p if p < 1.0 => "<1%".to_owned(),
        p => format!("{p:.0}%"),
    }
}

/// A part of a whole with a tenth of a percent, for hud's own cost and utilisation: `12.3%`;
/// `-` where the whole is 0.
pub fn percent_of(part: u64, whole: u64) -> String {
    match whole {
        0 => "-".to_owned(),
        _ => format!("{:.1}%", share(part, whole) * 100.0),
    }
}

/// A part of a whole, 0 to 1; 0 where the whole is 0.
pub fn share(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 0.0,
        whole => part as f64 / whole as f64,
    }
}

/// A size in binary units: `512 B`, `24.0 MiB`, `1.50 GiB`.
pub fn bytes(n: u64) -> String {
    let mut value = n as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 999.5 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    match unit {
        "B" => format!("{n} B"),
        unit => three_digits(value, &format!(" {unit}")),
    }
}

/// Three significant digits, without an exponent.
fn three_digits(value: f64, unit: &str) -> String {
    match value {
        v if v < 9.995 => format!("{v:.2}{unit}"),
        v if v < 99.95 => format!("{v:.1}{unit}"),
        v => format!("{v:.0}{unit}"),
    }
}

fn rounded(ns: u64, unit: u64) -> u64 {
    ns / unit + u64::from(ns % unit >= unit / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_round_at_the_borders_of_their_units() {
        for (ns, text) in [
            (0, "0 ms"),
            (1, "<1 µs"),
            (499, "<1 µs"),
            (500, "1 µs"),
            (870_400, "870 µs"),
            (999_499, "999 µs"),
            (999_500, "1.00 ms"),
            (9_994_999, "9.99 ms"),
            (9_995_000, "10.0 ms"),
            (12_345_678, "12.3 ms"),
            (99_950_000, "100 ms"),
            (999_499_999, "999 ms"),
            (999_500_000, "1.00 s"),
            (59_900_000_000, "59.9 s"),
            (59_949_999_999, "59.9 s"),
            (59_950_000_000, "1m 00s"),
            (60 * SECOND, "1m 00s"),
            (125 * SECOND, "2m 05s"),
            (HOUR - SECOND, "59m 59s"),
            (HOUR - 1, "1h 00m"),
            (HOUR, "1h 00m"),
            (3 * HOUR + 12 * MINUTE, "3h 12m"),
            (24 * HOUR - MINUTE, "23h 59m"),
            (24 * HOUR - 1, "1d 00h"),
            (52 * HOUR, "2d 04h"),
        ] {
            assert_eq!(duration(ns), text, "{ns} ns");
        }
        assert_eq!(duration(u64::MAX), "213504d 00h");
    }

    #[test]
    fn durations_fit_seven_columns() {
        let mut ns = 1;
        while ns < 100 * 24 * HOUR {
            for ns in [ns - 1, ns, ns + 1] {
                assert!(duration(ns).chars().count() <= 7, "{}", duration(ns));
            }
            ns += ns / 7 + 1;
        }
    }

    #[test]
    fn clocks_are_rounded_down() {
        let all = [0, 999_999_999, 1_999_999_999, 59_990_000_000, 600 * SECOND];
        assert_eq!(
            all.map(running),
            ["0 ms", "999 ms", "1.9 s", "59.9 s", "10m 00s"]
        );
        let all = [0, 59_999_999_999, HOUR - 1, HOUR, 100 * HOUR];
        let expected = ["00:00", "00:59", "59:59", "1:00:00", "100:00:00"];
        assert_eq!(all.map(elapsed), expected);
        assert_eq!(moment(5_123_999_999), "00:05.123");
        let all = [0, 999_999_999, SECOND, 59_999_999_999, MINUTE];
        assert_eq!(all.map(ago), ["now", "now", "1 s", "59 s", "1m 00s"]);
    }

    #[test]
    fn settings_are_exact() {
        let all = [500_000, 5_000_000, 2_500_000, 30 * SECOND];
        assert_eq!(all.map(setting), ["500 µs", "5 ms", "2.5 ms", "30 s"]);
    }

    #[test]
    fn counts_stay_within_five_columns_and_agree_with_their_noun() {
        for (n, text) in [
            (0, "0"),
            (9_999, "9999"),
            (10_000, "10.0k"),
            (12_345, "12.3k"),
            (99_950, "100k"),
            (999_499, "999k"),
            (999_500, "1.00M"),
            (999_499_999, "999M"),
            (999_500_000, "1.00G"),
            (999_000_000_000, "999G"),
        ] {
            assert_eq!(count(n), text);
        }
        let polls = [0u64, 1, 2, 10_000].map(|n| counted(n, "slow poll"));
        let expected = [
            "0 slow polls",
            "1 slow poll",
            "2 slow polls",
            "10.0k slow polls",
        ];
        assert_eq!(polls, expected);
    }

    #[test]
    fn shares_tell_little_from_nothing() {
        let all = [0.0, 0.000_1, 0.009_9, 0.01, 0.345, 0.994, 1.0];
        let expected = ["0%", "<1%", "<1%", "1%", "34%", "99%", "100%"];
        assert_eq!(all.map(percent), expected);
        assert_eq!(percent_of(123, 1000), "12.3%");
        assert_eq!(percent_of(0, 0), "-");
        assert_eq!(share(1, 0), 0.0);
    }

    #[test]
    fn sizes_have_the_unit_that_fits() {
        let all = [0, 999, 1000, 24 << 20, 3 << 29, u64::MAX];
        let expected = [
            "0 B",
            "999 B",
            "0.98 KiB",
            "24.0 MiB",
            "1.50 GiB",
            "16777216 TiB",
        ];
        assert_eq!(all.map(bytes), expected);
    }
}
