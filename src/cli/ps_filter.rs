//! `--filter` of `ps`.

use super::filter::Filters;
use crate::container::{Containers, Record, Status};
use crate::store::Digest;
use crate::store::error::{Result, invalid, show};
use regex::Regex;

/// What can be asked for.
const KEYS: &[&str] = &[
    "ancestor", "before", "exited", "expose", "id", "label", "name", "network", "publish", "since",
    "status", "volume",
];

/// Filters of containers, ready to be asked. Values of one key are
/// alternatives, but for labels and times; keys are all to fit.
pub struct Filter {
    filters: Filters,
    ancestors: Vec<Digest>,
    states: Vec<State>,
    exited: Vec<u8>,
    names: Vec<Regex>,
    before: Option<i64>,
    since: Option<i64>,
}

impl Filter {
    /// Get what was given ready.
    ///
    /// # Errors
    /// For bad values, and images and containers that are not there.
    pub fn new(given: &[String], containers: &Containers<'_>) -> Result<Filter> {
        let filters = Filters::parse(given, KEYS)?;
        let image = |name: &str| Ok(containers.store().find_image(name)?.0.id);
        let ancestors: Result<Vec<Digest>> = filters.of("ancestor").map(image).collect();
        let created = |name: &str| Ok(containers.find(name)?.created);
        let before: Result<Vec<i64>> = filters.of("before").map(created).collect();
        let since: Result<Vec<i64>> = filters.of("since").map(created).collect();
        let code = |text: &str| match text.parse() {
            Ok(code) => Ok(code),
            Err(_) => invalid(format!("invalid exit code '{}'", show(text.as_bytes()))),
        };
        let exited: Result<Vec<u8>> = filters.of("exited").map(code).collect();
        let states: Result<Vec<State>> = filters.of("status").map(state).collect();
        let names: Result<Vec<Regex>> = filters.of("name").map(expression).collect();
        Ok(Filter {
            names: names?,
            ancestors: ancestors?,
            states: states?,
            exited: exited?,
            before: before?.into_iter().min(),
            since: since?.into_iter().max(),
            filters,
        })
    }

    /// Does it ask for containers in some state.
    pub fn names_state(&self) -> bool {
        !self.states.is_empty() || !self.exited.is_empty()
    }

    /// Is a container asked for.
    pub fn fits(&self, record: &Record, status: Status, code: Option<u8>) -> bool {
        let any = |key: &str, fits: &dyn Fn(&str) -> bool| {
            let mut values = self.filters.of(key).peekable();
            values.peek().is_none() || values.any(fits)
        };
        let settings = &record.settings;
        let labels = serde_json::to_value(&settings.labels).ok();
        let port = |number: u16, protocol: &dyn std::fmt::Display, text: &str| {
            text == number.to_string() || text == format!("{number}/{protocol}")
        };
        let network = record.network.name();
        (self.ancestors.is_empty() || self.ancestors.contains(&record.image))
            && (self.states.is_empty() || self.states.contains(&State::Here(status)))
            && (self.exited.is_empty()
                || status == Status::Exited && code.is_some_and(|c| self.exited.contains(&c)))
            && self.before.is_none_or(|b| record.created < b)
            && self.since.is_none_or(|s| record.created > s)
            && self.filters.labels_fit(labels.as_ref())
            && any("id", &|id| record.id.starts_with(id))
            && (self.names.is_empty() || self.names.iter().any(|n| named(n, &record.name)))
            && any("network", &|name| name == network)
            && any("volume", &|path| {
                let mut mounts = settings.mounts.iter();
                mounts.any(|m| m.target == path || m.source == path)
            })
            && any("publish", &|text| {
                let mut ports = settings.ports.iter();
                ports.any(|p| port(p.container, &p.protocol, text))
            })
            && any("expose", &|text| {
                let mut ports = settings.ports.iter();
                let named = |e: &String| e == text || e.split('/').next() == Some(text);
                ports.any(|p| port(p.container, &p.protocol, text))
                    || settings.exposed.iter().any(named)
            })
    }
}

/// A state that was asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Here(Status),
    /// One of docker's in which no container is here.
    Elsewhere,
}

fn state(text: &str) -> Result<State> {
    match text {
        "created" => Ok(State::Here(Status::Created)),
        "running" => Ok(State::Here(Status::Running)),
        "exited" => Ok(State::Here(Status::Exited)),
        "paused" | "restarting" | "removing" | "dead" => Ok(State::Elsewhere),
        other => invalid(format!(
            "invalid filter 'status={}': it is created, running or exited",
            show(other.as_bytes())
        )),
    }
}

fn expression(text: &str) -> Result<Regex> {
    Regex::new(text).or_else(|_| {
        invalid(format!(
            "invalid filter 'name={}': it is no regular expression",
            show(text.as_bytes())
        ))
    })
}

/// Does an expression fit somewhere in a name, which for docker may begin with a
/// slash.
fn named(expression: &Regex, name: &str) -> bool {
    expression.is_match(name) || expression.is_match(&format!("/{name}"))
}
