//! Option strings into elements, elements into values.
//!
//! A comma ends an element unless a backslash stands before it or it is inside
//! a value that is quoted as a whole or in its first part
//! (`context="a:b:c1,c2"`). A quote anywhere else is an ordinary character. In
//! a value a backslash makes the next character ordinary, as in kernel
//! overlayfs; at the end it stands for itself.

/// One `name` or `name=value` of an option string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    /// What stands before the first `=`.
    pub name: &'a [u8],
    /// What stands behind it, quotes and backslashes as typed.
    pub value: Option<&'a [u8]>,
}

/// The elements of an option string; empty ones are left out.
pub fn elements(text: &[u8]) -> impl Iterator<Item = Element<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let (element, behind) = rest.split_at(end(rest));
            rest = behind.get(1..).unwrap_or_default();
            if !element.is_empty() {
                let mut halves = element.splitn(2, |byte| *byte == b'=');
                let name = halves.next().unwrap_or_default();
                let value = halves.next();
                return Some(Element { name, value });
            }
        }
        None
    })
}

/// Where the first element of `text` ends.
fn end(text: &[u8]) -> usize {
    let mut at = 0;
    let mut value_starts = false;
    let mut in_value = false;
    while let Some(byte) = text.get(at) {
        let starts = std::mem::take(&mut value_starts);
        match byte {
            b',' => return at,
            b'\\' => at += 1,
            b'=' if !in_value => {
                in_value = true;
                value_starts = true;
            }
            b'"' if starts => {
                if let Some(length) = closing(text.get(at + 1..).unwrap_or_default()) {
                    at += 1 + length;
                }
            }
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// How far the next unescaped quote is.
fn closing(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// A value without its quotes, backslashes still in it.
pub fn unquoted(value: &[u8]) -> Vec<u8> {
    let quoted = value
        .strip_prefix(b"\"")
        .and_then(|inner| inner.split_at_checked(closing(inner)?));
    match quoted {
        Some((inner, behind)) => [inner, behind.get(1..).unwrap_or_default()].concat(),
        None => value.to_vec(),
    }
}

/// A value without its backslashes.
pub fn unescaped(value: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(value.len());
    let mut bytes = value.iter().copied();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => bytes.next().unwrap_or(b'\\'),
            other => other,
        });
    }
    plain
}

/// The parts of a value between unescaped separators, backslashes gone.
pub fn parts(value: &[u8], separator: u8) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while let Some(byte) = value.get(at) {
        match *byte {
            b'\\' => at += 1,
            byte if byte == separator => {
                parts.push(unescaped(value.get(start..at).unwrap_or_default()));
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    parts.push(unescaped(value.get(start..).unwrap_or_default()));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<String> {
        elements(text.as_bytes())
            .map(|e| {
                let name = String::from_utf8_lossy(e.name).into_owned();
                match e.value {
                    None => name,
                    Some(value) => {
                        let value = unescaped(&unquoted(value));
                        format!("{name} = {}", String::from_utf8_lossy(&value))
                    }
                }
            })
            .collect()
    }

    #[test]
    fn commas_quotes_and_backslashes() {
        let table: &[(&str, &[&str])] = &[
            ("", &[]),
            (",,", &[]),
            ("work,,volatile,", &["work", "volatile"]),
            ("a=1,b=,c", &["a = 1", "b = ", "c"]),
            ("a=x=y", &["a = x=y"]),
            (r"u=/p\,q,v", &["u = /p,q", "v"]),
            (r"u=/p\\,q", &[r"u = /p\", "q"]),
            (r"u=/p\", &[r"u = /p\"]),
            (r#"context="a:b:c1,c2",ro"#, &["context = a:b:c1,c2", "ro"]),
            (r#"u="/a,b"/c,ro"#, &["u = /a,b/c", "ro"]),
            // A quote that is not at the start of a value, or is never closed,
            // belongs to the name of a file.
            (r#"u=/a"b,v=c"d"#, &[r#"u = /a"b"#, r#"v = c"d"#]),
            (r#"u="/a,ro"#, &[r#"u = "/a"#, "ro"]),
            (r#"u=\"a,b""#, &[r#"u = "a"#, r#"b""#]),
            (r#"u="a\"b,c",d"#, &[r#"u = a"b,c"#, "d"]),
        ];
        for (text, want) in table {
            assert_eq!(split(text), *want, "{text}");
        }
    }

    #[test]
    fn parts_between_separators() {
        let table: &[(&str, &[&str])] = &[
            ("/a:/b", &["/a", "/b"]),
            (r"/a\:x:/b\\:/c", &["/a:x", r"/b\", "/c"]),
            ("", &[""]),
            (":/a:", &["", "/a", ""]),
            ("/a::/b", &["/a", "", "/b"]),
        ];
        for (text, want) in table {
            let got = parts(text.as_bytes(), b':');
            let want: Vec<Vec<u8>> = want.iter().map(|w| w.as_bytes().to_vec()).collect();
            assert_eq!(got, want, "{text}");
        }
    }
}
