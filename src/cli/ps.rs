//! `ps`.

use super::format::{self, Format, Heading};
use super::{Outcome, Output, table, units};
use crate::container::{Containers, Network, Record, Status, size};
use clap::Args;
use serde::Serialize;

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
    /// There are no ports, volumes and labels of containers.
    ports: &'static str,
    mounts: &'static str,
    labels: &'static str,
    local_volumes: &'static str,
}

impl format::Row for Row {}

/// List containers, newest first.
///
/// # Errors
/// When a record is damaged or an upper layer cannot be read.
pub fn ps(containers: &Containers<'_>, args: &Ps, output: &mut Output<'_>) -> Outcome {
    let table = match args.size {
        true => TABLE_WITH_SIZES,
        false => TABLE,
    };
    let format = Format::of_list(args.format.as_deref(), table, args.quiet)?;
    let mut rows = Vec::new();
    for record in containers.list()? {
        let (status, exit_code) = containers.status(&record);
        if status != Status::Running && !args.all {
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
            ports: "",
            mounts: "",
            labels: "",
            local_volumes: "0",
        });
    }
    format.print(HEADINGS, &rows, output)
}

fn size_text(containers: &Containers<'_>, record: &Record) -> crate::store::Result<String> {
    let written = size::written(&containers.dir(&record.id).join("upper"))?;
    Ok(format!(
        "{} (virtual {})",
        units::size(written),
        units::size(written + record.image_size)
    ))
}

pub(super) fn status_text(record: &Record, status: Status, exit_code: Option<i32>) -> String {
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
