//! `--chmod`: octal digits, or changes as chmod(1) reads them.

use crate::store::error::{Result, invalid, show};

/// Permission bits, given or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// These.
    Bits(u32),
    /// Those of the file, changed one after the other.
    Changes(Vec<Change>),
}

/// `who`, what is done, and the bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    who: u32,
    action: char,
    what: Vec<char>,
}

/// All bits that a mode has.
const ALL: u32 = 0o7777;

impl Mode {
    /// Read `755` or `u+x,go-w`.
    ///
    /// # Errors
    /// For anything else.
    pub fn parse(text: &str) -> Result<Mode> {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        let found = match u32::from_str_radix(text, 8) {
            Ok(bits) if digits && bits <= ALL => Some(Mode::Bits(bits)),
            Err(_) if !digits => changes(text).map(Mode::Changes),
            _ => None,
        };
        found.map_or_else(
            || {
                invalid(format!(
                    "--chmod={}: give octal digits, such as 755, or changes, such as u+x,go-w",
                    show(text.as_bytes())
                ))
            },
            Ok,
        )
    }

    /// The bits of what has `bits` so far.
    pub fn of(&self, bits: u32, is_dir: bool) -> u32 {
        match self {
            Mode::Bits(bits) => *bits,
            Mode::Changes(changes) => changes
                .iter()
                .fold(bits, |bits, change| change.of(bits, is_dir)),
        }
    }
}

impl Change {
    fn of(&self, old: u32, is_dir: bool) -> u32 {
        let bits = self.what.iter().map(|what| match what {
            'r' => 0o444,
            'w' => 0o222,
            'x' => 0o111,
            'X' if is_dir || old & 0o111 != 0 => 0o111,
            's' => 0o6000,
            't' => 0o1000,
            'u' => (old >> 6 & 7) * 0o111,
            'g' => (old >> 3 & 7) * 0o111,
            'o' => (old & 7) * 0o111,
            _ => 0,
        });
        let bits = bits.fold(0, |all, bits| all | bits) & self.who;
        // Where it is not asked for, directories keep what their content inherits.
        let kept = if is_dir { 0o6000 } else { 0 };
        match self.action {
            '+' => old | bits,
            '-' => old & !bits,
            _ => old & (!self.who | kept) | bits,
        }
    }
}

fn changes(text: &str) -> Option<Vec<Change>> {
    let mut out = Vec::new();
    for clause in text.split(',') {
        let end = clause.find(['+', '-', '='])?;
        let (named, mut rest) = clause.split_at_checked(end)?;
        let mut who = 0;
        for name in named.chars() {
            who |= match name {
                'u' => 0o4700,
                'g' => 0o2070,
                'o' => 0o1007,
                'a' => ALL,
                _ => return None,
            };
        }
        let who = if named.is_empty() { ALL } else { who };
        while let Some(action) = rest.chars().next() {
            let after = rest.get(1..)?;
            let end = after.find(['+', '-', '=']).unwrap_or(after.len());
            let (what, next) = after.split_at_checked(end)?;
            let what: Vec<char> = what.chars().collect();
            if !what.iter().all(|c| "rwxXstugo".contains(*c)) {
                return None;
            }
            out.push(Change { who, action, what });
            rest = next;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_what_chmod_makes_of_them() {
        for (text, old, dir, new) in [
            ("755", 0o644, false, 0o755),
            ("0644", 0o4755, false, 0o644),
            ("u+x,go-w", 0o666, false, 0o744),
            ("+x", 0o644, false, 0o755),
            ("a=rX", 0o640, false, 0o444),
            ("a=rX", 0o740, false, 0o555),
            ("a=rX", 0o700, true, 0o555),
            ("g=u,o=", 0o751, false, 0o770),
            ("u=rw+x-r", 0o000, false, 0o300),
            ("ug+s,+t", 0o755, false, 0o7755),
            ("u-s", 0o6755, false, 0o2755),
            ("g=rx", 0o2770, true, 0o2750),
            ("g=rx", 0o2770, false, 0o750),
            ("o+t", 0o777, true, 0o1777),
        ] {
            let mode = Mode::parse(text).unwrap();
            assert_eq!(mode.of(old, dir), new, "{text} of {old:o}");
        }
        for bad in [
            "", "9", "77777", "u", "u+q", "x+u", "u+x,", "rwx", "+8", "755x",
        ] {
            let e = Mode::parse(bad).unwrap_err().to_string();
            assert!(e.starts_with(&format!("--chmod={bad}: ")), "{e}");
        }
    }
}
