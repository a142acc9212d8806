//! The lines of a Dockerfile that are one instruction, and the documents that
//! stand behind them (`<<EOF`).
//!
//! The parser reads the instructions; it knows documents behind `COPY` and
//! `ADD`, and one behind `RUN` where it stands first. So those of `RUN` are read
//! here, and blanked before it sees the file.

/// A document that stands behind an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The word that ends it.
    pub name: String,
    /// Its lines as they are.
    pub raw: String,
    /// Variables are put in.
    pub expands: bool,
    /// Tabs before its lines are no part of it.
    pub strips: bool,
}

impl Document {
    /// Its content.
    pub fn content(&self) -> String {
        match self.strips {
            false => self.raw.clone(),
            true => {
                let lines = self.raw.split_inclusive('\n');
                lines.map(|l| l.trim_start_matches('\t')).collect()
            }
        }
    }
}

/// An instruction as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logical {
    /// Its words, without escapes at the ends of lines and comments between.
    pub text: String,
    /// Where the line after it begins.
    pub end: usize,
}

/// The line that begins at `start`, with those that go on from it.
pub fn logical(file: &str, start: usize, escape: char) -> Logical {
    let mut text = String::new();
    let mut at = start;
    let mut first = true;
    let rest = file.get(start..).unwrap_or_default();
    for line in rest.split_inclusive('\n') {
        at += line.len();
        // Between the lines of an instruction comments and empty ones are nothing.
        if !first && (line.trim_start().starts_with('#') || line.trim().is_empty()) {
            continue;
        }
        first = false;
        let bare = line.trim_end_matches(['\n', '\r']);
        match bare.trim_end_matches([' ', '\t']).strip_suffix(escape) {
            Some(goes_on) => text.push_str(goes_on),
            None => {
                text.push_str(bare);
                break;
            }
        }
    }
    Logical { text, end: at }
}

/// The beginnings of documents in the words of an instruction: name, whether
/// variables are put in, whether tabs are stripped.
fn beginnings(text: &str) -> Vec<(String, bool, bool)> {
    let mut out = Vec::new();
    for word in words(text) {
        let word = word.trim_start_matches(|c: char| c.is_ascii_digit());
        let Some(name) = word.strip_prefix("<<") else {
            continue;
        };
        let (name, strips) = match name.strip_prefix('-') {
            Some(name) => (name, true),
            None => (name, false),
        };
        let plain: String = name.chars().filter(|c| !"\"'\\".contains(*c)).collect();
        if plain.is_empty() || name.contains('<') {
            continue;
        }
        let expands = plain.len() == name.len();
        out.push((plain, expands, strips));
    }
    out
}

/// Words between blanks, their quotes kept.
fn words(text: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            (c, None) if c.is_whitespace() => {
                out.push(String::new());
                continue;
            }
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(q)) if c == q => quote = None,
            _ => {}
        }
        if let Some(word) = out.last_mut() {
            word.push(c);
            if c == '\\' && quote != Some('\'') {
                word.extend(chars.next());
            }
        }
    }
    out
}

/// The documents behind an instruction whose lines end at `end`, and where what
/// comes after them begins; nothing where one has no end.
pub fn documents(file: &str, line: &Logical) -> Option<(Vec<Document>, usize)> {
    let mut at = line.end;
    let mut out = Vec::new();
    for (name, expands, strips) in beginnings(&line.text) {
        let rest = file.get(at..).unwrap_or_default();
        let mut length = 0;
        let mut ended = false;
        for line in rest.split_inclusive('\n') {
            let bare = line.trim_end_matches(['\n', '\r']);
            let bare = match strips {
                true => bare.trim_start_matches('\t'),
                false => bare,
            };
            if bare == name {
                at += length + line.len();
                ended = true;
                break;
            }
            length += line.len();
        }
        if !ended {
            return None;
        }
        out.push(Document {
            name,
            raw: rest.get(..length).unwrap_or_default().to_owned(),
            expands,
            strips,
        });
    }
    Some((out, at))
}

/// The keyword of an instruction, in capitals; after `ONBUILD` that of what it
/// triggers.
pub fn keyword(text: &str) -> String {
    let mut words = text.split_whitespace().map(str::to_ascii_uppercase);
    match words.next() {
        Some(first) if first == "ONBUILD" => words.next().unwrap_or_default(),
        first => first.unwrap_or_default(),
    }
}

/// The file with the documents behind `RUN` turned into comments of the same
/// length, so that what stands where stays so.
pub fn blank_documents(file: &str, escape: char) -> String {
    let mut out = String::with_capacity(file.len());
    let mut at = 0;
    while at < file.len() {
        let rest = file.get(at..).unwrap_or_default();
        let line_end = at + rest.split_inclusive('\n').next().unwrap_or(rest).len();
        if rest.trim_start_matches([' ', '\t']).starts_with('#') {
            out.push_str(file.get(at..line_end).unwrap_or_default());
            at = line_end;
            continue;
        }
        let line = logical(file, at, escape);
        let text = file.get(at..line.end).unwrap_or_default();
        let kind = keyword(&line.text);
        let found = match kind.as_str() {
            "RUN" | "COPY" | "ADD" => documents(file, &line),
            _ => None,
        };
        match found {
            Some((documents, end)) if kind == "RUN" && !documents.is_empty() => {
                // One that stands first would be looked for by the parser too.
                out.push_str(&text.replace("<<", "__"));
                let body = file.get(line.end..end).unwrap_or_default();
                for line in body.split_inclusive('\n') {
                    out.push_str(&blank(line));
                }
                at = end;
            }
            Some((_, end)) => {
                out.push_str(file.get(at..end).unwrap_or_default());
                at = end;
            }
            None => {
                out.push_str(text);
                at = line.end;
            }
        }
    }
    out
}

/// A comment as long as the line.
fn blank(line: &str) -> String {
    let ending = line.len() - line.trim_end_matches(['\n', '\r']).len();
    let length = line.len() - ending;
    let end = line.get(length..).unwrap_or_default();
    "#".repeat(length) + end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_on_after_an_escape() {
        let file = "RUN a \\\n  # no\n\n  b \\  \n c\nENV x\n";
        let line = logical(file, 0, '\\');
        assert_eq!(line.text, "RUN a   b  c");
        assert_eq!(&file[line.end..], "ENV x\n");
        let line = logical("RUN dir C:\\\r\nX", 0, '`');
        assert_eq!((line.text.as_str(), line.end), ("RUN dir C:\\", 13));
        assert_eq!(logical("", 0, '\\').end, 0);
        assert_eq!(logical("x\\", 0, '\\').text, "x");
    }

    #[test]
    fn documents_are_found_wherever_they_stand() {
        let file = "RUN cat <<A 3<<-'B C' \"<<no\" >/x\n1 $x\nA\n\t2\n\tB C\nUSER y\n";
        let line = logical(file, 0, '\\');
        let (found, end) = documents(file, &line).unwrap();
        assert_eq!(&file[end..], "USER y\n");
        let told: Vec<_> = found.iter().map(|d| (d.name.as_str(), d.expands)).collect();
        assert_eq!(told, [("A", true), ("B C", false)]);
        assert_eq!(
            (found[0].content(), found[1].content()),
            ("1 $x\n".into(), "2\n".into())
        );
        assert!(documents("RUN <<A\nb\n", &logical("RUN <<A\nb\n", 0, '\\')).is_none());
        assert!(beginnings("cat <<< x <<").is_empty());
    }

    #[test]
    fn the_parser_sees_comments_of_the_same_length() {
        let file = "FROM x\nRUN <<A cat\nüb\n\nFROM y\nA\nCOPY <<B /b\nRUN <<C\nB\n# RUN <<D\nonbuild run <<E\nx\nE\n";
        let blanked = blank_documents(file, '\\');
        assert_eq!(
            blanked,
            "FROM x\nRUN __A cat\n###\n\n######\n#\nCOPY <<B /b\nRUN <<C\nB\n# RUN <<D\nonbuild run __E\n#\n#\n"
        );
        assert_eq!(blanked.len(), file.len());
    }
}
