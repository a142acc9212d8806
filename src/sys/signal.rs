//! Signals by their names and numbers.

/// Names without `SIG`, by number from 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// What C libraries leave of the real-time signals.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// The number of `TERM`, `SIGTERM`, `15`, `RTMIN+3`, in any case; nothing for
/// anything else.
pub fn number(text: &str) -> Option<i32> {
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
    named().or_else(number).or_else(real_time)
}
