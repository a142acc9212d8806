//! `--filter` of `ps`.

use super::filter::Filters;
use crate::container::network::range;
use crate::container::{Containers, Network, Record, Status};
use crate::store::Digest;
use crate::store::error::{Error, Result, invalid, show};
use crate::store::image::raw_config;
use regex::Regex;
use serde_json::Value;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// What can be asked for.
const KEYS: &[&str] = &[
    "ancestor", "before", "exited", "expose", "id", "label", "name", "network", "publish", "since",
    "status", "volume",
];

/// Filters of containers, ready to be asked. Values of one key are
/// alternatives, but for labels and times; keys are all to fit.
pub struct Filter {
    filters: Filters,
    /// Images of which one is a container's.
    images: Option<BTreeSet<Digest>>,
    states: Vec<State>,
    exited: Vec<u8>,
    names: Vec<Regex>,
    before: Option<i64>,
    since: Option<i64>,
    published: Vec<Ports>,
    exposed: Vec<Ports>,
}

impl Filter {
    /// Get what was given ready.
    ///
    /// # Errors
    /// For bad values, and images and containers that are not there.
    pub fn new(given: &[String], containers: &Containers<'_>) -> Result<Filter> {
        let filters = Filters::parse(given, KEYS)?;
        let ancestors: Vec<&str> = filters.of("ancestor").collect();
        let images = match ancestors.is_empty() {
            true => None,
            false => Some(descendants(&ancestors, containers)?),
        };
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
            images,
            states: states?,
            exited: exited?,
            before: before?.into_iter().min(),
            since: since?.into_iter().max(),
            published: Ports::all(&filters, "publish")?,
            exposed: Ports::all(&filters, "expose")?,
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
        let any_port = |wanted: &[Ports], exposed: &[String]| {
            let exposed = exposed.iter().filter_map(|text| Ports::parse(text));
            let published = settings.ports.iter().map(|p| Ports {
                numbers: p.container..=p.container,
                protocol: Some(p.protocol.to_string()),
            });
            let all: Vec<Ports> = published.chain(exposed).collect();
            wanted.is_empty() || all.iter().any(|p| wanted.iter().any(|w| w.meets(p)))
        };
        let network = record.network.name();
        (self.images.as_ref()).is_none_or(|images| images.contains(&record.image))
            && (self.states.is_empty() || self.states.contains(&State::Here(status)))
            && (self.exited.is_empty()
                || status == Status::Exited && code.is_some_and(|c| self.exited.contains(&c)))
            && self.before.is_none_or(|b| record.created < b)
            && self.since.is_none_or(|s| record.created > s)
            && self.filters.labels_fit(labels.as_ref())
            && any("id", &|id| record.id.starts_with(id))
            && (self.names.is_empty() || self.names.iter().any(|n| named(n, &record.name)))
            && any("network", &|name| {
                // The word that private ones are asked for by, too.
                name == network || name == "bridge" && record.network == Network::Private
            })
            && any("volume", &|path| {
                let mut mounts = settings.mounts.iter();
                mounts.any(|m| m.target == path || m.source == path)
            })
            && any_port(&self.published, &[])
            && any_port(&self.exposed, &settings.exposed)
    }
}

/// `PORT[-PORT][/PROTOCOL]`
struct Ports {
    numbers: RangeInclusive<u16>,
    /// None is any.
    protocol: Option<String>,
}

impl Ports {
    fn parse(text: &str) -> Option<Ports> {
        let (numbers, protocol) = match text.split_once('/') {
            Some((numbers, protocol)) => (numbers, Some(protocol.to_owned())),
            None => (text, None),
        };
        Some(Ports {
            numbers: range(numbers)?,
            protocol,
        })
    }

    /// Those that a filter asks for.
    fn all(filters: &Filters, key: &str) -> Result<Vec<Ports>> {
        let one = |text: &str| match Ports::parse(text) {
            Some(ports) => Ok(ports),
            None => invalid(format!(
                "invalid filter '{key}={}': give PORT[-PORT][/PROTOCOL]",
                show(text.as_bytes())
            )),
        };
        filters.of(key).map(one).collect()
    }

    /// Have both some port.
    fn meets(&self, other: &Ports) -> bool {
        let protocols = self.protocol.as_ref().zip(other.protocol.as_ref());
        self.numbers.start() <= other.numbers.end()
            && other.numbers.start() <= self.numbers.end()
            && protocols.is_none_or(|(a, b)| a == b)
    }
}

/// Those images of containers that are one of these, or made on one. As for
/// docker none is made on what is not there.
fn descendants(names: &[&str], containers: &Containers<'_>) -> Result<BTreeSet<Digest>> {
    let store = containers.store();
    let made_of = |id: &Digest| -> Result<(Vec<Digest>, Vec<Value>)> {
        let (config, data) = store.image_config(id)?;
        let steps = raw_config(&data)?
            .get("history")
            .and_then(Value::as_array)
            .cloned();
        Ok((config.diff_ids().to_vec(), steps.unwrap_or_default()))
    };
    let mut found = BTreeSet::new();
    let used: BTreeSet<Digest> = containers.list()?.into_iter().map(|r| r.image).collect();
    for name in names {
        let id = match store.find_image(name) {
            Err(Error::NotFound(_)) => continue,
            image => image?.0.id,
        };
        let (layers, steps) = made_of(&id).unwrap_or_default();
        for image in &used {
            // Of one that was removed by force or is damaged nobody knows that.
            let made_on = || {
                made_of(image).is_ok_and(|(all, done)| {
                    let more = all.len() > layers.len() || done.len() > steps.len();
                    more && all.starts_with(&layers)
                        && done.starts_with(&steps)
                        && !(layers.is_empty() && steps.is_empty())
                })
            };
            if *image == id || made_on() {
                found.insert(*image);
            }
        }
    }
    Ok(found)
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
