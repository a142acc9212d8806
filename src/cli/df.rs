//! `system df`: what the store takes on the disk, as `du` counts it.

use super::format::{self, Format, Heading};
use super::ps::status_text;
use super::template::Template;
use super::volume::{labels_text, mountpoint};
use super::{Outcome, Output, table, units};
use crate::container::Containers;
use crate::container::volumes::Volume;
use crate::store::Result;
use crate::store::layer::chain_ids;
use crate::store::steps::StepUsage;
use crate::store::usage::Usage;
use crate::store::walk::Taken;
use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Arguments of `system df`.
#[derive(Debug, Args)]
#[command(
    after_help = "Sizes are those of `du -x`: of images, all blobs and unpacked layers, shared ones once; of containers, their directories."
)]
pub struct Df {
    /// Each image and container
    #[arg(short, long)]
    pub verbose: bool,
    /// Print `json`, `table TEMPLATE`, or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}

const TABLE: &str = r"{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";

const HEADINGS: &[Heading] = &[
    ("Active", "ACTIVE"),
    ("Bytes", "BYTES"),
    ("Reclaimable", "RECLAIMABLE"),
    ("ReclaimableBytes", "RECLAIMABLE BYTES"),
    ("Size", "SIZE"),
    ("TotalCount", "TOTAL"),
    ("Type", "TYPE"),
];

/// What is said of each image.
const IMAGE: &[Heading] = &[
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("Size", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("Containers", "CONTAINERS"),
];

/// What is said of each container.
const CONTAINER: &[Heading] = &[
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Size", "SIZE"),
    ("RunningFor", "CREATED"),
    ("Status", "STATUS"),
    ("Names", "NAMES"),
];

/// What is said of each volume.
const VOLUME: &[Heading] = &[
    ("Name", "VOLUME NAME"),
    ("Links", "LINKS"),
    ("Size", "SIZE"),
];

/// What is said of each step of a build that is kept.
const STEP: &[Heading] = &[
    ("ID", "CACHE ID"),
    ("CacheType", "CACHE TYPE"),
    ("Size", "SIZE"),
    ("CreatedSince", "CREATED"),
    ("LastUsedSince", "LAST USED"),
    ("UsageCount", "USAGE"),
    ("Shared", "SHARED"),
];

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    r#type: &'static str,
    total_count: String,
    active: String,
    size: String,
    reclaimable: String,
    /// Docker has no exact numbers.
    bytes: u64,
    reclaimable_bytes: u64,
}

impl format::Row for Row {}

impl Row {
    fn new(kind: &'static str, total: usize, active: usize, bytes: u64, reclaimable: u64) -> Row {
        let percent = reclaimable.saturating_mul(100).checked_div(bytes);
        Row {
            r#type: kind,
            total_count: total.to_string(),
            active: active.to_string(),
            size: units::fine_size(bytes),
            reclaimable: match percent {
                Some(percent) => format!("{} ({percent}%)", units::fine_size(reclaimable)),
                None => units::fine_size(reclaimable),
            },
            bytes,
            reclaimable_bytes: reclaimable,
        }
    }
}

/// Show what images and containers take, and what of it could be freed.
///
/// # Errors
/// When the store cannot be read.
pub fn df(containers: &Containers<'_>, args: &Df, output: &mut Output<'_>) -> Outcome {
    let store = containers.store();
    let users = containers.users()?;
    let usage = store.usage(&users)?;
    let steps = store.step_usage(&users)?;
    if args.verbose {
        return match args.format.as_deref() {
            None | Some("" | "table") => verbose(containers, &usage, &steps, output),
            Some(format) => verbose_as(format, containers, output),
        };
    }
    let format = Format::parse(args.format.as_deref(), TABLE)?;
    let images = store.images()?;
    let used = |i: &&crate::store::image::Image| users.iter().any(|u| u.image == i.id);
    let running = users.iter().filter(|u| u.running).count();
    let mut stopped = 0;
    for user in users.iter().filter(|u| !u.running) {
        stopped += Taken::default().add(&containers.dir(&user.container))?;
    }
    let active = images.iter().filter(used).count();
    let volumes = {
        let all = volumes(containers)?;
        let used = all.iter().filter(|v| v.links > 0).count();
        let bytes = all.iter().map(|v| v.bytes).sum();
        let unused = all.iter().filter(|v| v.links == 0);
        let unused = unused.map(|v| v.bytes).sum();
        Row::new("Local Volumes", all.len(), used, bytes, unused)
    };
    let rows = [
        Row::new(
            "Images",
            images.len(),
            active,
            usage.images.saturating_sub(steps.in_layers),
            usage.reclaimable.saturating_sub(steps.in_layers),
        ),
        Row::new(
            "Containers",
            users.len(),
            running,
            usage.containers,
            stopped,
        ),
        volumes,
        // Any of it can go, whatever uses what it made.
        Row::new("Build Cache", steps.steps, 0, steps.bytes, steps.bytes),
    ];
    format.print(HEADINGS, &rows, output)
}

fn verbose(
    containers: &Containers<'_>,
    usage: &Usage,
    steps: &StepUsage,
    output: &mut Output<'_>,
) -> Outcome {
    writeln!(output.out, "Images space usage:\n")?;
    table::print(output.out, &table_of(IMAGE, image_rows(containers)?))?;
    writeln!(output.out, "\nContainers space usage:\n")?;
    table::print(
        output.out,
        &table_of(CONTAINER, container_rows(containers)?),
    )?;
    writeln!(output.out, "\nLocal Volumes space usage:\n")?;
    let rows = volumes(containers)?.iter().map(VolumeUse::row).collect();
    table::print(output.out, &table_of(VOLUME, rows))?;
    let size = units::fine_size(steps.bytes);
    writeln!(output.out, "\nBuild cache usage: {size}\n")?;
    table::print(output.out, &table_of(STEP, step_rows(containers)?))?;
    writeln!(output.out)?;
    let all = usage.images + usage.containers + usage.other;
    writeln!(
        output.out,
        "Store: {all} bytes, of which images {}, containers {}, the build cache {}, its own files {}",
        usage.images - steps.in_layers,
        usage.containers,
        steps.bytes,
        usage.other.saturating_sub(steps.bytes - steps.in_layers)
    )?;
    Ok(0)
}

/// All of it as one value, with docker's names.
fn verbose_as(format: &str, containers: &Containers<'_>, output: &mut Output<'_>) -> Outcome {
    let object = |fields: &[Heading], row: Vec<String>| -> Map<String, Value> {
        let names = fields.iter().map(|(field, _)| (*field).to_owned());
        names.zip(row.into_iter().map(Value::from)).collect()
    };
    let objects = |fields: &[Heading], rows: Vec<Vec<String>>| -> Value {
        let all = rows.into_iter().map(|row| object(fields, row));
        all.map(Value::from).collect()
    };
    let volume = |used: &VolumeUse| {
        let mut told = object(VOLUME, used.row());
        for (field, value) in [
            ("Driver", "local".to_owned()),
            ("Labels", labels_text(&used.volume)),
            ("Mountpoint", mountpoint(containers, &used.volume)),
            ("Scope", "local".to_owned()),
        ] {
            told.insert(field.to_owned(), value.into());
        }
        Value::from(told)
    };
    let volumes = volumes(containers)?;
    let all = json!({
        "Images": objects(IMAGE, image_rows(containers)?),
        "Containers": objects(CONTAINER, container_rows(containers)?),
        "Volumes": volumes.iter().map(volume).collect::<Value>(),
        "BuildCache": objects(STEP, step_rows(containers)?),
    });
    match format {
        "json" => writeln!(output.out, "{all}")?,
        text => writeln!(output.out, "{}", Template::parse(text)?.render(&all)?)?,
    }
    Ok(0)
}

/// A table of rows below their headings.
fn table_of(fields: &[Heading], rows: Vec<Vec<String>>) -> Vec<Vec<String>> {
    let heading = fields.iter().map(|(_, title)| (*title).to_owned());
    std::iter::once(heading.collect()).chain(rows).collect()
}

fn image_rows(containers: &Containers<'_>) -> Result<Vec<Vec<String>>> {
    let users = containers.users()?;
    let mut rows = Vec::new();
    for one in containers.store().image_usage()? {
        let image = &one.image;
        let created = image.created.as_deref().and_then(crate::store::time::parse);
        let count = users.iter().filter(|u| u.image == image.id).count();
        // As docker does, an image once.
        let name = image.names.first();
        let none = || "<none>".to_owned();
        rows.push(vec![
            name.map_or_else(none, crate::store::Reference::familiar),
            name.map_or_else(none, |n| n.tag().to_owned()),
            image.id.short(),
            created.map_or_else(|| "N/A".to_owned(), units::ago),
            units::size(one.shared + one.unique),
            units::fine_size(one.shared),
            units::fine_size(one.unique),
            count.to_string(),
        ]);
    }
    Ok(rows)
}

/// A volume, how many containers use it, and what it takes.
struct VolumeUse {
    volume: Volume,
    links: usize,
    bytes: u64,
}

impl VolumeUse {
    fn row(&self) -> Vec<String> {
        let name = self.volume.name.clone();
        vec![name, self.links.to_string(), units::size(self.bytes)]
    }
}

fn volumes(containers: &Containers<'_>) -> Result<Vec<VolumeUse>> {
    let all = containers.volumes()?.into_iter().map(|volume| {
        Ok(VolumeUse {
            links: containers.volume_users(&volume.name)?.len(),
            bytes: Taken::default().add(&containers.volume_dir(&volume.name))?,
            volume,
        })
    });
    all.collect()
}

/// In docker's columns; the usage is how many images have what the step made.
fn step_rows(containers: &Containers<'_>) -> Result<Vec<Vec<String>>> {
    let store = containers.store();
    let mut chains = Vec::new();
    for image in store.images()? {
        let Some((config, _)) = store.config_if_whole(&image)? else {
            continue;
        };
        chains.extend(chain_ids(config.diff_ids()));
    }
    let mut rows = Vec::new();
    for (id, step) in store.step_records()? {
        let layer = step.layer.as_ref();
        let tree = layer.and_then(|l| store.find_layer(&l.diff_id, &l.chain_id).ok()?);
        let usage = layer.map_or(0, |l| chains.iter().filter(|c| **c == l.chain_id).count());
        let created = crate::store::time::parse(&step.created);
        rows.push(vec![
            id.short(),
            "regular".to_owned(),
            units::fine_size(tree.map_or(0, |t| t.size)),
            created.map_or_else(|| "N/A".to_owned(), units::ago),
            units::ago(store.step_used(&id)),
            usage.to_string(),
            (usage > 0).to_string(),
        ]);
    }
    Ok(rows)
}

fn container_rows(containers: &Containers<'_>) -> Result<Vec<Vec<String>>> {
    let mut rows = Vec::new();
    for record in containers.list()? {
        let (status, exit_code) = containers.status(&record);
        let status = status_text(&record, status, exit_code);
        rows.push(vec![
            record.short().to_owned(),
            record.image_name.clone(),
            format!("{:?}", table::cut(&record.args.join(" "), 20)),
            super::ps::volumes(&record).to_string(),
            units::size(Taken::default().add(&containers.dir(&record.id))?),
            units::ago(record.created / 1_000_000_000),
            status,
            record.name.clone(),
        ]);
    }
    Ok(rows)
}
