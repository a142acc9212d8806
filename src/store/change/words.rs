//! Words as a Dockerfile has them.

use crate::store::error::{Result, invalid, show};
use std::iter::Peekable;
use std::str::Chars;

/// The words of `text`: quotes and `\` taken away, variables of `env` put in.
///
/// # Errors
/// For a quote without end, and a variable in a form that is not read here.
pub(super) fn split(text: &str, env: &[String]) -> Result<Vec<String>> {
    let mut chars = text.chars().peekable();
    let mut words = Vec::new();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Ok(words);
        }
        words.push(word(&mut chars, env, true)?);
    }
}

/// As [`split`], with blanks that are part of the one word.
///
/// # Errors
/// As [`split`].
pub(super) fn expand(text: &str, env: &[String]) -> Result<String> {
    word(&mut text.chars().peekable(), env, false)
}

fn word(chars: &mut Peekable<Chars<'_>>, env: &[String], blanks_end: bool) -> Result<String> {
    let mut out = String::new();
    let mut quote = None;
    while let Some(c) = chars.next_if(|c| quote.is_some() || !(blanks_end && c.is_whitespace())) {
        match (c, quote) {
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(q)) if c == q => quote = None,
            ('\\', None) => out.extend(chars.next()),
            ('\\', Some('"')) => match chars.next_if(|c| matches!(c, '"' | '\\' | '$')) {
                Some(c) => out.push(c),
                None => out.push('\\'),
            },
            ('$', None | Some('"')) => out.push_str(&variable(chars, env)?),
            (c, _) => out.push(c),
        }
    }
    match quote {
        Some(quote) => invalid(format!("a {quote} has no end")),
        None => Ok(out),
    }
}

/// `NAME` or `{NAME}` after a `$`.
fn variable(chars: &mut Peekable<Chars<'_>>, env: &[String]) -> Result<String> {
    let braces = chars.next_if_eq(&'{').is_some();
    let mut name = String::new();
    while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
        name.push(c);
    }
    if braces && chars.next_if_eq(&'}').is_none() {
        return invalid(format!(
            "of variables only $NAME and ${{NAME}} are read here, see \"${{{}\"",
            show(name.as_bytes())
        ));
    }
    if name.is_empty() && !braces {
        return Ok("$".to_owned());
    }
    let value = env.iter().filter_map(|e| e.split_once('='));
    let mut value = value
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value);
    Ok(value.next().unwrap_or_default().to_owned())
}
