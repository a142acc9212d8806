//! Signals by their names and numbers.

use crate::store::error::{Result, invalid, show};

/// Names without `SIG`, by number from 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// What C libraries leave of the real-time signals.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// The terminal is gone.
pub const HUP: i32 = 1;
/// Ctrl-C.
pub const INT: i32 = 2;
/// Ctrl-\.
pub const QUIT: i32 = 3;
/// For the program's own use.
pub const USR1: i32 = 10;
/// For the program's own use.
pub const USR2: i32 = 12;
/// What asks a command to end that says nothing else.
pub const TERM: i32 = 15;
/// The terminal has another size.
pub const WINCH: i32 = 28;
/// What nothing survives.
pub const KILL: i32 = 9;

/// Those that whoever is attached hands on to the command, or restores the
/// terminal for.
pub const HANDED_ON: [i32; 7] = [INT, TERM, HUP, QUIT, USR1, USR2, WINCH];

/// The number of `TERM`, `SIGTERM`, `15`, `RTMIN+3`.
///
/// # Errors
/// For anything else.
pub fn parse(text: &str) -> Result<i32> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = || {
        let (base, rest) = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
            (Some(rest), _) => (*REAL_TIME.start(), rest),
            (_, Some(rest)) => (*REAL_TIME.end(), rest),
            _ => return None,
        };
        let offset: i32 = if rest.is_empty() {
            0
        } else {
            rest.parse().ok()?
        };
        base.checked_add(offset).filter(|n| REAL_TIME.contains(n))
    };
    let number = || {
        let n: i32 = name.parse().ok()?;
        ((1..=31).contains(&n) || REAL_TIME.contains(&n)).then_some(n)
    };
    let named = || {
        let at = NAMES.iter().position(|n| *n == name)?;
        i32::try_from(at + 1).ok()
    };
    match named().or_else(number).or_else(real_time) {
        Some(number) => Ok(number),
        None => invalid(format!("invalid signal: {}", show(text.as_bytes()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_as_people_write_them() {
        for (text, number) in [
            ("TERM", 15),
            ("sigterm", 15),
            ("9", 9),
            ("SIGWINCH", 28),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("RTMIN", 34),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for bad in [
            "", "SIG", "NO", "0", "-1", "32", "65", "RTMIN+31", "RTMIN+x",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
