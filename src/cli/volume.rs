//! `volume`: create, ls, inspect, rm, prune.

use super::containers::each;
use super::filter::Filters;
use super::format::{self, Format, Heading};
use super::inspect::Shape;
use super::prune::confirmed;
use super::sweep::list;
use super::{Outcome, Output, units};
use crate::container::Containers;
use crate::container::volumes::Volume;
use crate::store::error::Result;
use crate::store::staging::random_hex;
use crate::store::walk::Taken;
use crate::store::{Error, time};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Commands for volumes.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a volume
    Create(Create),
    /// Show all that is known of volumes, as JSON
    Inspect(Inspect),
    /// List volumes
    #[command(alias = "list")]
    Ls(Ls),
    /// Remove volumes that no container uses
    Prune(Prune),
    /// Remove volumes
    #[command(alias = "remove")]
    Rm(Rm),
}

impl Command {
    /// As [`super::args::Command::only_shows`].
    pub fn only_shows(&self) -> bool {
        matches!(self, Command::Inspect(_) | Command::Ls(_))
    }
}

/// Arguments of `volume create`.
#[derive(Debug, Args)]
pub struct Create {
    /// Note something about it
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub label: Vec<String>,
    /// What it is called
    pub name: Option<String>,
}

/// Arguments of `volume inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// Print a Go template
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Names
    #[arg(required = true, value_name = "VOLUME")]
    pub names: Vec<String>,
}

/// Arguments of `volume ls`.
#[derive(Debug, Args)]
pub struct Ls {
    /// Only those that fit: dangling=BOOL, label=KEY[=VALUE], name=PART
    #[arg(short, long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// Print only names
    #[arg(short, long)]
    pub quiet: bool,
    /// Print `json`, `table TEMPLATE`, or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}

/// Arguments of `volume prune`.
#[derive(Debug, Args)]
pub struct Prune {
    /// Those with names too
    #[arg(short, long)]
    pub all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// Only what has `label=KEY[=VALUE]` (`label!=` has it not)
    #[arg(long, value_name = "FILTER")]
    pub filter: Vec<String>,
}

/// Arguments of `volume rm`.
#[derive(Debug, Args)]
pub struct Rm {
    /// Do not complain about those that are not there
    #[arg(short, long)]
    pub force: bool,
    /// Names
    #[arg(required = true, value_name = "VOLUME")]
    pub names: Vec<String>,
}

const TABLE: &str = r"{{.Driver}}\t{{.Name}}";

const HEADINGS: &[Heading] = &[
    ("CreatedAt", "CREATED AT"),
    ("Driver", "DRIVER"),
    ("Labels", "LABELS"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Name", "VOLUME NAME"),
    ("Scope", "SCOPE"),
];

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    created_at: String,
    driver: &'static str,
    labels: String,
    mountpoint: String,
    name: String,
    scope: &'static str,
    #[serde(skip)]
    by_key: BTreeMap<String, String>,
}

impl format::Row for Row {
    fn labels(&self) -> Option<&BTreeMap<String, String>> {
        Some(&self.by_key)
    }
}

/// Do what was asked for with volumes.
///
/// # Errors
/// When a volume is not there, or is in use, and when the store is damaged or
/// cannot be changed.
pub fn volume(containers: &Containers<'_>, command: &Command, output: &mut Output<'_>) -> Outcome {
    match command {
        Command::Create(args) => create(containers, args, output),
        Command::Inspect(args) => inspect(containers, args, output),
        Command::Ls(args) => ls(containers, args, output),
        Command::Prune(args) => prune(containers, args, output),
        Command::Rm(args) => rm(containers, args, output),
    }
}

fn create(containers: &Containers<'_>, args: &Create, output: &mut Output<'_>) -> Outcome {
    let labels = args.label.iter().map(|text| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (key.to_owned(), value.to_owned())
    });
    let name = args.name.clone();
    let volume = Volume {
        anonymous: name.is_none(),
        name: name.map_or_else(|| random_hex(32), Ok)?,
        created: units::now(),
        labels: labels.collect(),
    };
    containers.make_volume(&volume)?;
    writeln!(output.out, "{}", volume.name)?;
    Ok(0)
}

fn inspect(containers: &Containers<'_>, args: &Inspect, output: &mut Output<'_>) -> Outcome {
    let shape = Shape::parse(args.format.as_deref())?;
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for name in &args.names {
        let volume = match containers.volume(name) {
            Ok(volume) => volume,
            Err(e) => {
                failed.push(e.to_string());
                continue;
            }
        };
        found.push(describe(containers, &volume));
    }
    shape.tell(found, failed, output)
}

/// All that is known of a volume.
pub(super) fn describe(containers: &Containers<'_>, volume: &Volume) -> Value {
    json!({
        "CreatedAt": time::format(volume.created, 0),
        "Driver": "local",
        "Labels": volume.labels,
        "Mountpoint": mountpoint(containers, volume),
        "Name": volume.name,
        "Options": null,
        "Scope": "local",
    })
}

/// Where a volume's files are.
pub fn mountpoint(containers: &Containers<'_>, volume: &Volume) -> String {
    containers.volume_data(&volume.name).display().to_string()
}

fn ls(containers: &Containers<'_>, args: &Ls, output: &mut Output<'_>) -> Outcome {
    let given = args.format.as_deref();
    let given = given.or(args.quiet.then_some("{{.Name}}"));
    let format = Format::parse(given, TABLE)?;
    let filters = Filters::parse(&args.filter, &["dangling", "label", "name"])?;
    let dangling = filters.flag("dangling")?;
    let mut rows = Vec::new();
    for volume in containers.volumes()? {
        let named = filters.of("name").any(|part| volume.name.contains(part));
        let unused = || Ok::<bool, Error>(containers.volume_users(&volume.name)?.is_empty());
        let fits = (named || !filters.any(&["name"]))
            && filters.labels_fit(Some(&labels(&volume)))
            && match dangling {
                Some(dangling) => unused()? == dangling,
                None => true,
            };
        if fits {
            rows.push(Row {
                created_at: units::date(volume.created),
                driver: "local",
                labels: labels_text(&volume),
                mountpoint: mountpoint(containers, &volume),
                name: volume.name,
                scope: "local",
                by_key: volume.labels,
            });
        }
    }
    format.print(HEADINGS, &rows, output)
}

/// A volume's labels as lists show them.
pub fn labels_text(volume: &Volume) -> String {
    let labels = volume.labels.iter().map(|(k, v)| format!("{k}={v}"));
    labels.collect::<Vec<_>>().join(",")
}

fn labels(volume: &Volume) -> Value {
    json!(volume.labels)
}

fn rm(containers: &Containers<'_>, args: &Rm, output: &mut Output<'_>) -> Outcome {
    each(&args.names, output, |name, output| {
        match containers.remove_volume(name) {
            Err(Error::NotFound(_)) if args.force => {}
            done => done?,
        }
        writeln!(output.out, "{name}")?;
        Ok(())
    })
}

fn prune(containers: &Containers<'_>, args: &Prune, output: &mut Output<'_>) -> Outcome {
    let filters = Filters::parse(&args.filter, &["label", "label!"])?;
    let which = match args.all {
        true => "all",
        false => "anonymous",
    };
    let warning = format!(
        "WARNING! This will remove {which} local volumes not used by at least one container.\n"
    );
    if !args.force && !confirmed(&warning, output)? {
        return Ok(0);
    }
    let freed = unused(containers, args.all, &filters, output)?;
    super::sweep::reclaimed(freed, output)
}

/// Remove volumes that no container uses; returns what they took.
///
/// # Errors
/// When a record is damaged, or the store cannot be changed.
pub fn unused(
    containers: &Containers<'_>,
    all: bool,
    filters: &Filters,
    output: &mut Output<'_>,
) -> Result<u64> {
    let mut freed = 0;
    let mut gone = Vec::new();
    for volume in containers.volumes()? {
        if !(all || volume.anonymous) || !filters.labels_fit(Some(&labels(&volume))) {
            continue;
        }
        let bytes = Taken::default().add(&containers.volume_dir(&volume.name))?;
        match containers.remove_volume(&volume.name) {
            Ok(()) => {
                freed += bytes;
                gone.push(volume.name);
            }
            // It is in use, or was removed meanwhile.
            Err(Error::Conflict(_) | Error::NotFound(_)) => {}
            Err(e) => return Err(e),
        }
    }
    list("Deleted Volumes:", &gone, output)?;
    Ok(freed)
}
