//! Names of containers.

use crate::store::error::{Context, Result, invalid, show};
use crate::sys::tree;

/// May a container or a volume be called that: letters, digits, `_`, `.` and `-`; at least two, beginning with a letter or
/// digit.
pub fn is_good(name: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric();
    name.len() > 1
        && name.len() <= 255
        && name.bytes().next().is_some_and(word)
        && name
            .bytes()
            .all(|b| word(b) || matches!(b, b'_' | b'.' | b'-'))
}

/// Refuse what containers cannot be called.
///
/// # Errors
/// In docker's words.
pub fn check(name: &str) -> Result<()> {
    if is_good(name) {
        return Ok(());
    }
    invalid(format!(
        "Invalid container name ({}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
        show(name.as_bytes())
    ))
}

const FIRST: [&str; 32] = [
    "amber", "ancient", "bright", "brisk", "calm", "clear", "coastal", "copper", "crisp", "dawn",
    "deep", "early", "fallen", "gentle", "golden", "granite", "green", "hidden", "hollow", "icy",
    "late", "lofty", "mellow", "northern", "pale", "quiet", "rapid", "silver", "stony", "sunny",
    "tidal", "windy",
];
const SECOND: [&str; 32] = [
    "basin", "bay", "beach", "bluff", "brook", "canyon", "cape", "cliff", "cove", "creek", "delta",
    "dune", "fjord", "forest", "glacier", "gorge", "grove", "harbor", "hill", "island", "lagoon",
    "lake", "marsh", "meadow", "mesa", "peak", "pond", "reef", "ridge", "river", "spring",
    "valley",
];

/// A name that `taken` does not have.
///
/// # Errors
/// When the system has no randomness.
pub fn invent(taken: impl Fn(&str) -> bool) -> Result<String> {
    let mut attempt = 0u32;
    loop {
        let mut random = [0; 4];
        tree::random(&mut random).context(|| "cannot get random bytes".to_owned())?;
        let [a, b, c, d] = random;
        let pick = |list: &[&'static str; 32], n: u8| {
            list.get(usize::from(n) % list.len())
                .copied()
                .unwrap_or_default()
        };
        let mut name = format!("{}_{}", pick(&FIRST, a), pick(&SECOND, b));
        // A thousand names are soon used up.
        if attempt > 3 {
            name.push_str(&u16::from_ne_bytes([c, d]).to_string());
        }
        if !taken(&name) {
            return Ok(name);
        }
        attempt += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_docker_allows_them() {
        for good in ["ab", "a1", "A_b.c-d", "0x"] {
            check(good).unwrap();
        }
        for bad in ["", "a", "-ab", "_ab", "a/b", "a b", "é1", "..", "a\n"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        check(&invent(|_| false).unwrap()).unwrap();
    }
}
