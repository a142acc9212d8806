//! Patterns in substitutions of variables, as `${NAME%PATTERN}`: `*` is any text,
//! `?` any character, and `\` takes the meaning of the next away.

use crate::store::error::{Result, invalid, show};
use regex::{NoExpand, Regex};

/// A character that is meant, or what stands for some.
#[derive(Clone, Copy)]
enum Token {
    Plain(char),
    One,
    Any,
}

fn tokens(pattern: &str) -> Vec<Token> {
    let mut chars = pattern.chars();
    let mut out = Vec::new();
    while let Some(c) = chars.next() {
        out.push(match c {
            '*' => Token::Any,
            '?' => Token::One,
            '\\' => Token::Plain(chars.next().unwrap_or('\\')),
            c => Token::Plain(c),
        });
    }
    out
}

/// As a regular expression, in which `any` is what stands for any text.
fn expression(begin: &str, tokens: &[Token], any: &str) -> Result<Regex> {
    let mut text = format!("(?s){begin}");
    for token in tokens {
        match token {
            Token::Plain(c) => text.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
            Token::One => text.push('.'),
            Token::Any => text.push_str(any),
        }
    }
    Regex::new(&text).or_else(|_| invalid("the pattern of a substitution is too long"))
}

/// How much at the beginning of a text the pattern fits: the least, or the most.
fn fits(tokens: &[Token], text: &str, most: bool) -> Result<usize> {
    let any = if most { ".*" } else { ".*?" };
    let found = expression(r"\A", tokens, any)?.find(text);
    Ok(found.map_or(0, |found| found.end()))
}

/// A text without what the pattern fits at its beginning.
///
/// # Errors
/// For a pattern that is too long.
pub fn without_prefix(text: &str, pattern: &str, most: bool) -> Result<String> {
    let length = fits(&tokens(pattern), text, most)?;
    Ok(text.get(length..).unwrap_or_default().to_owned())
}

/// A text without what the pattern fits at its end.
///
/// # Errors
/// For a pattern that is too long.
pub fn without_suffix(text: &str, pattern: &str, most: bool) -> Result<String> {
    let mut tokens = tokens(pattern);
    tokens.reverse();
    let reversed: String = text.chars().rev().collect();
    let length = fits(&tokens, &reversed, most)?;
    let kept = text.len().saturating_sub(length);
    Ok(text.get(..kept).unwrap_or_default().to_owned())
}

/// A text in which `with` stands where the pattern fits: there first, or
/// everywhere. It becomes no longer than `limit`.
///
/// # Errors
/// For a pattern or a result that is too long.
pub fn replaced(text: &str, pattern: &str, with: &str, all: bool, limit: usize) -> Result<String> {
    let expression = expression("", &tokens(pattern), ".*")?;
    let places = match all {
        true => expression.find_iter(text).count(),
        false => 1,
    };
    if places.saturating_mul(with.len()) > limit {
        return invalid(format!(
            "with \"{}\" put in everywhere it is too long",
            show(with.as_bytes())
        ));
    }
    let out = expression.replacen(text, usize::from(!all), NoExpand(with));
    Ok(out.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_cut_off_and_places_filled() {
        let text = "a.b/c.tar.gz";
        for (pattern, most, left) in [
            ("*.", false, "b/c.tar.gz"),
            ("*.", true, "gz"),
            ("a?b", false, "/c.tar.gz"),
            ("b", false, text),
            ("", true, text),
            (r"a\.", true, "b/c.tar.gz"),
            (r"\*", true, text),
            ("*", true, ""),
            ("*", false, text),
        ] {
            let got = without_prefix(text, pattern, most).unwrap();
            assert_eq!(got, left, "#{pattern} {most}");
        }
        for (pattern, most, left) in [
            (".*", false, "a.b/c.tar"),
            (".*", true, "a"),
            (".gz", false, "a.b/c.tar"),
            ("/*", true, "a.b"),
            (".??", false, "a.b/c.tar"),
            (".", false, text),
            ("[a-z]", false, text),
        ] {
            let got = without_suffix(text, pattern, most).unwrap();
            assert_eq!(got, left, "%{pattern} {most}");
        }
        assert_eq!(without_suffix("äöü", "?", true).unwrap(), "äö");
        for (pattern, all, got) in [
            (".", false, "a$0b/c.tar.gz"),
            (".", true, "a$0b/c$0tar$0gz"),
            ("b*t", false, "a.$0ar.gz"),
            ("x", true, text),
        ] {
            let made = replaced(text, pattern, "$0", all, 100).unwrap();
            assert_eq!(made, got, "/{pattern} {all}");
        }
        assert!(replaced("aaa", "a", "xx", true, 5).is_err());
        // Not as many ways as there are stars.
        let many = "*a".repeat(200);
        let text = "a".repeat(199);
        assert_eq!(without_prefix(&text, &many, true).unwrap(), text);
    }
}
