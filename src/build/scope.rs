//! Variables of a build: those that were given, those that every build has,
//! and those that `ARG` makes known to a stage.

use crate::store::change::Words;
use crate::store::document::Platform;
use crate::store::error::Result;
use std::collections::BTreeMap;

/// Usable without `ARG`, and no part of what a step is known by: how the network
/// is reached changes nothing.
const PROXIES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// Names the time that nothing in the image is later than.
pub const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// What was given with `--build-arg`, and what every build knows.
#[derive(Clone, Debug, Default)]
pub struct Given {
    values: BTreeMap<String, String>,
    platforms: BTreeMap<String, String>,
}

impl Given {
    /// `KEY=VALUE`, or a name alone for our own variable of that name.
    pub fn new(args: &[String], target: &Platform) -> Given {
        let mut values = BTreeMap::new();
        for arg in args {
            match arg.split_once('=') {
                Some((name, value)) => drop(values.insert(name.to_owned(), value.to_owned())),
                None => {
                    if let Ok(value) = std::env::var(arg) {
                        values.insert(arg.clone(), value);
                    }
                }
            }
        }
        let mut platforms = BTreeMap::new();
        for (prefix, platform) in [("TARGET", target), ("BUILD", &Platform::host())] {
            let variant = platform.variant.clone().unwrap_or_default();
            let told = [
                ("PLATFORM", platform.to_string()),
                ("OS", platform.os.clone()),
                ("ARCH", platform.architecture.clone()),
                ("VARIANT", variant),
            ];
            for (name, value) in told {
                platforms.insert(format!("{prefix}{name}"), value);
            }
        }
        Given { values, platforms }
    }

    /// What no time in the image may be later than, if it was given here.
    pub fn epoch(&self) -> Option<&str> {
        let given = self.values.get(EPOCH).map(String::as_str);
        given.filter(|text| !text.is_empty())
    }

    fn value(&self, name: &str) -> Option<&String> {
        self.values.get(name).or_else(|| self.platforms.get(name))
    }

    /// Those that were given and are in none of `known`.
    pub fn unused(&self, known: &dyn Fn(&str) -> bool) -> Vec<&str> {
        let names = self.values.keys().map(String::as_str);
        names
            .filter(|n| !known(n) && !PROXIES.contains(n) && !self.platforms.contains_key(*n))
            .collect()
    }
}

/// The variables that `ARG` has made known, in their order.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    known: Vec<(String, Option<String>)>,
}

impl Scope {
    /// `NAME[=VALUE] …` as words that were read; `globals` are those before the
    /// first stage, whose values a name alone takes.
    pub fn declare(&mut self, words: Vec<String>, given: &Given, globals: Option<&Scope>) {
        for word in words {
            let (name, default) = match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (word, None),
            };
            let global = || globals.and_then(|g| g.value(&name).map(str::to_owned));
            let given = given.value(&name).cloned();
            let value = given.or(default).or_else(global).or_else(|| {
                // Said again without a value it keeps what it has.
                self.value(&name).map(str::to_owned)
            });
            self.known.retain(|(n, _)| *n != name);
            self.known.push((name, value));
        }
    }

    fn value(&self, name: &str) -> Option<&str> {
        let found = self.known.iter().find(|(n, _)| n == name);
        found.and_then(|(_, value)| value.as_deref())
    }

    /// Is a name known.
    pub fn knows(&self, name: &str) -> bool {
        self.known.iter().any(|(n, _)| n == name)
    }

    /// `KEY=VALUE` of those that have one.
    pub fn set(&self) -> Vec<String> {
        let all = self.known.iter();
        all.filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)))
            .collect()
    }

    /// What a command finds in its environment besides: those, and how the
    /// network is reached.
    pub fn environment(&self, given: &Given) -> Vec<String> {
        let mut out = self.set();
        for name in PROXIES {
            if let (Some(value), false) = (given.values.get(name), self.knows(name)) {
                out.push(format!("{name}={value}"));
            }
        }
        out
    }

    /// How words are read before the first stage and in `FROM`.
    pub fn words(&self, given: &Given, escape: char) -> Words {
        let mut variables = self.set();
        variables.extend(given.platforms.iter().map(|(k, v)| format!("{k}={v}")));
        Words { variables, escape }
    }
}

/// The words of an `ARG`.
///
/// # Errors
/// For a quote without end, and a name that is none.
pub fn arg_words(words: &Words, rest: &str) -> Result<Vec<String>> {
    let out = words.split(rest)?;
    let bad = |word: &&String| {
        let name = word.split('=').next().unwrap_or_default();
        name.is_empty() || name.contains(|c: char| !c.is_ascii_alphanumeric() && !"_-.".contains(c))
    };
    match out.iter().find(bad) {
        Some(word) => crate::store::error::invalid(format!(
            "\"{}\" is no variable",
            crate::store::error::show(word.as_bytes())
        )),
        None => Ok(out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_goes_before_what_is_said() {
        let platform = Platform::parse("linux/arm64/v8").unwrap();
        let given = Given::new(
            &[
                "A=given".to_owned(),
                "http_proxy=p".to_owned(),
                "CAPAS_NO_SUCH".to_owned(),
            ],
            &platform,
        );
        let list = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let mut globals = Scope::default();
        globals.declare(list(&["A=1", "B=2", "C"]), &given, None);
        let words = globals.words(&given, '\\');
        assert_eq!(
            words.expand("$A$B$C-$TARGETARCH$TARGETVARIANT").unwrap(),
            "given2-arm64v8"
        );
        let mut stage = Scope::default();
        assert_eq!(stage.set(), Vec::<String>::new());
        stage.declare(
            list(&["A=x", "B", "D=4", "TARGETOS", "E"]),
            &given,
            Some(&globals),
        );
        assert_eq!(stage.set(), ["A=given", "B=2", "D=4", "TARGETOS=linux"]);
        stage.declare(list(&["D"]), &given, Some(&globals));
        assert_eq!(stage.set().last().unwrap(), "D=4");
        assert_eq!(stage.environment(&given).last().unwrap(), "http_proxy=p");
        assert!(stage.knows("E") && !stage.knows("C"));
        assert_eq!(given.unused(&|n| stage.knows(n)), Vec::<&str>::new());
        assert_eq!(given.unused(&|_| false), ["A"]);
        assert!(arg_words(&words, "a b=c").is_ok() && arg_words(&words, "=c").is_err());
    }
}
