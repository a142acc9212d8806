//! Instructions of a Dockerfile that change how an image is run, one a line, as
//! `import --change` takes them.
//!
//! Read as docker reads them: keywords in any case, the JSON form of a command
//! or the shell's, quotes, `\` and variables in the words of the others. What
//! would need a build is refused.

mod pattern;
mod words;

use super::error::{Result, invalid, show};
use serde_json::{Map, Value, json};

pub use words::Words;

/// The object under `config` in an image configuration.
pub type Config = Map<String, Value>;

/// Apply `changes` in their order.
///
/// # Errors
/// For an instruction that is not known, not allowed here, or malformed.
pub fn apply(config: &mut Config, changes: &[String]) -> Result<()> {
    let mut changer = Changer::default();
    for line in changes.iter().flat_map(|c| c.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (keyword, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let keyword = keyword.to_ascii_uppercase();
        if let Err(e) = changer.apply(config, &keyword, rest.trim()) {
            return invalid(format!("change \"{}\": {e}", show(line.as_bytes())));
        }
    }
    Ok(())
}

/// Applies one instruction after the other.
#[derive(Clone, Debug)]
pub struct Changer {
    /// Variables besides the image's own, which go before them.
    pub args: Vec<String>,
    /// What takes the meaning of the next character away.
    pub escape: char,
    cmd_set: bool,
}

impl Default for Changer {
    fn default() -> Self {
        Changer {
            args: Vec::new(),
            escape: '\\',
            cmd_set: false,
        }
    }
}

impl Changer {
    /// Reads words with this escape.
    pub fn new(escape: char) -> Changer {
        Changer {
            escape,
            ..Changer::default()
        }
    }

    /// How words are read that stand beside this configuration.
    pub fn words(&self, config: &Config) -> Words {
        let mut variables = list(config, "Env");
        variables.extend(self.args.iter().cloned());
        Words {
            variables,
            escape: self.escape,
        }
    }

    /// Apply the instruction `keyword`, in capitals, with what follows it.
    ///
    /// # Errors
    /// For one that is not known, not allowed here, or malformed.
    pub fn apply(&mut self, config: &mut Config, keyword: &str, rest: &str) -> Result<()> {
        if rest.is_empty() {
            return invalid(format!("{} needs an argument", show(keyword.as_bytes())));
        }
        let words = &self.words(config);
        match keyword {
            "CMD" => {
                self.cmd_set = true;
                command(config, rest).map(|c| set(config, "Cmd", c))
            }
            "ENTRYPOINT" => {
                // The command was the other entry point's arguments.
                if !self.cmd_set {
                    config.remove("Cmd");
                }
                command(config, rest).map(|c| set(config, "Entrypoint", c))
            }
            "ENV" => env(config, words, rest),
            "EXPOSE" => expose(config, words, rest),
            "HEALTHCHECK" => healthcheck(config, rest),
            "LABEL" => label(config, words, rest),
            "ONBUILD" => on_build(config, rest),
            "SHELL" => shell(config, rest),
            "STOPSIGNAL" => stop_signal(config, words, rest),
            "USER" => one(words, rest).map(|user| set(config, "User", user)),
            "VOLUME" => volume(config, words, rest),
            "WORKDIR" => workdir(config, words, rest),
            _ => invalid(
                "it is not one of CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME, WORKDIR",
            ),
        }
    }
}

fn set(config: &mut Config, key: &str, value: impl Into<Value>) {
    config.insert(key.to_owned(), value.into());
}

/// The strings of a list in the configuration.
pub fn list(config: &Config, key: &str) -> Vec<String> {
    let list = config.get(key).and_then(Value::as_array);
    let strings = list.into_iter().flatten().filter_map(Value::as_str);
    strings.map(str::to_owned).collect()
}

/// Add to the object `key` of the configuration, which is made if it is not
/// there.
fn add(config: &mut Config, key: &str, entries: impl Iterator<Item = (String, Value)>) {
    let mut object = match config.remove(key) {
        Some(Value::Object(object)) => object,
        _ => Map::new(),
    };
    object.extend(entries);
    set(config, key, object);
}

/// A JSON list of strings, if it is one.
pub fn json_form(text: &str) -> Option<Vec<String>> {
    if !text.starts_with('[') {
        return None;
    }
    serde_json::from_str(text).ok()
}

/// A command in either form; the shell's is run by the image's shell.
fn command(config: &Config, text: &str) -> Result<Vec<String>> {
    Ok(json_form(text).unwrap_or_else(|| in_shell(config, text)))
}

/// A text as the image's shell is called with it.
pub fn in_shell(config: &Config, text: &str) -> Vec<String> {
    let mut words = list(config, "Shell");
    if words.is_empty() {
        words = vec!["/bin/sh".to_owned(), "-c".to_owned()];
    }
    words.push(text.to_owned());
    words
}

fn shell(config: &mut Config, text: &str) -> Result<()> {
    match json_form(text) {
        Some(words) if !words.is_empty() => {
            set(config, "Shell", words);
            Ok(())
        }
        _ => invalid("it takes a JSON list, such as [\"/bin/bash\", \"-c\"]"),
    }
}

/// An argument that is one word.
fn one(words: &Words, text: &str) -> Result<String> {
    match words.split(text)?.as_slice() {
        [word] if !word.is_empty() => Ok(word.clone()),
        _ => invalid("it takes one argument"),
    }
}

/// `KEY=VALUE…`, or `KEY VALUE` of old.
fn pairs(words: &Words, text: &str) -> Result<Vec<(String, String)>> {
    let first = text.split(char::is_whitespace).next().unwrap_or_default();
    if !first.contains('=') {
        let (key, value) = match text.split_once(char::is_whitespace) {
            Some((key, value)) => (key, value.trim_start()),
            None => return invalid("it takes KEY=VALUE"),
        };
        return Ok(vec![(words.expand(key)?, words.expand(value)?)]);
    }
    let words = words.split(text)?.into_iter();
    words
        .map(|word| match word.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => invalid(format!("\"{}\" is not KEY=VALUE", show(word.as_bytes()))),
        })
        .collect()
}

fn env(config: &mut Config, words: &Words, text: &str) -> Result<()> {
    let mut env = list(config, "Env");
    for (key, value) in pairs(words, text)? {
        let new = format!("{key}={value}");
        let old = env.iter_mut().find(|e| e.split('=').next() == Some(&key));
        match old {
            Some(old) => *old = new,
            None => env.push(new),
        }
    }
    set(config, "Env", env);
    Ok(())
}

fn label(config: &mut Config, words: &Words, text: &str) -> Result<()> {
    let pairs = pairs(words, text)?;
    let labels = pairs.into_iter().map(|(key, value)| (key, value.into()));
    add(config, "Labels", labels);
    Ok(())
}

/// `PORT[-PORT][/PROTOCOL]…`
fn expose(config: &mut Config, words: &Words, text: &str) -> Result<()> {
    for word in words.split(text)? {
        let (range, protocol) = word.split_once('/').unwrap_or((&word, "tcp"));
        let protocol = protocol.to_ascii_lowercase();
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.parse::<u16>().ok().filter(|n| *n > 0);
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            return invalid(format!("\"{}\" is no port", show(word.as_bytes())));
        };
        if first > last || !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
            return invalid(format!("\"{}\" is no port", show(word.as_bytes())));
        }
        let ports = (first..=last).map(|port| (format!("{port}/{protocol}"), json!({})));
        add(config, "ExposedPorts", ports);
    }
    Ok(())
}

fn volume(config: &mut Config, words: &Words, text: &str) -> Result<()> {
    let paths = match json_form(text) {
        Some(paths) => paths
            .iter()
            .map(|path| words.expand(path))
            .collect::<Result<_>>()?,
        None => words.split(text)?,
    };
    if paths.iter().any(|path| path.trim().is_empty()) {
        return invalid("a volume must have a path");
    }
    let volumes = paths.into_iter().map(|path| (path, json!({})));
    add(config, "Volumes", volumes);
    Ok(())
}

/// A relative path goes on from the one before.
fn workdir(config: &mut Config, words: &Words, text: &str) -> Result<()> {
    let text = words.expand(text)?;
    let before = match config.get("WorkingDir").and_then(Value::as_str) {
        Some(before) if !text.starts_with('/') => before.to_owned(),
        _ => String::new(),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in before.split('/').chain(text.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let path = format!("/{}", parts.join("/"));
    set(config, "WorkingDir", path);
    Ok(())
}

fn stop_signal(config: &mut Config, words: &Words, text: &str) -> Result<()> {
    let signal = one(words, text)?;
    if crate::sys::signal::number(&signal).is_none() {
        return invalid("it takes the number of a signal, or its name as SIGTERM");
    }
    set(config, "StopSignal", signal);
    Ok(())
}

fn on_build(config: &mut Config, text: &str) -> Result<()> {
    let keyword = text.split(char::is_whitespace).next().unwrap_or_default();
    if matches!(
        keyword.to_ascii_uppercase().as_str(),
        "ONBUILD" | "FROM" | "MAINTAINER"
    ) {
        return invalid(format!("{} may not be triggered", show(keyword.as_bytes())));
    }
    let mut triggers = list(config, "OnBuild");
    triggers.push(text.to_owned());
    set(config, "OnBuild", triggers);
    Ok(())
}

/// `NONE`, or options and `CMD` with a command.
fn healthcheck(config: &mut Config, text: &str) -> Result<()> {
    if text.eq_ignore_ascii_case("none") {
        set(config, "Healthcheck", json!({"Test": ["NONE"]}));
        return Ok(());
    }
    let mut check = Config::new();
    let mut rest = text;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, after) = option
            .split_once(char::is_whitespace)
            .unwrap_or((option, ""));
        rest = after.trim_start();
        let Some((name, value)) = option.split_once('=') else {
            return invalid(format!("\"--{}\" needs =VALUE", show(option.as_bytes())));
        };
        let key = match name {
            "interval" => "Interval",
            "timeout" => "Timeout",
            "start-period" => "StartPeriod",
            "start-interval" => "StartInterval",
            "retries" => {
                let Ok(retries) = value.parse::<u32>() else {
                    return invalid("--retries takes a number");
                };
                set(&mut check, "Retries", retries);
                continue;
            }
            _ => return invalid(format!("\"--{}\" is not known", show(name.as_bytes()))),
        };
        let Some(nanos) = nanoseconds(value) else {
            return invalid(format!("--{name} takes a duration as 30s or 1m30s"));
        };
        set(&mut check, key, nanos);
    }
    let command = match rest.split_once(char::is_whitespace) {
        Some((cmd, command)) if cmd.eq_ignore_ascii_case("cmd") => command.trim(),
        _ => return invalid("it takes NONE, or CMD and a command"),
    };
    let test = match json_form(command) {
        Some(words) => [vec!["CMD".to_owned()], words].concat(),
        None => vec!["CMD-SHELL".to_owned(), command.to_owned()],
    };
    set(&mut check, "Test", test);
    set(config, "Healthcheck", check);
    Ok(())
}

/// A duration of numbers with units, as Go writes them.
fn nanoseconds(text: &str) -> Option<u64> {
    let mut total = 0u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at_checked(digits)?;
        let end = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end)?;
        let unit = match unit {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests;
