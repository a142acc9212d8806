//! Patterns for paths: those of `.dockerignore`, `--exclude`, and of the sources
//! of `COPY`.

use crate::store::error::{Result, invalid, show};

/// One thing a pattern asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// `?`
    One,
    /// `*`
    Star,
    /// `**`
    Deep,
    /// `**/`, which may be nothing.
    DeepBegin,
    /// In such a one, behind its beginning.
    DeepRest,
    /// `[a-z]`, and whether it is the others that are meant.
    Class(Vec<(u8, u8)>, bool),
}

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<Token>);

impl Pattern {
    /// Read a pattern of `.dockerignore`, where `**` is any number of
    /// directories.
    ///
    /// # Errors
    /// For a `[` or `\` without what belongs to it.
    pub fn deep(text: &[u8]) -> Result<Pattern> {
        Self::read(text, true)
    }

    /// Read a source of `COPY`, where `*` stays in its directory.
    ///
    /// # Errors
    /// As [`Pattern::deep`].
    pub fn wildcard(text: &[u8]) -> Result<Pattern> {
        Self::read(text, false)
    }

    fn read(text: &[u8], deep: bool) -> Result<Pattern> {
        let bad = || invalid(format!("the pattern \"{}\" has no end", show(text)));
        let mut out = Vec::new();
        let mut rest = text;
        while let Some((byte, mut after)) = rest.split_first() {
            match byte {
                b'*' => {
                    let stars = 1 + after.iter().take_while(|b| **b == b'*').count();
                    after = rest.get(stars..).unwrap_or_default();
                    if stars == 1 || !deep {
                        out.push(Token::Star);
                    } else if let Some(below) = after.strip_prefix(b"/") {
                        after = below;
                        out.extend([Token::DeepBegin, Token::DeepRest]);
                    } else {
                        out.push(Token::Deep);
                    }
                }
                b'?' => out.push(Token::One),
                b'[' => {
                    let Some((class, below)) = class(after) else {
                        return bad();
                    };
                    after = below;
                    out.push(class);
                }
                b'\\' => match after.split_first() {
                    Some((byte, below)) => {
                        after = below;
                        out.push(Token::Byte(*byte));
                    }
                    None => return bad(),
                },
                byte => out.push(Token::Byte(*byte)),
            }
            rest = after;
        }
        Ok(Pattern(out))
    }

    /// Is the whole of `path` what the pattern asks for.
    pub fn matches(&self, path: &[u8]) -> bool {
        let end = self.0.len();
        let mut at = vec![false; end + 1];
        self.enter(&mut at, 0);
        for byte in path {
            let mut next = vec![false; end + 1];
            for (n, token) in self.0.iter().enumerate() {
                if !at.get(n).copied().unwrap_or_default() {
                    continue;
                }
                let slash = *byte == b'/';
                match token {
                    Token::Byte(b) if b == byte => self.enter(&mut next, n + 1),
                    Token::One if !slash => self.enter(&mut next, n + 1),
                    Token::Star if !slash => self.enter(&mut next, n),
                    Token::Deep => self.enter(&mut next, n),
                    Token::DeepRest => {
                        if let Some(state) = next.get_mut(n) {
                            *state = true;
                        }
                        if slash {
                            self.enter(&mut next, n + 1);
                        }
                    }
                    Token::Class(ranges, others) if !slash => {
                        let within = ranges.iter().any(|(a, z)| (a..=z).contains(&byte));
                        if within != *others {
                            self.enter(&mut next, n + 1);
                        }
                    }
                    _ => {}
                }
            }
            at = next;
        }
        at.last().copied().unwrap_or_default()
    }

    /// Come to a token, and to those behind ones that may stand for nothing.
    fn enter(&self, at: &mut [bool], n: usize) {
        match at.get_mut(n) {
            Some(state) if !*state => *state = true,
            _ => return,
        }
        match self.0.get(n) {
            Some(Token::Star | Token::Deep) => self.enter(at, n + 1),
            Some(Token::DeepBegin) => {
                self.enter(at, n + 2);
                if let Some(state) = at.get_mut(n + 1) {
                    *state = true;
                }
            }
            _ => {}
        }
    }
}

/// What stands behind a `[`, and the rest after its `]`.
fn class(text: &[u8]) -> Option<(Token, &[u8])> {
    let (others, mut rest) = match text.split_first()? {
        (b'^' | b'!', rest) => (true, rest),
        _ => (false, text),
    };
    let one = |text: &'_ [u8]| -> Option<(u8, usize)> {
        match text {
            [b'\\', byte, ..] => Some((*byte, 2)),
            [b'\\'] | [] => None,
            [byte, ..] => Some((*byte, 1)),
        }
    };
    let mut ranges = Vec::new();
    loop {
        if let (Some(after), false) = (rest.strip_prefix(b"]"), ranges.is_empty()) {
            return Some((Token::Class(ranges, others), after));
        }
        let (first, taken) = one(rest)?;
        rest = rest.get(taken..)?;
        let mut last = first;
        if let [b'-', after @ ..] = rest
            && !after.starts_with(b"]")
        {
            let (end, taken) = one(after)?;
            last = end;
            rest = after.get(taken..)?;
        }
        ranges.push((first, last));
    }
}

/// Does the text ask for more than one path.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Patterns of which the last that fits decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patterns(Vec<(Pattern, bool)>);

impl Patterns {
    /// Read the lines of a `.dockerignore`.
    ///
    /// # Errors
    /// With the number of the line that is no pattern.
    pub fn read(text: &str) -> Result<Patterns> {
        let mut out = Patterns::default();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (n, line) in text.lines().enumerate() {
            if line.starts_with('#') {
                continue;
            }
            if let Err(e) = out.add(line.trim()) {
                return invalid(format!("line {}: {e}", n + 1));
            }
        }
        Ok(out)
    }

    /// Add one.
    ///
    /// # Errors
    /// When it is none.
    pub fn add(&mut self, line: &str) -> Result<()> {
        let (text, kept) = match line.strip_prefix('!') {
            Some(text) => (text.trim_start(), true),
            None => (line, false),
        };
        let text = clean(text);
        if !text.is_empty() {
            self.0.push((Pattern::deep(text.as_bytes())?, kept));
        }
        Ok(())
    }

    /// Is nothing left out.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Is `path`, relative to where the patterns begin, left out: by a pattern
    /// for it or for a directory above.
    pub fn leave_out(&self, path: &[u8]) -> bool {
        let mut out = false;
        for (pattern, kept) in &self.0 {
            let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/');
            let fits = pattern.matches(path)
                || ends
                    .map(|(n, _)| path.get(..n).unwrap_or_default())
                    .any(|above| pattern.matches(above));
            if fits {
                out = !kept;
            }
        }
        out
    }

    /// Is anything below a directory that is left out kept after all.
    pub fn keep_some(&self) -> bool {
        self.0.iter().any(|(_, kept)| *kept)
    }
}

/// A path without what changes nothing; one that leads up stays below the root.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_as_docker_reads_them() {
        for (pattern, yes, no) in [
            ("*.go", &["a.go", ".go"][..], &["a.got", "d/a.go", "go"][..]),
            ("a/*/c", &["a/b/c", "a//c"], &["a/c", "a/b/b/c"]),
            ("**", &["a", "a/b", ""], &[]),
            ("**/x", &["x", "a/x", "a/b/x"], &["ax", "x/a", "a/bx"]),
            ("a/**", &["a/", "a/b/c"], &["a", "ab"]),
            ("a/**/b", &["a/b", "a/x/y/b"], &["ab", "a/xb", "a/b/c"]),
            ("a**b", &["ab", "a/x/b"], &["ac"]),
            ("?", &["a"], &["", "ab", "/"]),
            ("[a-c]x", &["ax", "cx"], &["dx", "x"]),
            ("[^a-c]x", &["dx"], &["ax", "/x"]),
            ("[]]", &["]"], &["[", ""]),
            ("[a-]", &["a", "-"], &["b"]),
            (r"\*[\]]", &["*]"], &["a]", "**"]),
            ("a.b", &["a.b"], &["axb"]),
        ] {
            let read = Pattern::deep(pattern.as_bytes()).unwrap();
            for path in yes {
                assert!(read.matches(path.as_bytes()), "{pattern} {path}");
            }
            for path in no {
                assert!(!read.matches(path.as_bytes()), "{pattern} {path}");
            }
        }
        for bad in ["[", "[a", "a\\", "[a-", "[^"] {
            assert!(Pattern::deep(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(!Pattern::wildcard(b"**/x").unwrap().matches(b"a/b/x"));
        // Not as many ways as there are stars.
        let many = Pattern::deep("*a".repeat(200).as_bytes()).unwrap();
        assert!(!many.matches("a".repeat(199).as_bytes()));
    }

    #[test]
    fn the_last_that_fits_decides() {
        let ignore =
            Patterns::read("# no\n*.log\n/build/\n!build/keep\n\n!important.log\n./x/../y\n.\n")
                .unwrap();
        for (path, out) in [
            ("a.log", true),
            ("d/a.log", false),
            ("important.log", false),
            ("build", true),
            ("build/x/z", true),
            ("build/keep", false),
            ("build/keep/inner", false),
            ("y", true),
            ("x", false),
            ("# no", false),
        ] {
            assert_eq!(ignore.leave_out(path.as_bytes()), out, "{path}");
        }
        assert!(ignore.keep_some());
        let e = Patterns::read("a\n[\n").unwrap_err().to_string();
        assert!(e.starts_with("line 2: "), "{e}");
    }
}
