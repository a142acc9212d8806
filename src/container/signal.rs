//! The signals that containers get.

use crate::store::error::{Result, invalid, show};
use crate::sys::signal as sys;

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
/// Nobody reads any more.
pub const PIPE: i32 = 13;
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
    match sys::number(text) {
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
