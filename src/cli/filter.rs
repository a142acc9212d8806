//! `--filter` of the commands that list and prune.

use super::units;
use crate::store::error::{Result, invalid, show};
use crate::store::image::Image;
use crate::store::repo_digest::RepoDigest;
use crate::store::{Digest, Reference, Store};
use glob::{MatchOptions, Pattern};
use serde_json::Value;

/// What `--filter` was given: keys and values.
pub struct Filters(Vec<(String, String)>);

impl Filters {
    /// Read `key=value`, with keys that the command knows.
    ///
    /// # Errors
    /// For another key, or none.
    pub fn parse(given: &[String], known: &[&str]) -> Result<Filters> {
        let mut out = Vec::new();
        for text in given {
            match text.split_once('=') {
                Some((key, value)) if known.contains(&key.trim()) => {
                    out.push((key.trim().to_owned(), value.trim().to_owned()));
                }
                _ => {
                    return invalid(format!(
                        "invalid filter '{}': give KEY=VALUE with one of {}",
                        show(text.as_bytes()),
                        known.join(", ")
                    ));
                }
            }
        }
        Ok(Filters(out))
    }

    /// The values of a key.
    pub fn of<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        let of_key = self.0.iter().filter(move |(k, _)| k == key);
        of_key.map(|(_, value)| value.as_str())
    }

    /// The value of a key that is true or false.
    ///
    /// # Errors
    /// For anything else.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.of(key).last() {
            None => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(other) => invalid(format!(
                "invalid filter '{key}={}': it is true or false",
                show(other.as_bytes())
            )),
        }
    }

    /// The earliest time of `until`.
    ///
    /// # Errors
    /// For what is neither a time nor a duration.
    pub fn until(&self) -> Result<Option<i64>> {
        let times = self.of("until").map(|t| {
            moment(
                &format!("filter 'until={}'", show(t.as_bytes())),
                t,
                units::now(),
            )
        });
        let times: Result<Vec<i64>> = times.collect();
        Ok(times?.into_iter().min())
    }

    /// Do these labels have all that `label` asks for, and nothing that
    /// `label!` forbids.
    pub fn labels_fit(&self, labels: Option<&Value>) -> bool {
        let has = |want: &str| {
            let (key, value) = match want.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (want, None),
            };
            let label = labels.and_then(|l| l.get(key)).and_then(Value::as_str);
            label.is_some_and(|l| value.is_none_or(|v| v == l))
        };
        self.of("label").all(has) && !self.of("label!").any(has)
    }

    /// Was one of these keys given.
    pub fn any(&self, keys: &[&str]) -> bool {
        self.0.iter().any(|(k, _)| keys.contains(&k.as_str()))
    }
}

/// A moment: `24h` ago, `2024-05-01`, seconds since 1970. A time without a zone
/// is UTC. `what` says where it was given.
///
/// # Errors
/// For anything else.
pub fn moment(what: &str, text: &str, now: i64) -> Result<i64> {
    let day = text.get(..10).unwrap_or_default();
    let full = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        11 if text.ends_with('Z') => format!("{day}T00:00:00Z"),
        16 => format!("{text}:00Z"),
        19 => format!("{text}Z"),
        _ => text.to_owned(),
    };
    let seconds = || text.split('.').next().and_then(|t| t.parse().ok());
    #[allow(clippy::cast_possible_truncation, reason = "whole seconds")]
    let found = duration(text)
        .map(|d| now.saturating_sub(d as i64))
        .or_else(|| crate::store::time::parse(&full))
        .or_else(seconds);
    match found {
        Some(time) => Ok(time),
        None => invalid(format!(
            "invalid {what}: give a duration as 24h, a time as 2024-05-01T10:00:00, or seconds since 1970"
        )),
    }
}

/// The same in nanoseconds, as `now` is.
///
/// # Errors
/// As [`moment`].
pub fn precise_moment(what: &str, text: &str, now: i64) -> Result<i64> {
    #[allow(clippy::cast_possible_truncation, reason = "whole nanoseconds")]
    if let Some(seconds) = duration(text) {
        return Ok(now.saturating_sub((seconds * 1e9) as i64));
    }
    let seconds = moment(what, text, 0)?;
    let nanos = i64::from(crate::store::time::fraction(text));
    Ok(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// A duration as Go reads it, `1h30m`, in seconds.
fn duration(text: &str) -> Option<f64> {
    let mut rest = text;
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, after) = after.split_at(unit.unwrap_or(after.len()));
        let factor = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * factor;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

/// Names that fit a pattern, in which `*` and `?` do not stand for a slash.
#[derive(Debug)]
pub struct NamePattern {
    pattern: Pattern,
    digest: Option<Digest>,
}

impl NamePattern {
    /// Read `REPOSITORY[:TAG][@DIGEST]` with wildcards.
    ///
    /// # Errors
    /// For a bad pattern or digest.
    pub fn parse(text: &str) -> Result<NamePattern> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(Digest::parse(digest)?)),
            None => (text, None),
        };
        // Names are compared as people write them.
        let name = match name.strip_prefix("docker.io/") {
            Some(path) => match path.strip_prefix("library/") {
                Some(short) if !short.contains('/') => short,
                _ => path,
            },
            None => name,
        };
        // Go negates a class by `^`.
        match Pattern::new(&name.replace("[^", "[!")) {
            Ok(pattern) => Ok(NamePattern { pattern, digest }),
            Err(e) => invalid(format!(
                "bad pattern \"{}\": {}",
                show(text.as_bytes()),
                e.msg
            )),
        }
    }

    /// Does this fit, which `image` is called; a name with or without its tag.
    pub fn fits(&self, image: &Image, called: Called<'_>) -> bool {
        let options = MatchOptions {
            require_literal_separator: true,
            ..MatchOptions::new()
        };
        let fits = |text: &str| self.pattern.matches_with(text, options);
        match called {
            Called::Name(name) => {
                let of_registry = |d: Digest| {
                    let mut digests = image.digests.iter();
                    digests.any(|r| r.digest == d && r.is_in(name))
                };
                self.digest
                    .is_none_or(|d| d == image.manifest.digest || of_registry(d))
                    && (fits(&name.familiar()) || fits(&name.familiar_tagged()))
            }
            Called::Digest(called) => {
                self.digest.is_none_or(|d| d == called.digest)
                    && fits(&called.repository().familiar())
            }
            Called::Nothing => false,
        }
    }
}

/// What an image is called on one line of a list.
#[derive(Clone, Copy, Debug)]
pub enum Called<'a> {
    /// One of its names.
    Name(&'a Reference),
    /// What a registry calls it where it has no name in that repository.
    Digest(&'a RepoDigest),
    /// It is not called anything.
    Nothing,
}

/// Filters of images, ready to be asked.
pub struct ImageFilter {
    filters: Filters,
    /// One of these is to fit, if there are any.
    names: Vec<NamePattern>,
    dangling: Option<bool>,
    /// Made before this, and at or after that.
    before: Option<Option<i64>>,
    since: Option<Option<i64>>,
}

/// Seconds since 1970 at which an image was made. One that does not know it is
/// older than all others.
pub fn created(image: &Image) -> Option<i64> {
    image.created.as_deref().and_then(crate::store::time::parse)
}

impl ImageFilter {
    /// What `images` knows.
    pub const KEYS: &[&str] = &["before", "dangling", "label", "reference", "since", "until"];

    /// Get `filters` ready; `name` is one more pattern that a name may fit, as
    /// for docker.
    ///
    /// # Errors
    /// For bad values, and images that are not there.
    pub fn new(filters: Filters, name: Option<&str>, store: &Store) -> Result<ImageFilter> {
        let dangling = filters.flag("dangling")?;
        let time = |text: &str| Ok(created(&store.find_image(text)?.0));
        let before: Result<Vec<Option<i64>>> = filters.of("before").map(time).collect();
        let since: Result<Vec<Option<i64>>> = filters.of("since").map(time).collect();
        let before = before?.into_iter().chain(filters.until()?.map(Some));
        let names: Result<Vec<_>> = filters
            .of("reference")
            .chain(name)
            .map(NamePattern::parse)
            .collect();
        let names = names?;
        Ok(ImageFilter {
            before: before.min(),
            since: since?.into_iter().max(),
            filters,
            names,
            dangling,
        })
    }

    /// The lines on which an image is shown; none at all where it is not. Its
    /// configuration is read only where labels are asked for.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn lines<'a>(&self, image: &'a Image, store: &Store) -> Result<Vec<Called<'a>>> {
        let in_time = self.before.is_none_or(|b| created(image) < b)
            && self.since.is_none_or(|s| created(image) > s);
        let wanted = match self.dangling {
            None => true,
            Some(true) => image.names.is_empty(),
            Some(false) => !image.names.is_empty() || !image.digests.is_empty(),
        };
        if !in_time || !wanted {
            return Ok(Vec::new());
        }
        let mut lines: Vec<_> = image.names.iter().map(Called::Name).collect();
        let nameless = |d: &&RepoDigest| !image.names.iter().any(|n| d.is_in(n));
        lines.extend(image.digests.iter().filter(nameless).map(Called::Digest));
        if lines.is_empty() {
            lines.push(Called::Nothing);
        }
        if !self.names.is_empty() {
            lines.retain(|called| self.names.iter().any(|p| p.fits(image, *called)));
        }
        if !lines.is_empty() && self.filters.any(&["label", "label!"]) {
            let labels = store.labels_if_whole(image)?;
            if !labels.is_some_and(|labels| self.filters.labels_fit(Some(&labels))) {
                lines.clear();
            }
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_and_durations() {
        for (text, time) in [
            ("10m", 99_400),
            ("1h30m", 94_600),
            ("1.5h", 94_600),
            ("100ms", 100_000),
            ("1970-01-02", 86_400),
            ("1970-01-02Z", 86_400),
            ("1970-01-01T00:01", 60),
            ("1970-01-01T00:00:07", 7),
            ("1970-01-01T01:00:07+01:00", 7),
            ("1234", 1234),
            ("1234.5", 1234),
        ] {
            assert_eq!(moment("until", text, 100_000).unwrap(), time, "{text}");
        }
        for (text, time) in [
            ("1.5s", 98_500_000_000),
            ("250ms", 99_750_000_000),
            ("7.25", 7_250_000_000),
            ("1970-01-01T00:00:07.000000001Z", 7_000_000_001),
            ("1970-01-01T01:00:07.5+01:00", 7_500_000_000),
            ("1970-01-01T00:01", 60_000_000_000),
        ] {
            let found = precise_moment("--since", text, 100_000_000_000);
            assert_eq!(found.unwrap(), time, "{text}");
        }
        for bad in ["", "h", "1x", "yesterday", "1h30"] {
            assert!(precise_moment("--since", bad, 0).is_err(), "{bad}");
            assert!(moment("until", bad, 0).is_err(), "{bad}");
        }
    }

    #[test]
    fn labels() {
        let labels = json!({"a": "1", "b": ""});
        for (given, fits) in [
            (vec!["label=a"], true),
            (vec!["label=a=1"], true),
            (vec!["label=b="], true),
            (vec!["label=a=2"], false),
            (vec!["label=a", "label=c"], false),
            (vec!["label!=a"], false),
            (vec!["label!=c", "label!=a=2"], true),
        ] {
            let given: Vec<String> = given.into_iter().map(str::to_owned).collect();
            let filters = Filters::parse(&given, &["label", "label!"]).unwrap();
            assert_eq!(filters.labels_fit(Some(&labels)), fits, "{given:?}");
        }
        let unknown = Filters::parse(&["colour=red".to_owned()], &["label"]);
        assert!(unknown.is_err());
    }
}
