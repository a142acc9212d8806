//! `--format` of all that lists: `json`, `table TEMPLATE` or a template, with
//! docker's names of fields.

use super::template::Template;
use super::{Outcome, Output, dockerconf, table};
use crate::store::error::Result;
use serde::Serialize;
use std::collections::BTreeMap;

/// How rows are printed.
pub struct Format(Kind);

enum Kind {
    /// One object a line.
    Json,
    /// As the template has it, a line each.
    Plain(Box<Template>),
    /// Columns below headings.
    Table {
        rows: Box<Template>,
        heading: Box<Template>,
    },
}

/// A field and what stands above its column.
pub type Heading = (&'static str, &'static str);

/// What is listed. Its fields are those of its serialized form.
pub trait Row: Serialize {
    /// The text of a field by itself: lists of thousands are printed without
    /// making fields that nobody asks for.
    fn text(&self, _field: &str) -> Option<String> {
        None
    }

    /// Those that templates may ask for by their keys, of what has any.
    fn labels(&self) -> Option<&BTreeMap<String, String>> {
        None
    }
}

impl Format {
    /// What `--format` says; `default` is the template of the table that is
    /// printed without it.
    ///
    /// # Errors
    /// For a template that is not well formed.
    pub fn parse(given: Option<&str>, default: &str) -> Result<Format> {
        let table = |text: &str| -> Result<Kind> {
            let text = unescape(text);
            Ok(Kind::Table {
                rows: Box::new(Template::parse(&text)?),
                heading: Box::new(Template::heading(&text)?),
            })
        };
        let kind = match given {
            None | Some("" | "table") => table(default)?,
            Some("json") => Kind::Json,
            Some(text) => match text.strip_prefix("table ") {
                Some(columns) => table(columns.trim())?,
                None => Kind::Plain(Box::new(Template::parse(&unescape(text))?)),
            },
        };
        Ok(Format(kind))
    }

    /// The same for lists that `--quiet` reduces to ids, unless another format is
    /// asked for.
    ///
    /// # Errors
    /// As [`Format::parse`].
    pub fn of_list(given: Option<&str>, default: &str, quiet: bool) -> Result<Format> {
        match given {
            None | Some("" | "table") if quiet => Format::parse(Some("{{.ID}}"), default),
            given => Format::parse(given, default),
        }
    }

    /// As [`Format::of_list`]; where nothing is asked for, docker's
    /// configuration file may say under `key` what its user wants to see.
    ///
    /// # Errors
    /// As [`Format::parse`].
    pub fn of_user(given: Option<&str>, key: &str, default: &str, quiet: bool) -> Result<Format> {
        match given {
            None if !quiet => Format::parse(dockerconf::text(key).as_deref(), default),
            given => Format::of_list(given, default, quiet),
        }
    }

    /// Is this field printed, perhaps: what is dear need not be found out
    /// otherwise.
    pub fn uses(&self, field: &str) -> bool {
        match &self.0 {
            Kind::Json => true,
            // `{{.}}` and `{{json .}}` print all of them.
            Kind::Plain(template) | Kind::Table { rows: template, .. } => {
                let text = template.text();
                let whole = |after: &str| !after.starts_with(char::is_alphabetic);
                text.contains(field) || text.split('.').skip(1).any(whole)
            }
        }
    }

    /// Print `rows`, each with the fields of `headings`.
    ///
    /// # Errors
    /// When the template asks for another field, and when writing fails.
    pub fn print<R: Row>(
        &self,
        headings: &[Heading],
        rows: &[R],
        output: &mut Output<'_>,
    ) -> Outcome {
        match &self.0 {
            Kind::Json => {
                for row in rows {
                    // Through a map, for docker's order of keys.
                    let row = serde_json::to_value(row).map_err(std::io::Error::from)?;
                    writeln!(output.out, "{row}")?;
                }
            }
            Kind::Plain(template) => {
                for row in rows {
                    writeln!(output.out, "{}", template.row(row)?)?;
                }
            }
            Kind::Table {
                rows: template,
                heading,
            } => {
                let names: BTreeMap<_, _> = headings.iter().copied().collect();
                let mut lines = vec![heading.above(&names)?];
                for row in rows {
                    lines.push(template.row(row)?);
                }
                let lines = lines.iter().flat_map(|text| text.split('\n'));
                let cells: Vec<Vec<&str>> = lines.map(|text| text.split('\t').collect()).collect();
                table::print(output.out, &cells)?;
            }
        }
        Ok(0)
    }
}

/// `\t` and `\n` outside of actions are what they mean; inside, Go's strings
/// have them themselves.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (i, part) in text.split("{{").enumerate() {
        let (action, plain) = match (i, part.split_once("}}")) {
            (0, _) => ("", part),
            (_, Some((action, plain))) => (action, plain),
            (_, None) => (part, ""),
        };
        if i > 0 {
            out.push_str("{{");
            out.push_str(action);
            if action.len() < part.len() {
                out.push_str("}}");
            }
        }
        out.push_str(&plain.replace("\\t", "\t").replace("\\n", "\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    impl Row for serde_json::Value {}

    fn print(format: &str) -> Result<String> {
        let format = Format::parse(Some(format), "{{.Name}}\\t{{.Size}}")?;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let rows = [
            json!({"Size": "1B", "Name": "a"}),
            json!({"Size": "22B", "Name": "a name"}),
        ];
        let headings = [("Name", "NAME"), ("Size", "SIZE")];
        let mut output = Output {
            out: &mut out,
            err: &mut err,
        };
        match format.print(&headings, &rows, &mut output) {
            Ok(_) => Ok(String::from_utf8(out).unwrap()),
            Err(crate::cli::Failure::Error(e)) => Err(e),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_three_forms() {
        let table = "NAME      SIZE\na         1B\na name    22B\n";
        assert_eq!(print("table").unwrap(), table);
        assert_eq!(print("").unwrap(), table);
        assert_eq!(print("table {{.Name}}\\t{{.Size}}").unwrap(), table);
        assert_eq!(
            print("table {{.Size}}\t{{upper .Name}}").unwrap(),
            "SIZE      NAME\n1B        A\n22B       A NAME\n"
        );
        assert_eq!(
            print("json").unwrap(),
            "{\"Name\":\"a\",\"Size\":\"1B\"}\n{\"Name\":\"a name\",\"Size\":\"22B\"}\n"
        );
        assert_eq!(
            print(r#"{{.Name}}\t{{.Size}}\n{{print "\t}"}}"#).unwrap(),
            "a\t1B\n\t}\na name\t22B\n\t}\n"
        );
        let e = print("table {{.Nme}}").unwrap_err().to_string();
        assert_eq!(
            e,
            "bad template \"{{.Nme}}\": there is no \"Nme\", only Name, Size"
        );
        assert!(print("{{.Name").is_err());
    }

    #[test]
    fn what_is_printed_is_known() {
        let uses = |format: &str| {
            Format::parse(Some(format), "{{.Name}}")
                .unwrap()
                .uses("Size")
        };
        assert!(uses("json") && uses("{{.Size}}") && uses("{{json .}}"));
        assert!(uses(r#"{{index . "Size"}}"#) && uses("{{with .}}{{.}}{{end}}"));
        assert!(!uses("table") && !uses("{{.Name}} {{.ID}}"));
    }
}
