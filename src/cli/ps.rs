//! `ps`.

use super::format::{self, Format, Heading};
use super::ps_filter::Filter;
use super::{Outcome, Output, table, units};
use crate::container::volume::Kind;
use crate::container::{Containers, Network, Record, Status, size};
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;

/// Arguments of `ps`.
#[derive(Debug, Args)]
pub struct Ps {
    /// Also containers that do not run
    #[arg(short, long)]
    pub all: bool,
    /// Show how much they have written
    #[arg(short, long)]
    pub size: bool,
    /// Print only ids
    #[arg(short, long)]
    pub quiet: bool,
    /// Only so many, the newest, whether they run or not; -1 for no such limit
    #[arg(
        short = 'n',
        long,
        value_name = "NUMBER",
        allow_negative_numbers = true
    )]
    pub last: Option<i64>,
    /// Only the newest, whether it runs or not
    #[arg(short, long)]
    pub latest: bool,
    /// Only those that fit: ancestor, before, exited, expose, id, label, name,
    /// network, publish, since, status, volume
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// Print whole ids and commands
    #[arg(long)]
    pub no_trunc: bool,
    /// Print `json`, `table TEMPLATE`, or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}

const TABLE: &str =
    r"{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
const TABLE_WITH_SIZES: &str = r"{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}";

const HEADINGS: &[Heading] = &[
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Labels", "LABELS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Mounts", "MOUNTS"),
    ("Names", "NAMES"),
    ("Networks", "NETWORKS"),
    ("Ports", "PORTS"),
    ("RunningFor", "CREATED"),
    ("Size", "SIZE"),
    ("State", "STATE"),
    ("Status", "STATUS"),
];

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    #[serde(rename = "ID")]
    id: String,
    image: String,
    command: String,
    created_at: String,
    running_for: String,
    state: Status,
    status: String,
    names: String,
    size: String,
    networks: Network,
    ports: String,
    mounts: String,
    labels: String,
    local_volumes: String,
    #[serde(skip)]
    by_key: BTreeMap<String, String>,
}

impl format::Row for Row {
    fn labels(&self) -> Option<&BTreeMap<String, String>> {
        Some(&self.by_key)
    }
}

/// List containers, newest first.
///
/// # Errors
/// When a record is damaged or an upper layer cannot be read.
pub fn ps(containers: &Containers<'_>, args: &Ps, output: &mut Output<'_>) -> Outcome {
    let table = match args.size {
        true => TABLE_WITH_SIZES,
        false => TABLE,
    };
    let format = Format::of_user(args.format.as_deref(), "psFormat", table, args.quiet)?;
    containers.settle_all()?;
    let filter = Filter::new(&args.filter, containers)?;
    let last = match args.latest {
        true => Some(1),
        false => args.last.and_then(|n| usize::try_from(n).ok()),
    };
    // Who asks for a state, or for the newest, means those that do not run too.
    let all = args.all || last.is_some() || filter.names_state();
    let mut rows = Vec::new();
    for record in containers.list()? {
        // Steps of builds come and go by themselves.
        if record.builder.is_some() {
            continue;
        }
        if last.is_some_and(|n| rows.len() >= n) {
            break;
        }
        let (status, exit_code) = containers.status(&record);
        if status != Status::Running && !all || !filter.fits(&record, status, exit_code) {
            continue;
        }
        let command = record.args.join(" ");
        let (id, command) = match args.no_trunc {
            true => (record.id.as_str(), command),
            false => (record.short(), table::cut(&command, 20)),
        };
        let created = record.created.div_euclid(1_000_000_000);
        rows.push(Row {
            id: id.to_owned(),
            image: record.image_name.clone(),
            command: format!("{command:?}"),
            created_at: units::date(created),
            running_for: units::ago(created),
            state: status,
            status: status_text(&record, status, exit_code),
            names: record.name.clone(),
            size: match format.uses("Size") {
                true => size_text(containers, &record)?,
                false => String::new(),
            },
            networks: record.network,
            ports: ports(&record, status),
            mounts: mounts(&record),
            labels: labels(&record),
            local_volumes: volumes(&record).to_string(),
            by_key: record.settings.labels,
        });
    }
    format.print(HEADINGS, &rows, output)
}

/// `0.0.0.0:8080->80/tcp, 443/tcp`: what is published, and what is not but
/// could be.
fn ports(record: &Record, status: Status) -> String {
    if status != Status::Running {
        return String::new();
    }
    let published = &record.state.ports;
    let mut all: Vec<String> = published.iter().map(ToString::to_string).collect();
    for port in &record.settings.exposed {
        if !published.iter().any(|p| p.inside() == *port) {
            all.push(port.clone());
        }
    }
    all.join(", ")
}

fn mounts(record: &Record) -> String {
    let bound = record.settings.mounts.iter();
    let bound = bound.filter(|m| m.kind == Kind::Bind);
    let all: Vec<&str> = bound.map(|m| m.source.as_str()).collect();
    all.join(",")
}

/// How many volumes of its own it has.
pub(super) fn volumes(record: &Record) -> usize {
    let mounts = record.settings.mounts.iter();
    mounts.filter(|m| m.kind == Kind::Volume).count()
}

fn labels(record: &Record) -> String {
    let labels = record.settings.labels.iter();
    let all: Vec<String> = labels
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    all.join(",")
}

fn size_text(containers: &Containers<'_>, record: &Record) -> crate::store::Result<String> {
    let written = size::written(&containers.dir(&record.id).join("upper"))?;
    Ok(format!(
        "{} (virtual {})",
        units::size(written),
        units::size(written + record.image_size)
    ))
}

pub(super) fn status_text(record: &Record, status: Status, exit_code: Option<u8>) -> String {
    let state = &record.state;
    match status {
        Status::Created => "Created".to_owned(),
        Status::Running => {
            let since = units::now().saturating_sub(state.started.unwrap_or_default());
            format!("Up {}", units::duration(since))
        }
        Status::Exited => {
            let then = state.finished.or(state.started).unwrap_or_default();
            format!(
                "Exited ({}) {}",
                exit_code.unwrap_or_default(),
                units::ago(then)
            )
        }
    }
}
