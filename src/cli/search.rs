//! `search`.

use super::format::{self, Format, Heading};
use super::{Outcome, Output, table};
use crate::config::Config;
use crate::registry::credentials::Keyring;
use crate::registry::search::{Hit, search as find};
use crate::store::error::{Result, invalid, show};
use crate::store::reference;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// Characters of a description that are shown.
const DESCRIPTION: usize = 45;

/// Arguments of `search`.
#[derive(Debug, Args)]
pub struct Search {
    /// Only is-official=BOOL, or stars=N and more
    #[arg(short, long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// At most so many images, 1 to 100
    #[arg(long, value_name = "N", default_value_t = 25)]
    pub limit: usize,
    /// Print `json`, `table TEMPLATE`, or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Print whole descriptions
    #[arg(long)]
    pub no_trunc: bool,
    /// Credentials from this file alone [env: REGISTRY_AUTH_FILE]
    #[arg(long, value_name = "FILE")]
    pub authfile: Option<PathBuf>,
    /// Allow a registry without TLS
    #[arg(long)]
    pub insecure: bool,
    /// What to look for, on Docker Hub unless a host is given
    #[arg(value_name = "[HOST/]TERM")]
    pub term: String,
}

const TABLE: &str = r"{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}";

const HEADINGS: &[Heading] = &[
    ("Description", "DESCRIPTION"),
    ("IsAutomated", "AUTOMATED"),
    ("IsOfficial", "OFFICIAL"),
    ("Name", "NAME"),
    ("StarCount", "STARS"),
];

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    name: String,
    description: String,
    star_count: String,
    is_official: &'static str,
    /// Indexes say it of nothing any more.
    is_automated: &'static str,
}

impl format::Row for Row {}

/// What images must be like.
#[derive(Debug, Default, PartialEq, Eq)]
struct Filter {
    official: Option<bool>,
    /// Indexes say it of nothing any more, so nothing is found.
    automated: Option<bool>,
    stars: i64,
}

/// Look for images in a registry.
///
/// # Errors
/// When the registry cannot be asked or lets nobody look.
pub fn search(config: &Config, args: &Search, output: &mut Output<'_>) -> Outcome {
    let filter = Filter::parse(&args.filter)?;
    let format = Format::parse(args.format.as_deref(), TABLE)?;
    if !(1..=100).contains(&args.limit) {
        let limit = args.limit;
        return Ok(invalid(format!(
            "limit {limit} is outside the range of [1, 100]"
        ))?);
    }
    let (host, term) = match args.term.split_once('/') {
        Some((host, term)) if reference::is_domain(host) => (host, term),
        _ => ("docker.io", args.term.as_str()),
    };
    // Docker's own are found under their short names.
    let term = match host {
        "docker.io" => term.strip_prefix("library/").unwrap_or(term),
        _ => term,
    };
    if term.is_empty() {
        return Ok(invalid("give something to look for: [HOST/]TERM")?);
    }
    if filter.automated.is_some() {
        writeln!(
            output.err,
            "WARNING: the \"is-automated\" filter is deprecated, and searching for \"is-automated=true\" will not yield any results in future."
        )?;
    }
    let hits = match filter.automated {
        Some(true) => Vec::new(),
        _ => {
            let keeper = Keyring::new(args.authfile.as_deref()).keeper();
            find(host, term, args.limit, config, args.insecure, keeper)?
        }
    };
    // As docker has it: yes and no are other words in JSON.
    let truth = |is: bool| match (is, args.format.as_deref() == Some("json")) {
        (true, false) => "[OK]",
        (false, false) => "",
        (true, true) => "true",
        (false, true) => "false",
    };
    let row = |hit: &Hit| {
        let name = plain(&hit.name);
        let description = plain(hit.description.as_deref().unwrap_or_default());
        Row {
            name: match host {
                "docker.io" => name,
                host => format!("{host}/{name}"),
            },
            description: match args.no_trunc {
                true => description,
                false => table::cut(&description, DESCRIPTION),
            },
            star_count: hit.star_count.to_string(),
            is_official: truth(hit.is_official),
            is_automated: truth(false),
        }
    };
    let rows: Vec<Row> = hits
        .iter()
        .filter(|hit| filter.fits(hit))
        .map(row)
        .collect();
    format.print(HEADINGS, &rows, output)
}

/// A stranger's text on one line, without a word to the terminal.
fn plain(text: &str) -> String {
    let blank = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(blank).collect()
}

impl Filter {
    fn parse(given: &[String]) -> Result<Filter> {
        let mut filter = Filter::default();
        for text in given {
            let shown = show(text.as_bytes());
            let Some((name, value)) = text.split_once('=') else {
                return invalid(format!(
                    "bad format of filter \"{shown}\" (expected name=value)"
                ));
            };
            match (name.trim().to_lowercase().as_str(), value.trim()) {
                ("is-official", "true" | "1") => filter.official = Some(true),
                ("is-official", "false" | "0") => filter.official = Some(false),
                ("is-automated", "true" | "1") => filter.automated = Some(true),
                ("is-automated", "false" | "0") => filter.automated = Some(false),
                ("stars", number) => match number.parse() {
                    Ok(stars) => filter.stars = filter.stars.max(stars),
                    Err(_) => return invalid(format!("invalid filter '{shown}'")),
                },
                _ => return invalid(format!("invalid filter '{shown}'")),
            }
        }
        Ok(filter)
    }

    fn fits(&self, hit: &Hit) -> bool {
        self.official.is_none_or(|wanted| wanted == hit.is_official) && hit.star_count >= self.stars
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_as_docker_has_them() {
        let parse = |given: &[&str]| {
            let given: Vec<String> = given.iter().map(|g| (*g).to_owned()).collect();
            Filter::parse(&given)
        };
        let filter = parse(&["is-official=true", "stars=3", "stars=2"]).unwrap();
        assert_eq!((filter.official, filter.stars), (Some(true), 3));
        for bad in [
            "stars",
            "stars=x",
            "is-official=maybe",
            "is-automated=maybe",
            "colour=red",
            "=",
            "",
        ] {
            let e = parse(&[bad]).unwrap_err().to_string();
            assert!(e.contains("filter"), "{bad}: {e}");
        }
        let hit = |star_count, is_official| Hit {
            star_count,
            is_official,
            ..Hit::default()
        };
        assert!(filter.fits(&hit(3, true)));
        assert!(!filter.fits(&hit(2, true)) && !filter.fits(&hit(3, false)));
        assert!(Filter::default().fits(&hit(0, false)));
    }
}
