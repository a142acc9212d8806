//! Words as a Dockerfile has them.

use super::pattern::{replaced, without_prefix, without_suffix};
use crate::store::error::{Result, invalid, show};
use std::iter::Peekable;
use std::str::Chars;

/// Substitutions may stand in each other no deeper.
const MAX_DEPTH: usize = 32;
/// What a text becomes is no longer: variables that hold variables double.
const MAX_LENGTH: usize = 16 << 20;

/// How words are read.
#[derive(Clone, Debug)]
pub struct Words {
    /// `KEY=VALUE`; the first of a name counts.
    pub variables: Vec<String>,
    /// What takes the meaning of the next character away.
    pub escape: char,
}

/// How one word is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// It ends at a blank.
    Word,
    /// Blanks are part of it.
    Line,
    /// So are quotes: the content of a file.
    Text,
    /// The word of a substitution, which ends at its brace.
    Braces,
    /// The pattern of one, which ends at this and keeps its escapes, as `\`.
    Pattern(char),
}

type Input<'a> = Peekable<Chars<'a>>;

impl Words {
    /// The words of `text`: quotes and escapes taken away, variables put in.
    ///
    /// # Errors
    /// For a quote or brace without end, a variable that must be set and is
    /// not, and a substitution that is not read here.
    pub fn split(&self, text: &str) -> Result<Vec<String>> {
        let mut chars = text.chars().peekable();
        let mut words = Vec::new();
        loop {
            while chars.next_if(|c| c.is_whitespace()).is_some() {}
            if chars.peek().is_none() {
                return Ok(words);
            }
            words.push(self.word(&mut chars, Mode::Word, 0)?);
        }
    }

    /// As [`Words::split`], with blanks that are part of the one word.
    ///
    /// # Errors
    /// As [`Words::split`].
    pub fn expand(&self, text: &str) -> Result<String> {
        self.word(&mut text.chars().peekable(), Mode::Line, 0)
    }

    /// As [`Words::expand`] for the content of a file: quotes stay, and an
    /// escape only counts before a `$`.
    ///
    /// # Errors
    /// As [`Words::split`].
    pub fn fill_in(&self, text: &str) -> Result<String> {
        self.word(&mut text.chars().peekable(), Mode::Text, 0)
    }

    fn word(&self, chars: &mut Input<'_>, mode: Mode, depth: usize) -> Result<String> {
        let mut out = String::new();
        let mut quote = None;
        let ends = |c: char| match mode {
            Mode::Word => c.is_whitespace(),
            Mode::Braces => c == '}',
            Mode::Pattern(end) => c == end,
            Mode::Line | Mode::Text => false,
        };
        while let Some(c) = chars.next_if(|c| quote.is_some() || !ends(*c)) {
            match (c, quote) {
                ('$', None | Some('"')) => out.push_str(&self.variable(chars, depth)?),
                (c, _) if mode == Mode::Text => match c == self.escape {
                    true => out.push(chars.next_if_eq(&'$').unwrap_or(c)),
                    false => out.push(c),
                },
                (c, _) if c == self.escape && matches!(mode, Mode::Pattern(_)) => {
                    out.push('\\');
                    out.extend(chars.next());
                }
                ('\'' | '"', None) => quote = Some(c),
                (c, Some(q)) if c == q => quote = None,
                (c, None) if c == self.escape => out.extend(chars.next()),
                (c, Some('"')) if c == self.escape => {
                    match chars.next_if(|n| matches!(n, '"' | '$') || *n == self.escape) {
                        Some(c) => out.push(c),
                        None => out.push(c),
                    }
                }
                (c, _) => out.push(c),
            }
            if out.len() > MAX_LENGTH {
                return invalid("with its variables put in it is too long");
            }
        }
        match quote {
            Some(quote) => invalid(format!("a {quote} has no end")),
            None => Ok(out),
        }
    }

    fn value(&self, name: &str) -> Option<&str> {
        let mut pairs = self.variables.iter().filter_map(|e| e.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// A part of a substitution, to the character that ends it.
    fn part(&self, chars: &mut Input<'_>, name: &str, mode: Mode, depth: usize) -> Result<String> {
        let end = match mode {
            Mode::Pattern(end) => end,
            _ => '}',
        };
        let part = self.word(chars, mode, depth + 1)?;
        match chars.next() == Some(end) {
            true => Ok(part),
            false => invalid(format!("\"${{{name}\" has no {end}")),
        }
    }

    /// What `#PATTERN`, `%PATTERN` or `/PATTERN/TEXT` make of a variable.
    fn edited(
        &self,
        chars: &mut Input<'_>,
        name: &str,
        operator: char,
        depth: usize,
    ) -> Result<String> {
        let value = self.value(name).unwrap_or_default();
        let twice = chars.next_if_eq(&operator).is_some();
        let end = if operator == '/' { '/' } else { '}' };
        let pattern = self.part(chars, name, Mode::Pattern(end), depth)?;
        match operator {
            '#' => without_prefix(value, &pattern, twice),
            '%' => without_suffix(value, &pattern, twice),
            _ => {
                let with = self.part(chars, name, Mode::Braces, depth)?;
                replaced(value, &pattern, &with, twice, MAX_LENGTH)
            }
        }
    }

    /// `NAME`, `{NAME}` or `{NAME:-WORD}` and its kin after a `$`.
    fn variable(&self, chars: &mut Input<'_>, depth: usize) -> Result<String> {
        if depth > MAX_DEPTH {
            return invalid("substitutions of variables stand in each other too deeply");
        }
        let braces = chars.next_if_eq(&'{').is_some();
        let mut name = String::new();
        while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
            name.push(c);
        }
        if !braces {
            return Ok(match name.is_empty() {
                true => "$".to_owned(),
                false => self.value(&name).unwrap_or_default().to_owned(),
            });
        }
        let value = self.value(&name);
        let colon = chars.next_if_eq(&':').is_some();
        let set = value.filter(|v| !colon || !v.is_empty());
        let operator = chars.next();
        let word = match operator {
            Some('-' | '+' | '?') => self.part(chars, &name, Mode::Braces, depth)?,
            Some(edits @ ('#' | '%' | '/')) if !colon => {
                return self.edited(chars, &name, edits, depth);
            }
            _ => String::new(),
        };
        match (operator, set) {
            (Some('}'), _) if !colon => Ok(value.unwrap_or_default().to_owned()),
            (Some('-'), None) | (Some('+'), Some(_)) => Ok(word),
            (Some('-' | '?'), Some(value)) => Ok(value.to_owned()),
            (Some('+'), None) => Ok(String::new()),
            (Some('?'), None) if word.is_empty() => invalid(format!("{name} is not set")),
            (Some('?'), None) => invalid(format!("{name}: {}", show(word.as_bytes()))),
            _ => invalid(format!(
                "of variables $NAME, ${{NAME}} and ${{NAME:-WORD}} with one of :- - :+ + :? ? # ## % %% / // are read here, see \"${{{}\"",
                show(name.as_bytes())
            )),
        }
    }
}
