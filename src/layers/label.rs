//! Names and commands of strangers as they may be shown on a terminal.

/// The text of some bytes, such that different bytes look different and
/// nothing moves the cursor: what is no UTF-8 as `\xNN`, a backslash doubled,
/// control and direction characters escaped.
pub fn label(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                c if c.is_control() || is_invisible(c) => out.extend(c.escape_default()),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// A command on one line: blanks of any kind as one.
pub fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ");
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() || is_invisible(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

/// Characters without a shape that change how others are read: directions,
/// joiners, separators of lines.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_as_it_is() {
        for (bytes, text) in [
            (&b"plain name"[..], "plain name"),
            ("äöü日本".as_bytes(), "äöü日本"),
            (b"a\x1b[31mb\n\t", "a\\u{1b}[31mb\\n\\t"),
            (b"\xff\xc3(", "\\xff\\xc3("),
            (b"\\xff", "\\\\xff"),
            ("a\u{202e}txt.exe".as_bytes(), "a\\u{202e}txt.exe"),
            (b"\x7f\xc2\x9b", "\\u{7f}\\u{9b}"),
        ] {
            assert_eq!(label(bytes), text);
        }
        assert_eq!(one_line("a \n\t b\x07"), "a b\\u{7}");
    }
}
