//! Times as documents write them: RFC 3339.

use super::error::{Result, invalid, show};
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds and nanoseconds since 1970.
pub fn now() -> (i64, u32) {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    (seconds, since.subsec_nanos())
}

/// What `SOURCE_DATE_EPOCH` says, if it is set: no time in what is made is later.
///
/// # Errors
/// When it is no number of seconds.
pub fn source_date_epoch() -> Result<Option<i64>> {
    let Some(text) = std::env::var_os("SOURCE_DATE_EPOCH").filter(|t| !t.is_empty()) else {
        return Ok(None);
    };
    match text.to_str().and_then(|t| t.parse::<u32>().ok()) {
        Some(seconds) => Ok(Some(seconds.into())),
        None => invalid(format!(
            "SOURCE_DATE_EPOCH=\"{}\" is not seconds since 1970",
            show(text.as_encoded_bytes())
        )),
    }
}

/// Days since 1970-01-01 of a date in the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March here, so that the leap day is the last.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// RFC 3339 to seconds since 1970.
pub fn parse(text: &str) -> Option<i64> {
    let field = |from: usize, len: usize| -> Option<i64> {
        let digits = text.get(from..from + len)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then_some(())?;
        digits.parse().ok()
    };
    let (year, month, day) = (field(0, 4)?, field(5, 2)?, field(8, 2)?);
    let (hour, minute, second) = (field(11, 2)?, field(14, 2)?, field(17, 2)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 {
        return None;
    }
    let zone = text
        .get(19..)?
        .trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let offset = match zone.as_bytes() {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), rest @ ..] if rest.len() == 5 => {
            let number = |r: Option<&[u8]>| std::str::from_utf8(r?).ok()?.parse::<i64>().ok();
            let offset = number(rest.get(..2))? * 3600 + number(rest.get(3..))? * 60;
            if *sign == b'-' { -offset } else { offset }
        }
        _ => return None,
    };
    Some(days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset)
}

/// Nanoseconds of the second that a time says, as RFC 3339 or in seconds since
/// 1970.
pub fn fraction(text: &str) -> u32 {
    let after = text.split_once('.').map_or("", |(_, after)| after);
    let digits = after.bytes().take_while(u8::is_ascii_digit);
    let nine = digits.chain(std::iter::repeat(b'0')).take(9);
    nine.fold(0, |nanos, digit| nanos * 10 + u32::from(digit - b'0'))
}

/// Seconds and nanoseconds since 1970 as RFC 3339, fraction without zeros at
/// its end.
pub fn format(seconds: i64, nanos: u32) -> String {
    let (day, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 {
        month_index + 3
    } else {
        month_index - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let fraction = match nanos {
        0 => String::new(),
        nanos => format!(".{nanos:09}").trim_end_matches('0').to_owned(),
    };
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}{fraction}Z",
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_both_ways() {
        assert_eq!(parse("1970-01-01T00:00:00Z"), Some(0));
        for (text, nanos) in [
            ("2024-02-29T12:30:15Z", 0),
            ("2024-02-29T12:30:15.123+02:00", 123_000_000),
            ("15.1234567899", 123_456_789),
            ("15.", 0),
        ] {
            assert_eq!(fraction(text), nanos, "{text}");
        }
        assert_eq!(parse("2024-02-29T12:30:15.123+02:00"), Some(1_709_202_615));
        assert_eq!(parse("0001-01-01T00:00:00Z"), Some(-62_135_596_800));
        for bad in [
            "",
            "2024",
            "2024-13-01T00:00:00Z",
            "2024-01-01T00:00:00",
            "äöüäöüäöüäöü",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        for t in [
            0,
            -1,
            951_782_400,
            1_709_202_615,
            -62_135_596_800,
            4_102_444_800,
        ] {
            assert_eq!(parse(&format(t, 0)), Some(t));
        }
        assert_eq!(format(1, 500_000_000), "1970-01-01T00:00:01.5Z");
    }
}
