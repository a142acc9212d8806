//! `system prune` and `container prune`: what is not in use goes.

use super::{Outcome, Output, filter::Filters, prune::confirmed, units};
use crate::container::{Containers, Status};
use crate::store::image::{Image, raw_config};
use crate::store::remove::Removed;
use crate::store::walk::Taken;
use crate::store::{Digest, Error, Result, Store};
use clap::Args;
use serde_json::Value;

/// Arguments of `container prune`.
#[derive(Debug, Args)]
pub struct ContainerPrune {
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// Only what was made before `until=TIME`, or has `label=KEY[=VALUE]`
    /// (`label!=` has it not)
    #[arg(long, value_name = "FILTER")]
    pub filter: Vec<String>,
}

/// Arguments of `system prune`.
#[derive(Debug, Args)]
pub struct SystemPrune {
    /// All images that no container uses, not only those without a name
    #[arg(short, long)]
    pub all: bool,
    /// As for `container prune`.
    #[command(flatten)]
    pub common: ContainerPrune,
}

/// Remove containers that do not run.
///
/// # Errors
/// When the store is damaged or cannot be changed.
pub fn containers(
    containers: &Containers<'_>,
    args: &ContainerPrune,
    output: &mut Output<'_>,
) -> Outcome {
    let filters = Filters::parse(&args.filter)?;
    let warning = format!(
        "WARNING! This will remove all stopped containers.\n{}",
        told(args, "")
    );
    if !args.force && !confirmed(&warning, output)? {
        return Ok(0);
    }
    let mut freed = stopped(containers, &filters, output)?;
    // The last container of an image that was removed by force.
    freed += garbage(containers, output)?;
    writeln!(output.out, "Total reclaimed space: {}", units::size(freed))?;
    Ok(0)
}

/// Remove containers that do not run, images that are not used, and what
/// nobody refers to.
///
/// # Errors
/// As [`containers`].
pub fn system(containers: &Containers<'_>, args: &SystemPrune, output: &mut Output<'_>) -> Outcome {
    let filters = Filters::parse(&args.common.filter)?;
    let images = match args.all {
        true => "all images without at least one container associated to them",
        false => "all dangling images",
    };
    let warning = format!(
        "WARNING! This will remove:\n  - all stopped containers\n  - {images}\n  - blobs and layers that nothing refers to\n{}\n",
        told(&args.common, "  ")
    );
    if !args.common.force && !confirmed(&warning, output)? {
        return Ok(0);
    }
    let mut freed = stopped(containers, &filters, output)?;
    unused(containers, args.all, &filters, output)?;
    freed += garbage(containers, output)?;
    writeln!(output.out, "Total reclaimed space: {}", units::size(freed))?;
    Ok(0)
}

/// The filters, as the warning shows them.
fn told(args: &ContainerPrune, indent: &str) -> String {
    if args.filter.is_empty() {
        return String::new();
    }
    let lines: Vec<String> = args
        .filter
        .iter()
        .map(|f| format!("{indent}- {f}\n"))
        .collect();
    format!(
        "\n{indent}Items to be pruned will be filtered with:\n{}",
        lines.concat()
    )
}

/// Remove stopped containers; returns what they took.
fn stopped(containers: &Containers<'_>, filters: &Filters, output: &mut Output<'_>) -> Result<u64> {
    let mut freed = 0;
    let mut gone = Vec::new();
    for record in containers.list()? {
        let labels = || labels(containers.store(), &record.image);
        let fits = filters.fit(Some(record.created / 1_000_000_000), labels);
        if containers.status(&record).0 == Status::Running || !fits {
            continue;
        }
        let bytes = Taken::default().add(&containers.dir(&record.id))?;
        match containers.remove(&record, false) {
            Ok(()) => {
                freed += bytes;
                gone.push(record.id);
            }
            // It was started meanwhile, or somebody looks into it.
            Err(e @ Error::Conflict(_)) => log::warn!("{e}"),
            Err(e) => return Err(e),
        }
    }
    list("Deleted Containers:", &gone, output)?;
    Ok(freed)
}

/// Remove images that no container uses.
fn unused(
    containers: &Containers<'_>,
    all: bool,
    filters: &Filters,
    output: &mut Output<'_>,
) -> Result<()> {
    let store = containers.store();
    let users = containers.users()?;
    let mut gone = Vec::new();
    for image in store.images()? {
        let created = image.created.as_deref().and_then(units::parse_time);
        let wanted = (all || image.names.is_empty())
            && !users.iter().any(|u| u.image == image.id)
            && filters.fit(created, || labels(store, &image.id));
        if wanted {
            remove(containers, &image, &mut gone)?;
        }
    }
    list("Deleted Images:", &gone, output)
}

/// Without force, so that whoever uses the image by now keeps it.
fn remove(containers: &Containers<'_>, image: &Image, gone: &mut Vec<String>) -> Result<()> {
    let names: Vec<String> = match image.names.is_empty() {
        true => vec![image.id.to_string()],
        false => image.names.iter().map(ToString::to_string).collect(),
    };
    for name in names {
        match containers
            .store()
            .remove_image(&name, false, || containers.users())
        {
            Ok(removed) => gone.extend(removed.iter().map(|what| match what {
                Removed::Name(name) => format!("untagged: {}", name.familiar_tagged()),
                Removed::Image(id) => format!("deleted: {id}"),
            })),
            Err(Error::Conflict(_) | Error::NotFound(_)) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// The labels of an image; none where it cannot be read.
fn labels(store: &Store, id: &Digest) -> Vec<(String, String)> {
    let config = store
        .image_config(id)
        .and_then(|(_, data)| raw_config(&data));
    let config = config.unwrap_or_default();
    let labels = config.pointer("/config/Labels").and_then(Value::as_object);
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let labels = labels.into_iter().flatten();
    labels
        .map(|(key, value)| (key.clone(), text(value)))
        .collect()
}

fn garbage(containers: &Containers<'_>, output: &mut Output<'_>) -> Result<u64> {
    match containers.store().gc(|| containers.users())? {
        Some(garbage) => Ok(garbage.iter().map(|g| g.bytes).sum()),
        None => {
            let text = "warning: the store is being added to or checked now, so unused layers stay: try 'capas gc' when that is done";
            write_err(output, text)?;
            Ok(0)
        }
    }
}

fn write_err(output: &mut Output<'_>, text: &str) -> Result<()> {
    writeln!(output.err, "{text}").map_err(output_error)
}

fn list(heading: &str, lines: &[String], output: &mut Output<'_>) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(output.out, "{heading}\n{}\n", lines.join("\n")).map_err(output_error)
}

fn output_error(e: std::io::Error) -> Error {
    Error::System("cannot write the result".to_owned(), e)
}
