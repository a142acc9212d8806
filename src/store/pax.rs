//! PAX records, read strictly.
//!
//! Tar programs differ in what they make of a malformed record, and an archive
//! that two programs read differently can hide things from one of them. So a
//! record that is not exactly `LENGTH KEY=VALUE\n`, or a number that is none,
//! refuses the archive.

use super::error::{Result, invalid, show};
use crate::sys::fs::Time;

/// One `KEY=VALUE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Before the `=`.
    pub key: &'a [u8],
    /// After it; any bytes.
    pub value: &'a [u8],
}

/// All records of an extended header.
///
/// # Errors
/// For anything but a sequence of complete records.
pub fn records(mut data: &[u8]) -> Result<Vec<Record<'_>>> {
    let mut out = Vec::new();
    while !data.is_empty() {
        let Some((record, rest)) = one(data) else {
            return invalid("malformed PAX record");
        };
        out.push(record);
        data = rest;
    }
    Ok(out)
}

fn one(data: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let space = data.iter().take(10).position(|b| *b == b' ')?;
    let digits = data.get(..space)?;
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let len: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let (record, rest) = data.split_at_checked(len)?;
    let body = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|b| *b == b'=')?;
    let (key, value) = (body.get(..equals)?, body.get(equals + 1..)?);
    (!key.is_empty()).then_some((Record { key, value }, rest))
}

/// A number of a record.
///
/// # Errors
/// For anything but decimal digits that fit.
pub fn number(record: &Record<'_>) -> Result<u64> {
    let text = std::str::from_utf8(record.value).unwrap_or_default();
    match text.parse() {
        Ok(n) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(n),
        _ => invalid(format!(
            "bad PAX {}: \"{}\"",
            show(record.key),
            show(record.value)
        )),
    }
}

/// A time of a record: decimal seconds, perhaps negative, perhaps a fraction.
///
/// # Errors
/// For anything else.
pub fn time(record: &Record<'_>) -> Result<Time> {
    let parse = || {
        let text = std::str::from_utf8(record.value).ok()?;
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) {
            return None;
        }
        let sec: i64 = whole.parse().ok()?;
        let mut nsec = 0u32;
        for i in 0..9 {
            let digit = fraction.as_bytes().get(i).map_or(0, |b| b - b'0');
            nsec = nsec * 10 + u32::from(digit);
        }
        Some(match (negative, nsec) {
            (false, nsec) => Time { sec, nsec },
            (true, 0) => Time { sec: -sec, nsec: 0 },
            // Nanoseconds count upwards from the second before.
            (true, nsec) => Time {
                sec: -sec - 1,
                nsec: 1_000_000_000 - nsec,
            },
        })
    };
    match parse() {
        Some(time) => Ok(time),
        None => invalid(format!("bad PAX time: \"{}\"", show(record.value))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_complete_or_refused() {
        let ok = records(b"12 path=a b\n22 SCHILY.xattr.u=\x00\xff\n\n").unwrap();
        assert_eq!(
            ok[0],
            Record {
                key: b"path",
                value: b"a b"
            }
        );
        assert_eq!(ok[1].value, b"\x00\xff\n");
        for bad in [
            &b"x"[..],
            b"12 path=a b",
            b"11 path=a b\n",
            b"99999999999 path=a\n",
            b"+9 path=a\n",
            b"6 path\n",
            b"12 path=a b\n\0\0",
            b"3 \n",
            b"5 =a\n",
        ] {
            assert!(records(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_go_both_ways_from_1970() {
        let t = |v: &str| {
            time(&Record {
                key: b"mtime",
                value: v.as_bytes(),
            })
            .map(|t| (t.sec, t.nsec))
        };
        assert_eq!(t("1.5").unwrap(), (1, 500_000_000));
        assert_eq!(t("1.1234567899").unwrap(), (1, 123_456_789));
        assert_eq!(t("-1.5").unwrap(), (-2, 500_000_000));
        assert_eq!(t("-3").unwrap(), (-3, 0));
        for bad in ["", "-", "1e3", "1.x", "+1", "--1"] {
            assert!(t(bad).is_err(), "{bad}");
        }
    }
}
