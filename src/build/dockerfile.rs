//! A Dockerfile, read: a crate parses, and what it does not keep is looked up
//! in the text by the places that it names.

use super::lines::{self, Document, Logical};
use crate::store::error::{Result, invalid, show};
use parse_dockerfile as parser;
use std::path::Path;

/// No Dockerfile is larger.
pub const MAX_FILE: u64 = 16 << 20;

/// What a build is told to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    /// What takes the meaning of the next character away.
    pub escape: char,
    /// Before the first stage: `ARG`s.
    pub globals: Vec<Instruction>,
    /// In their order.
    pub stages: Vec<Stage>,
}

/// From one `FROM` to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Where in the file.
    pub line: usize,
    /// An image, an earlier stage, or `scratch`; variables are not yet put in.
    pub base: String,
    /// `--platform`.
    pub platform: Option<String>,
    /// What it is called.
    pub name: Option<String>,
    /// What is done.
    pub instructions: Vec<Instruction>,
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Where in the file; 0 for what an image triggers.
    pub line: usize,
    /// Its words on one line.
    pub text: String,
    /// What is to be done.
    pub kind: Kind,
}

/// What an instruction is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Variables of the build.
    Arg(String),
    /// Something of the image's configuration: keyword and what follows it.
    Config(String, String),
    /// Who made the image.
    Maintainer(String),
    /// Files go into the image.
    Copy(Copy),
    /// A command changes the image.
    Run(Run),
}

/// An option as `--name=value`.
pub type Flag = (String, Option<String>);

/// `COPY` and `ADD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// It is `ADD`.
    pub add: bool,
    /// Its options.
    pub flags: Vec<Flag>,
    /// What is copied.
    pub sources: Vec<Source>,
    /// Where to.
    pub target: String,
}

/// One thing that is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// By its path.
    Path(String),
    /// Written in the file itself.
    Document(Document),
}

/// `RUN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its options.
    pub flags: Vec<Flag>,
    /// Program and arguments, or a line for the shell.
    pub command: Command,
    /// What the line refers to.
    pub documents: Vec<Document>,
}

/// Either form of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Program and arguments.
    Exec(Vec<String>),
    /// A line for the shell.
    Shell(String),
}

/// Read a Dockerfile that is called `name`.
///
/// # Errors
/// With `name:line: what`.
pub fn parse(name: &Path, text: &str) -> Result<Dockerfile> {
    read(text).map_err(|(line, what)| {
        let what = show(what.as_bytes());
        crate::store::Error::Invalid(match line {
            0 => format!("{}: {what}", name.display()),
            line => format!("{}:{line}: {what}", name.display()),
        })
    })
}

/// Read an instruction that an image triggers.
///
/// # Errors
/// For what is none.
pub fn parse_trigger(text: &str, escape: char) -> Result<Instruction> {
    let with_from = format!("# escape={escape}\nFROM scratch\n{text}\n");
    let found = read(&with_from).ok().and_then(|mut file| {
        let mut stage = file.stages.pop()?;
        let only = stage.instructions.len() == 1 && file.stages.is_empty();
        stage.instructions.pop().filter(|_| only)
    });
    match found {
        Some(mut instruction) => {
            instruction.line = 0;
            Ok(instruction)
        }
        None => invalid(format!(
            "the base image triggers \"{}\", which is no instruction",
            show(text.as_bytes())
        )),
    }
}

type Fault = (usize, String);

/// What is wrong with other words after it.
const FROM: &str = "FROM takes an image, or an image, AS and a name";

fn read(text: &str) -> std::result::Result<Dockerfile, Fault> {
    let fault = |e: parser::Error| (e.line(), format!("{e:#}"));
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err((
            0,
            "the file is empty: it needs at least one FROM".to_owned(),
        ));
    }
    // Which character escapes is said before the first instruction.
    let head: String = text
        .split_inclusive('\n')
        .take_while(|l| l.starts_with('#'))
        .collect();
    let head = head + "FROM x";
    let directives = parser::parse(&head).map_err(fault)?;
    let escape = directives.parser_directives.escape;
    let escape = escape.map_or('\\', |e| e.value.value);
    let blanked = lines::blank_documents(text, escape);
    let file = parser::parse(&blanked).map_err(|e| {
        let (line, what) = fault(e);
        let at = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
        match lines::keyword(at).as_str() {
            // What the parser says is not what a person would.
            "FROM" if what.starts_with("expected") => (line, FROM.to_owned()),
            _ => (line, what),
        }
    })?;
    let reader = Reader { text, escape };
    let mut out = Dockerfile {
        escape,
        globals: Vec::new(),
        stages: Vec::new(),
    };
    for instruction in &file.instructions {
        if let parser::Instruction::From(from) = instruction {
            let line = reader.line(from.from.span.start);
            let mut platform = None;
            for (name, value) in flags(&from.options) {
                match name.as_str() {
                    "platform" => platform = value,
                    _ => return Err((line, format!("FROM has no option --{name}"))),
                }
            }
            out.stages.push(Stage {
                line,
                base: from.image.value.clone().into_owned(),
                platform,
                name: from.as_.as_ref().map(|(_, name)| name.value.to_lowercase()),
                instructions: Vec::new(),
            });
            continue;
        }
        let instruction = reader.instruction(instruction)?;
        match out.stages.last_mut() {
            Some(stage) => stage.instructions.push(instruction),
            None => out.globals.push(instruction),
        }
    }
    Ok(out)
}

struct Reader<'a> {
    text: &'a str,
    escape: char,
}

impl Reader<'_> {
    fn line(&self, at: usize) -> usize {
        let before = self.text.get(..at).unwrap_or_default();
        before.bytes().filter(|b| *b == b'\n').count() + 1
    }

    fn instruction(
        &self,
        parsed: &parser::Instruction<'_>,
    ) -> std::result::Result<Instruction, Fault> {
        use parser::Instruction as I;
        let start = match parsed {
            I::Add(i) => &i.add,
            I::Arg(i) => &i.arg,
            I::Cmd(i) => &i.cmd,
            I::Copy(i) => &i.copy,
            I::Entrypoint(i) => &i.entrypoint,
            I::Env(i) => &i.env,
            I::Expose(i) => &i.expose,
            I::From(i) => &i.from,
            I::Healthcheck(i) => &i.healthcheck,
            I::Label(i) => &i.label,
            I::Maintainer(i) => &i.maintainer,
            I::Onbuild(i) => &i.onbuild,
            I::Run(i) => &i.run,
            I::Shell(i) => &i.shell,
            I::Stopsignal(i) => &i.stopsignal,
            I::User(i) => &i.user,
            I::Volume(i) => &i.volume,
            I::Workdir(i) => &i.workdir,
            _ => return Err((0, "an instruction of a newer kind".to_owned())),
        };
        let (at, line) = (start.span.start, self.line(start.span.start));
        let logical = lines::logical(self.text, at, self.escape);
        let text = logical.text.trim().to_owned();
        let (keyword, rest) = text.split_once(char::is_whitespace).unwrap_or((&text, ""));
        let (keyword, rest) = (keyword.to_ascii_uppercase(), rest.trim().to_owned());
        let kind = match parsed {
            I::Arg(_) => Kind::Arg(rest),
            I::Maintainer(_) => Kind::Maintainer(rest),
            I::Add(i) => Kind::Copy(self.copy(line, &logical, true, &i.options, &i.src, &i.dest)?),
            I::Copy(i) => {
                Kind::Copy(self.copy(line, &logical, false, &i.options, &i.src, &i.dest)?)
            }
            I::Run(run) => Kind::Run(self.run(line, &logical, run)?),
            I::Onbuild(_) => {
                // What it refers to comes along.
                let documents = lines::documents(self.text, &logical);
                let end = documents.map_or(logical.end, |(_, end)| end);
                let body = self.text.get(logical.end..end).unwrap_or_default();
                let rest = match body.is_empty() {
                    true => rest,
                    false => format!("{rest}\n{body}"),
                };
                Kind::Config(keyword.clone(), rest)
            }
            _ => Kind::Config(keyword.clone(), rest),
        };
        let text = match text.split_once(char::is_whitespace) {
            Some((_, rest)) => format!("{keyword} {}", rest.trim()),
            None => keyword,
        };
        Ok(Instruction { line, text, kind })
    }

    fn copy(
        &self,
        line: usize,
        logical: &Logical,
        add: bool,
        options: &[parser::Flag<'_>],
        sources: &[parser::Source<'_>],
        target: &parser::UnescapedString<'_>,
    ) -> std::result::Result<Copy, Fault> {
        let Some((documents, _)) = lines::documents(self.text, logical) else {
            return Err((line, "a document has no end".to_owned()));
        };
        let mut documents = documents.into_iter();
        let mut out = Vec::new();
        for source in sources {
            match source {
                parser::Source::Path(path) => {
                    out.push(Source::Path(path.value.clone().into_owned()));
                }
                _ => match documents.next() {
                    Some(document) => out.push(Source::Document(document)),
                    None => return Err((line, "a document is not found".to_owned())),
                },
            }
        }
        Ok(Copy {
            add,
            flags: flags(options),
            sources: out,
            target: target.value.clone().into_owned(),
        })
    }

    fn run(
        &self,
        line: usize,
        logical: &Logical,
        run: &parser::RunInstruction<'_>,
    ) -> std::result::Result<Run, Fault> {
        let Some((documents, _)) = lines::documents(self.text, logical) else {
            return Err((line, "a document has no end".to_owned()));
        };
        let command = match &run.arguments {
            parser::Command::Exec(words) => Command::Exec(
                words
                    .value
                    .iter()
                    .map(|w| w.value.clone().into_owned())
                    .collect(),
            ),
            parser::Command::Shell(line) => {
                let text = self.text.get(..line.span.end).unwrap_or_default();
                Command::Shell(lines::logical(text, line.span.start, self.escape).text)
            }
            _ => return Err((line, "a command of a newer kind".to_owned())),
        };
        if command == Command::Shell(String::new()) {
            return Err((line, "RUN needs a command".to_owned()));
        }
        if matches!(command, Command::Exec(_)) && !documents.is_empty() {
            return Err((
                line,
                "a command as a JSON list takes no document".to_owned(),
            ));
        }
        Ok(Run {
            flags: flags(&run.options),
            command,
            documents,
        })
    }
}

fn flags(options: &[parser::Flag<'_>]) -> Vec<Flag> {
    let owned = |s: &parser::UnescapedString<'_>| s.value.clone().into_owned();
    let all = options.iter();
    all.map(|f| (owned(&f.name), f.value.as_ref().map(owned)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(text: &str) -> Vec<Instruction> {
        let file = parse(Path::new("Dockerfile"), &format!("FROM x\n{text}")).unwrap();
        file.stages.into_iter().next().unwrap().instructions
    }

    fn refused(text: &str) -> String {
        parse(Path::new("f/Dockerfile"), text)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn stages_and_what_stands_before() {
        let text = "# syntax=docker/dockerfile:1\n# escape=`\n\nARG V=1\nFROM --platform=$P a:$V as One\nRUN a `\n b\n\nfrom one\n";
        let file = parse(Path::new("Dockerfile"), text).unwrap();
        assert_eq!(file.escape, '`');
        assert_eq!(file.globals[0].kind, Kind::Arg("V=1".into()));
        let [one, two] = file.stages.as_slice() else {
            panic!("{file:?}")
        };
        assert_eq!((one.line, one.base.as_str()), (5, "a:$V"));
        assert_eq!(
            (one.name.as_deref(), one.platform.as_deref()),
            (Some("one"), Some("$P"))
        );
        assert_eq!(one.instructions[0].text, "RUN a  b");
        assert_eq!((two.base.as_str(), two.line), ("one", 9));
    }

    #[test]
    fn instructions_keep_what_they_say() {
        let found = stage(
            "env A=1 \\\n  B=2\nCMD [\"a\", \\\n \"b\"]\nrun --mount=type=cache,target=/c --network=none a && \\\n # no\n b\nRUN [\"x\", \"y z\"]\nCOPY --from=0 --chown=a:b c d/ /e\nADD [\"a b\", \"/c\"]\nONBUILD RUN <<E\nq\nE\nMAINTAINER me",
        );
        let of = |n: usize| found[n].kind.clone();
        assert_eq!(of(0), Kind::Config("ENV".into(), "A=1   B=2".into()));
        assert_eq!(found[0].line, 2);
        assert_eq!(of(1), Kind::Config("CMD".into(), "[\"a\",  \"b\"]".into()));
        let Kind::Run(run) = of(2) else { panic!() };
        assert_eq!(run.command, Command::Shell("a &&  b".into()));
        assert_eq!(run.flags[0].1.as_deref(), Some("type=cache,target=/c"));
        let Kind::Run(run) = of(3) else { panic!() };
        assert_eq!(run.command, Command::Exec(vec!["x".into(), "y z".into()]));
        let Kind::Copy(copy) = of(4) else { panic!() };
        assert_eq!((copy.sources.len(), copy.target.as_str()), (2, "/e"));
        assert_eq!(copy.flags[1], ("chown".into(), Some("a:b".into())));
        let Kind::Copy(copy) = of(5) else { panic!() };
        assert_eq!(
            (copy.add, &copy.sources[0]),
            (true, &Source::Path("a b".into()))
        );
        assert_eq!(
            of(6),
            Kind::Config("ONBUILD".into(), "RUN <<E\nq\nE\n".into())
        );
        let trigger = parse_trigger("RUN <<E\nq\nE\n", '\\').unwrap();
        let Kind::Run(run) = trigger.kind else {
            panic!()
        };
        assert_eq!(run.documents[0].raw, "q\n");
        assert_eq!(of(7), Kind::Maintainer("me".into()));
    }

    #[test]
    fn documents_come_with_their_instruction() {
        let found = stage(
            "RUN <<EOF\n#!/bin/sh\nFROM it\nEOF\nRUN cat <<A <<-B > /x\na\nA\n\tb\n\tB\nCOPY <<x.txt y <<'z' /d/\nhello $n\nx.txt\nraw\nz\nUSER u\n",
        );
        let Kind::Run(run) = &found[0].kind else {
            panic!()
        };
        assert_eq!(run.command, Command::Shell("<<EOF".into()));
        assert_eq!(run.documents[0].raw, "#!/bin/sh\nFROM it\n");
        let Kind::Run(run) = &found[1].kind else {
            panic!()
        };
        assert_eq!(run.command, Command::Shell("cat <<A <<-B > /x".into()));
        assert_eq!(run.documents.len(), 2);
        let Kind::Copy(copy) = &found[2].kind else {
            panic!()
        };
        let [Source::Document(x), Source::Path(y), Source::Document(z)] = &copy.sources[..] else {
            panic!("{copy:?}")
        };
        assert_eq!(
            (x.name.as_str(), x.raw.as_str(), x.expands),
            ("x.txt", "hello $n\n", true)
        );
        assert_eq!(
            (y.as_str(), z.raw.as_str(), z.expands),
            ("y", "raw\n", false)
        );
        assert_eq!(found[3].text, "USER u");
        assert_eq!(found[3].line, 16);
    }

    #[test]
    fn errors_name_file_line_and_what() {
        for (text, want) in [
            (
                "",
                "f/Dockerfile: the file is empty: it needs at least one FROM",
            ),
            ("RUN x\n", "f/Dockerfile:1: expected FROM"),
            (
                "FROM x AS\n",
                "f/Dockerfile:1: FROM takes an image, or an image, AS and a name",
            ),
            (
                "FROM x AS a b\n",
                "f/Dockerfile:1: FROM takes an image, or an image, AS and a name",
            ),
            (
                "FROM x y\n",
                "f/Dockerfile:1: FROM takes an image, or an image, AS and a name",
            ),
            (
                "FROM x\n\nFRUM y\n",
                "f/Dockerfile:3: unknown instruction 'FRUM'",
            ),
            (
                "FROM x\nCOPY a\n",
                "f/Dockerfile:2: COPY instruction requires at least two arguments",
            ),
            (
                "FROM x\nRUN <<E\nx\n",
                "f/Dockerfile:4: expected end of here-document (E), but reached eof",
            ),
            (
                "FROM --what=1 x\n",
                "f/Dockerfile:1: FROM has no option --what",
            ),
            ("FROM x\nRUN\n", "f/Dockerfile:2: RUN needs a command"),
            ("# escape=x\nFROM x\n", "f/Dockerfile:1: invalid escape 'x'"),
            (
                "FROM x as a\nFROM y as a",
                "f/Dockerfile:2: duplicate stage name 'a'",
            ),
        ] {
            assert_eq!(refused(text), want, "{text:?}");
        }
    }
}
