//! `--filter` of what is pruned.

use super::units;
use crate::store::error::{Result, invalid, show};

/// What must be true of a thing to be pruned.
#[derive(Debug, Default)]
pub struct Filters {
    /// Made before that time, in seconds since 1970.
    until: Option<i64>,
    /// Key and perhaps value, and whether the label must be there.
    labels: Vec<(String, Option<String>, bool)>,
}

impl Filters {
    /// Read `until=…`, `label=…` and `label!=…`.
    ///
    /// # Errors
    /// For any other filter, and times that are none.
    pub fn parse(texts: &[String]) -> Result<Filters> {
        let mut out = Filters::default();
        for text in texts {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            match key {
                "until" => out.until = Some(until(value)?),
                "label" | "label!" if !value.is_empty() => {
                    let (name, value) = match value.split_once('=') {
                        Some((name, value)) => (name, Some(value.to_owned())),
                        None => (value, None),
                    };
                    out.labels.push((name.to_owned(), value, key == "label"));
                }
                _ => {
                    return invalid(format!(
                        "invalid filter '{}': there are until=TIME, label=KEY[=VALUE] and label!=KEY[=VALUE]",
                        show(text.as_bytes())
                    ));
                }
            }
        }
        Ok(out)
    }

    /// Is a thing meant that was made then; its `labels` are asked for only if
    /// they matter. What was made nobody knows when is old.
    pub fn fit(
        &self,
        created: Option<i64>,
        labels: impl FnOnce() -> Vec<(String, String)>,
    ) -> bool {
        let old = match (self.until, created) {
            (Some(until), Some(created)) => created < until,
            _ => true,
        };
        if !old || self.labels.is_empty() {
            return old;
        }
        let labels = labels();
        self.labels.iter().all(|(key, value, there)| {
            let mut same = labels.iter().filter(|(k, _)| k == key);
            same.any(|(_, v)| value.as_ref().is_none_or(|value| value == v)) == *there
        })
    }
}

/// A time, seconds since 1970, or how long ago: `24h`, `1h30m`.
fn until(text: &str) -> Result<i64> {
    if let Some(time) = units::parse_time(text) {
        return Ok(time);
    }
    if let Some(day) = units::parse_time(&format!("{text}T00:00:00Z")) {
        return Ok(day);
    }
    if let Ok(seconds) = text.parse::<i64>() {
        return Ok(seconds);
    }
    match ago(text) {
        Some(seconds) => Ok(units::now().saturating_sub(seconds)),
        None => invalid(format!(
            "\"{}\" is no time: give 2024-05-01T10:00:00Z, 2024-05-01, seconds since 1970, or how long ago as 24h or 1h30m",
            show(text.as_bytes())
        )),
    }
}

fn ago(text: &str) -> Option<i64> {
    let mut total = 0i64;
    let mut number = String::new();
    for c in text.chars() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let unit = match c {
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        total = total.checked_add(number.parse::<i64>().ok()?.checked_mul(unit)?)?;
        number.clear();
    }
    (number.is_empty() && !text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(filters: &[&str], created: Option<i64>, labels: &[(&str, &str)]) -> bool {
        let texts: Vec<String> = filters.iter().map(|f| (*f).to_owned()).collect();
        let labels = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Filters::parse(&texts)
            .unwrap()
            .fit(created, || labels.collect())
    }

    #[test]
    fn times_and_labels() {
        assert!(fits(&[], Some(5), &[]));
        assert!(fits(&["until=6"], Some(5), &[]));
        assert!(!fits(&["until=5"], Some(5), &[]));
        assert!(fits(&["until=1970-01-02"], Some(86_399), &[]));
        assert!(!fits(&["until=1970-01-01T00:00:01Z"], Some(1), &[]));
        assert!(!fits(&["until=1h30m"], Some(units::now() - 5399), &[]));
        assert!(fits(&["until=1h30m"], Some(units::now() - 5401), &[]));
        assert!(fits(&["label=a"], None, &[("a", "x")]));
        assert!(fits(&["label=a=x", "label!=b"], None, &[("a", "x")]));
        assert!(!fits(&["label=a=y"], None, &[("a", "x")]));
        assert!(!fits(&["label!=a"], None, &[("a", "x")]));
        for bad in ["until", "until=soon", "until=5x", "label=", "colour=red"] {
            assert!(Filters::parse(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
