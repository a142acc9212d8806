//! Go's templates with the functions that docker adds to them.

use super::format::Row;
use crate::store::error::{Error, Result, invalid, show};
use gotmpl::{MissingKey, TemplateError, Value};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

/// A parsed template.
pub struct Template {
    text: String,
    /// The same, if it is nothing but fields and text between them.
    fields: Option<Vec<Part>>,
    /// It asks for labels by their keys.
    has_method: bool,
    /// Insists on what it asks for.
    strict: gotmpl::Template,
    /// Takes what is not there for nothing.
    lenient: gotmpl::Template,
}

/// A piece of a template.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(String),
}

/// The pieces of a template that has no other actions than `{{.Field}}`.
fn fields(text: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (action, after) = after.split_once("}}")?;
        let field = action.strip_prefix('.')?;
        if field.is_empty() || !field.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return None;
        }
        parts.push(Part::Text(before.to_owned()));
        parts.push(Part::Field(field.to_owned()));
        rest = after;
    }
    parts.push(Part::Text(rest.to_owned()));
    Some(parts)
}

/// What the rows of some lists have besides fields: `{{.Label "key"}}`.
const METHOD: &str = "Label";

/// The same template with that called as the engine wants it: `{{call .Label "key"}}`.
fn with_calls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut inside, mut quote, mut begins) = (false, None, false);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let mut length = c.len_utf8();
        match quote {
            _ if !inside => {
                inside = rest.starts_with("{{");
                begins = inside;
                length += usize::from(inside);
            }
            Some(q) if c == '\\' && q != '`' => {
                length += rest.chars().nth(1).map_or(0, char::len_utf8);
            }
            Some(q) => quote = quote.filter(|_| c != q),
            None if rest.starts_with("}}") => {
                inside = false;
                length += 1;
            }
            None => {
                let object = rest.strip_prefix('$').unwrap_or(rest);
                let called = object
                    .strip_prefix('.')
                    .and_then(|r| r.strip_prefix(METHOD));
                let goes_on = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.');
                if begins && called.is_some_and(|after| !after.starts_with(goes_on)) {
                    out.push_str("call ");
                }
                quote = Some(c).filter(|c| matches!(c, '"' | '`' | '\''));
                begins = c.is_whitespace() || matches!(c, '(' | '=' | '|');
            }
        }
        let (taken, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        out.push_str(taken);
        rest = after;
    }
    out
}

/// Give a row, or a table's heading, its method.
fn add_method(value: &mut Value, method: impl Fn(&str) -> String + Send + Sync + 'static) {
    let function = move |args: &[Value]| match args {
        [Value::String(key)] => Ok(string(&method(key))),
        _ => Err(wrong(&format!("{METHOD} takes one text"))),
    };
    if let Value::Map(fields) = value {
        Arc::make_mut(fields).insert(Arc::from(METHOD), Value::Function(Arc::new(function)));
    }
}

impl Template {
    /// Read a template.
    ///
    /// # Errors
    /// For one that is not well formed.
    pub fn parse(text: &str) -> Result<Template> {
        Template::with(text, values)
    }

    /// The same for the heading of a table: what changes a value leaves a
    /// heading as it is.
    ///
    /// # Errors
    /// For one that is not well formed.
    pub fn heading(text: &str) -> Result<Template> {
        Template::with(text, |mut template| {
            for name in [
                "json", "split", "join", "title", "lower", "upper", "pad", "truncate",
            ] {
                template =
                    template.func(name, |args| Ok(args.first().cloned().unwrap_or(Value::Nil)));
            }
            template
        })
    }

    fn with(text: &str, functions: fn(gotmpl::Template) -> gotmpl::Template) -> Result<Template> {
        let engines = with_calls(text);
        let parse = |missing| {
            let template = functions(gotmpl::Template::new(""));
            match template.missing_key(missing).parse(&engines) {
                Ok(parsed) => Ok(parsed),
                Err(e) => bad(text, &e),
            }
        };
        Ok(Template {
            text: text.to_owned(),
            fields: fields(text),
            has_method: engines != text,
            strict: parse(MissingKey::Error)?,
            lenient: parse(MissingKey::Invalid)?,
        })
    }

    /// As it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text that a row of a list gives.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn row(&self, row: &impl Row) -> Result<String> {
        let quick = || {
            let mut out = String::new();
            for part in self.fields.as_ref()? {
                match part {
                    Part::Text(text) => out.push_str(text),
                    Part::Field(field) => out.push_str(&row.text(field)?),
                }
            }
            Some(out)
        };
        match quick() {
            Some(text) => Ok(text),
            None => {
                let mut value = to_value(row)?;
                if let (true, Some(labels)) = (self.has_method, row.labels()) {
                    let labels = labels.clone();
                    add_method(&mut value, move |key| {
                        labels.get(key).cloned().unwrap_or_default()
                    });
                }
                self.execute(&value).map(|(text, _)| text)
            }
        }
    }

    /// What stands above the columns, of which these are the fields.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn above(&self, names: &BTreeMap<&str, &str>) -> Result<String> {
        let mut value = to_value(names)?;
        if self.has_method {
            // As docker calls it.
            add_method(&mut value, |key| {
                let last = key.rsplit('.').next().unwrap_or_default();
                last.replace(['-', '_'], " ")
            });
        }
        self.execute(&value).map(|(text, _)| text)
    }

    /// The text that a value gives.
    ///
    /// # Errors
    /// When the template asks for a field that the value does not have. Names of
    /// fields begin with a capital; other names are those of labels and the
    /// like, which may be missing.
    pub fn render(&self, value: &impl Serialize) -> Result<String> {
        self.execute(&to_value(value)?).map(|(text, _)| text)
    }

    /// The same for a value of Go; and whether something was asked for that a
    /// map does not hold.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn execute(&self, value: &Value) -> Result<(String, bool)> {
        let text = match self.strict.execute_to_string(value) {
            Err(TemplateError::MissingKey { key }) if !key.starts_with(char::is_uppercase) => self
                .lenient
                .execute_to_string(value)
                .map(|text| (text, true)),
            text => text.map(|text| (text, false)),
        };
        match text {
            Ok(done) => Ok(done),
            Err(TemplateError::MissingKey { key }) => {
                let mut why = format!("there is no \"{}\"", show(key.as_bytes()));
                let first = ["{{.", " .", "(."].map(|before| format!("{before}{key}"));
                if let Value::Map(fields) = value
                    && first.iter().any(|f| self.text.contains(f))
                {
                    let known: Vec<&str> = fields.keys().map(|k| &**k).collect();
                    why.push_str(&format!(", only {}", known.join(", ")));
                }
                bad(&self.text, &why)
            }
            Err(e) => bad(&self.text, &e),
        }
    }
}

/// A value as templates have it.
///
/// # Errors
/// For one that JSON does not have either.
pub fn to_value(value: &impl Serialize) -> Result<Value> {
    gotmpl::to_value(value)
        .map_err(|e| Error::Invalid(format!("cannot be used in a template: {e}")))
}

/// Go's nil of a type of lists: it is empty, but null in JSON.
pub static NO_LIST: LazyLock<Arc<[Value]>> = LazyLock::new(|| Arc::from([]));
/// The same for maps.
pub static NO_MAP: LazyLock<Arc<BTreeMap<Arc<str>, Value>>> = LazyLock::new(Arc::default);

fn bad<T>(text: &str, why: &dyn std::fmt::Display) -> Result<T> {
    let why = show(why.to_string().as_bytes());
    let why = why.strip_prefix("template: ").unwrap_or(&why);
    invalid(format!("bad template \"{}\": {why}", show(text.as_bytes())))
}

/// Docker's functions.
fn values(template: gotmpl::Template) -> gotmpl::Template {
    template
        .func("json", |args| {
            let json = serde_json::to_string(&as_json(arg(args, 0)?));
            Ok(string(&json.map_err(|e| wrong(&e.to_string()))?))
        })
        // What is not there is an empty text, as in Go's maps of texts.
        .func("index", |args| {
            let mut value = arg(args, 0)?.clone();
            for at in args.iter().skip(1) {
                value = match &value {
                    Value::Nil => Value::Nil,
                    value => value.index(at)?,
                };
            }
            Ok(match value {
                Value::Nil => string(""),
                value => value,
            })
        })
        .func("split", |args| {
            let (text, by) = (arg_text(args, 0)?, arg_text(args, 1)?);
            let parts: Vec<Value> = match by.is_empty() {
                true => text
                    .chars()
                    .map(|c| string(c.encode_utf8(&mut [0; 4])))
                    .collect(),
                false => text.split(&by).map(string).collect(),
            };
            Ok(Value::List(Arc::from(parts)))
        })
        .func("join", |args| {
            let by = arg_text(args, 1)?;
            match arg(args, 0)? {
                Value::Nil => Ok(string("")),
                Value::List(list) => {
                    let parts: Vec<String> = list.iter().map(Value::to_string).collect();
                    Ok(string(&parts.join(&by)))
                }
                _ => Err(wrong("join needs a list")),
            }
        })
        .func("title", |args| {
            let mut out = String::new();
            for c in arg_text(args, 0)?.chars() {
                match out.chars().last() {
                    Some(before) if before.is_alphanumeric() || "_'".contains(before) => {
                        out.push(c)
                    }
                    _ => out.extend(c.to_uppercase()),
                }
            }
            Ok(string(&out))
        })
        .func("lower", |args| {
            Ok(string(&arg_text(args, 0)?.to_lowercase()))
        })
        .func("upper", |args| {
            Ok(string(&arg_text(args, 0)?.to_uppercase()))
        })
        .func("pad", |args| {
            let text = arg_text(args, 0)?;
            if text.is_empty() {
                return Ok(string(""));
            }
            let (before, after) = (arg_count(args, 1)?, arg_count(args, 2)?);
            Ok(string(&format!("{:before$}{text}{:after$}", "", "")))
        })
        .func("truncate", |args| {
            let text: String = arg_text(args, 0)?
                .chars()
                .take(arg_count(args, 1)?)
                .collect();
            Ok(string(&text))
        })
}

fn string(text: &str) -> Value {
    Value::String(text.into())
}

fn wrong(why: &str) -> TemplateError {
    TemplateError::Exec(why.to_owned())
}

fn arg(args: &[Value], at: usize) -> gotmpl::Result<&Value> {
    args.get(at)
        .ok_or_else(|| wrong("a function misses an argument"))
}

fn arg_text(args: &[Value], at: usize) -> gotmpl::Result<String> {
    match arg(args, at)? {
        Value::String(text) => Ok(text.to_string()),
        other => Err(wrong(&format!(
            "a text is needed where {} is given",
            other.type_name()
        ))),
    }
}

/// No field is padded or cut wider.
const WIDEST: i64 = 1 << 16;

fn arg_count(args: &[Value], at: usize) -> gotmpl::Result<usize> {
    let number = arg(args, at)?.as_int().filter(|n| (0..=WIDEST).contains(n));
    number
        .and_then(|n| usize::try_from(n).ok())
        .ok_or_else(|| wrong("a number from 0 to 65536 is needed"))
}

/// A value of a template as JSON.
fn as_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Nil | Value::Function(_) => serde_json::Value::Null,
        Value::Bool(b) => (*b).into(),
        Value::Int(n) => (*n).into(),
        Value::Uint(n) => (*n).into(),
        Value::Float(n) => (*n).into(),
        Value::String(text) => (**text).into(),
        Value::List(list) if Arc::ptr_eq(list, &NO_LIST) => serde_json::Value::Null,
        Value::List(list) => list.iter().map(as_json).collect(),
        Value::Map(map) if Arc::ptr_eq(map, &NO_MAP) => serde_json::Value::Null,
        Value::Map(map) => {
            let fields = map.iter().filter(|(_, v)| !v.is_function());
            let fields = fields.map(|(k, v)| (k.to_string(), as_json(v)));
            serde_json::Value::Object(fields.collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(text: &str) -> Result<String> {
        Template::parse(text)?.render(&json!({
            "Name": "one two", "List": ["a", "b"], "Map": {"k": "v", "n": 1}, "None": null, "Size": 7,
        }))
    }

    #[test]
    fn dockers_functions() {
        for (text, want) in [
            ("{{.Name}} {{.Size}}", "one two 7"),
            ("{{json .Map}}{{json .None}}", r#"{"k":"v","n":1}null"#),
            (
                "{{json .}}",
                r#"{"List":["a","b"],"Map":{"k":"v","n":1},"Name":"one two","None":null,"Size":7}"#,
            ),
            ("{{join .List \", \"}}{{join .None \"x\"}}", "a, b"),
            ("{{index (split .Name \" \") 1}}", "two"),
            (
                "{{title .Name}} {{upper .Name}} {{lower \"ABC\"}}",
                "One Two ONE TWO abc",
            ),
            ("<{{pad .Name 1 2}}>{{pad \"\" 1 1}}", "< one two  >"),
            ("{{truncate .Name 3}} {{truncate .Name 99}}", "one one two"),
            ("{{range .List}}{{println .}}{{end}}", "a\nb\n"),
            ("{{len .List}} {{index .Map \"k\"}} {{.Map.k}}", "2 v v"),
            ("{{if .None}}yes{{else}}no{{end}}", "no"),
            (
                "{{.None}}|{{.Map}}|{{.List}}",
                "<no value>|map[k:v n:1]|[a b]",
            ),
        ] {
            assert_eq!(render(text).unwrap(), want, "{text}");
        }
    }

    #[test]
    fn plain_fields_need_no_engine() {
        let text = |t: &str| Part::Text(t.to_owned());
        let field = |t: &str| Part::Field(t.to_owned());
        assert_eq!(
            fields("{{.ID}}\tx{{.B2}}").unwrap(),
            [text(""), field("ID"), text("\tx"), field("B2"), text("")]
        );
        for other in [
            "{{.}}",
            "{{ .A}}",
            "{{.A.B}}",
            "{{- .A}}",
            "{{upper .A}}",
            "{{.A",
        ] {
            assert_eq!(fields(other), None, "{other}");
        }
    }

    #[test]
    fn labels_are_called_by_their_keys() {
        for (text, engines) in [
            ("{{.Label \"a\"}} .Label", "{{call .Label \"a\"}} .Label"),
            ("{{ $.Label `.Label` }}", "{{ call $.Label `.Label` }}"),
            (
                "{{if eq (.Label \"\\\" .Label\") $x}}",
                "{{if eq (call .Label \"\\\" .Label\") $x}}",
            ),
            (
                "{{.Labels}}{{.Label.x}}{{.A.Label}}{{",
                "{{.Labels}}{{.Label.x}}{{.A.Label}}{{",
            ),
        ] {
            assert_eq!(with_calls(text), engines);
        }
    }

    #[test]
    fn errors_name_the_template_in_one_line() {
        for (text, why) in [
            ("{{.Name", "bad template \"{{.Name\": 1:8: unclosed action"),
            (
                "{{.Nam}}",
                "bad template \"{{.Nam}}\": there is no \"Nam\", only List, Map, Name, None, Size",
            ),
            (
                "{{.Map.X}}",
                "bad template \"{{.Map.X}}\": there is no \"X\"",
            ),
            (
                "{{nothing}}",
                "bad template \"{{nothing}}\": undefined function: nothing",
            ),
            (
                "{{join .Name \"\"}}",
                "bad template \"{{join .Name \"\"}}\": execution error: join needs a list",
            ),
            (
                "{{pad .Name 1 99999999}}",
                "bad template \"{{pad .Name 1 99999999}}\": execution error: a number from 0 to 65536 is needed",
            ),
            (
                "{{truncate .Name}}",
                "bad template \"{{truncate .Name}}\": execution error: a function misses an argument",
            ),
        ] {
            let e = render(text).unwrap_err().to_string();
            assert_eq!(e, why);
            assert!(!e.contains('\n'));
        }
    }
}
