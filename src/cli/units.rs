//! Sizes, durations and times as people read them.

use crate::store::time;

const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];

/// Decimal, three significant digits, no blank: `72.9MB`, `0B`.
pub fn size(bytes: u64) -> String {
    rounded(bytes, 3)
}

/// As [`size`] with four digits, as docker says what the disk is used for and
/// what was freed: `11.63MB`.
pub fn fine_size(bytes: u64) -> String {
    rounded(bytes, 4)
}

#[allow(clippy::cast_precision_loss, reason = "a few digits are shown")]
fn rounded(bytes: u64, digits: i32) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    // What would be rounded to 1000 belongs to the next unit.
    while value >= 1000.0 - 0.5 * 10f64.powi(3 - digits) && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let mut decimals = digits - 1;
    for limit in [10.0, 100.0] {
        if value >= limit - 0.5 * 10f64.powi(-decimals) {
            decimals -= 1;
        }
    }
    let decimals = usize::try_from(decimals).unwrap_or_default();
    let text = format!("{value:.decimals$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{}", UNITS.get(unit).unwrap_or(&"B"))
}

/// A size as people write it: `20MB`, `1.5 GiB`, `4096`. Units are those of
/// [`size`] and the binary ones; their case does not matter.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a limit that people give is not exact, and the cast saturates"
)]
pub fn parse_size(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit = unit.trim().to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let (prefix, base) = match unit.strip_suffix('i') {
        Some(prefix) => (prefix, 1024f64),
        None => (unit, 1000f64),
    };
    let power = ["", "k", "m", "g", "t", "p", "e"]
        .iter()
        .position(|p| *p == prefix)?;
    if power == 0 && base > 1000.0 {
        return None;
    }
    let number: f64 = number.parse().ok()?;
    Some((number * base.powi(i32::try_from(power).ok()?)) as u64)
}

/// `5 minutes`, `About an hour`, `2 weeks`.
pub fn duration(seconds: i64) -> String {
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// Seconds since 1970.
pub fn now() -> i64 {
    time::now().0
}

/// Now as RFC 3339, to the nanosecond.
pub fn now_text() -> String {
    let (seconds, nanos) = time::now();
    time::format(seconds, nanos)
}

/// `X ago`.
pub fn ago(then: i64) -> String {
    format!("{} ago", duration(now().saturating_sub(then)))
}

/// A time as Go prints it: `2024-05-01 10:00:00 +0000 UTC`.
pub fn date(seconds: i64) -> String {
    let text = time::format(seconds, 0).replace('T', " ").replace('Z', "");
    format!("{text} +0000 UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_docker_writes_them() {
        for (bytes, text) in [
            (0, "0B"),
            (18, "18B"),
            (999, "999B"),
            (1000, "1kB"),
            (1234, "1.23kB"),
            (12_300, "12.3kB"),
            (72_900_000, "72.9MB"),
            (126_400_000, "126MB"),
            (999_600_000, "1GB"),
            (1_090_000_000, "1.09GB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (49_152, "49.15kB"),
            (99_994, "99.99kB"),
            (99_996, "100kB"),
            (999_949, "999.9kB"),
            (999_950, "1MB"),
            (11_630_000, "11.63MB"),
            (1_234_567_890, "1.235GB"),
            (u64::MAX, "18.45EB"),
        ] {
            assert_eq!(fine_size(bytes), text);
        }
    }

    #[test]
    fn sizes_that_people_write() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("20MB", 20_000_000),
            ("1.5 GiB", 1_610_612_736),
            ("7k", 7000),
            ("3b", 3),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for bad in ["", "MB", "-1", "1XB", "1iB", "1.2.3", "1MBx", "nan"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_as_docker_writes_them() {
        for (seconds, text) in [
            (-5, "Less than a second"),
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (150, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 86_400, "2 weeks"),
            (61 * 86_400, "2 months"),
            (800 * 86_400, "2 years"),
        ] {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn dates_as_go_prints_them() {
        assert_eq!(date(1_709_202_615), "2024-02-29 10:30:15 +0000 UTC");
    }
}
