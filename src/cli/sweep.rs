//! `system prune` and `container prune`: what is not in use goes.

use super::filter::Filters;
use super::image_prune::{garbage, tell, unused};
use super::prune::confirmed;
use super::{Outcome, Output, interrupt, units};
use crate::container::{Containers, Status};
use crate::store::walk::Taken;
use crate::store::{Error, Result};
use clap::Args;

/// What can be asked for.
const FILTERS: &[&str] = &["label", "label!", "until"];

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
    /// Also volumes that nobody has named and no container uses
    #[arg(long)]
    pub volumes: bool,
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
    let filters = Filters::parse(&args.filter, FILTERS)?;
    let warning = format!(
        "WARNING! This will remove all stopped containers.\n{}",
        told(args, "")
    );
    if !args.force && !confirmed(&warning, output)? {
        return Ok(0);
    }
    interrupt::watch(interrupt::REMOVING);
    let mut freed = stopped(containers, &filters, output)?;
    // The last container of an image that was removed by force.
    freed += garbage(containers, output)?;
    reclaimed(freed, output)
}

/// Remove containers that do not run, images that are not used, and what
/// nobody refers to.
///
/// # Errors
/// As [`containers`].
pub fn system(containers: &Containers<'_>, args: &SystemPrune, output: &mut Output<'_>) -> Outcome {
    let filters = Filters::parse(&args.common.filter, FILTERS)?;
    let images = match args.all {
        true => "all images without at least one container associated to them",
        false => "all dangling images",
    };
    let volumes = match args.volumes {
        true => "  - all anonymous volumes not used by at least one container\n",
        false => "",
    };
    let warning = format!(
        "WARNING! This will remove:\n  - all stopped containers\n{volumes}  - {images}\n  - blobs and layers that nothing refers to\n{}{}\n",
        match args.common.filter.is_empty() {
            true => "  - all build cache\n",
            false => "",
        },
        told(&args.common, "  ")
    );
    if !args.common.force && !confirmed(&warning, output)? {
        return Ok(0);
    }
    interrupt::watch(interrupt::REMOVING);
    let mut freed = stopped(containers, &filters, output)?;
    if args.volumes {
        freed += super::volume::unused(containers, false, &filters, output)?;
    }
    tell(&unused(containers, args.all, &filters)?, output)?;
    if args.common.filter.is_empty() {
        freed += containers.store().forget_steps()?.unwrap_or(0);
    }
    freed += garbage(containers, output)?;
    reclaimed(freed, output)
}

/// Arguments of `builder prune`.
#[derive(Debug, Args)]
pub struct BuilderPrune {
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// Docker's word for what is done here in any case
    #[arg(short, long, hide = true)]
    pub all: bool,
}

/// Forget what steps of builds have made, and what their commands keep.
///
/// # Errors
/// When the store cannot be changed.
pub fn builder(
    containers: &Containers<'_>,
    args: &BuilderPrune,
    output: &mut Output<'_>,
) -> Outcome {
    let warning = "WARNING! This will remove all build cache.\n";
    if !args.force && !confirmed(warning, output)? {
        return Ok(0);
    }
    interrupt::watch(interrupt::REMOVING);
    let mut freed = containers.store().forget_steps()?.unwrap_or(0);
    freed += garbage(containers, output)?;
    reclaimed(freed, output)
}

/// The last line of a prune.
pub(super) fn reclaimed(freed: u64, output: &mut Output<'_>) -> Outcome {
    writeln!(
        output.out,
        "Total reclaimed space: {}",
        units::fine_size(freed)
    )?;
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
    let mut gone = Vec::new();
    let freed = remove_stopped(containers, filters, &mut gone);
    // Those are gone whatever came of the others.
    list("Deleted Containers:", &gone, output)?;
    freed
}

fn remove_stopped(
    containers: &Containers<'_>,
    filters: &Filters,
    gone: &mut Vec<String>,
) -> Result<u64> {
    let until = filters.until()?;
    let (mut freed, mut failed) = (0, None);
    for record in containers.list()? {
        if record.builder.is_some() {
            if record.is_abandoned() {
                freed += Taken::default().add(&containers.dir(&record.id))?;
                containers.settle_step(&record)?;
            }
            continue;
        }
        let labels = serde_json::to_value(&record.settings.labels).ok();
        let fits = until.is_none_or(|until| record.created / 1_000_000_000 < until)
            && filters.labels_fit(labels.as_ref());
        if containers.status(&record).0 == Status::Running || !fits {
            continue;
        }
        let bytes = Taken::default().add(&containers.dir(&record.id))?;
        match containers.remove(&record, false, false) {
            Ok(()) => {
                freed += bytes;
                gone.push(record.id);
            }
            // It was started meanwhile, or somebody looks into it.
            Err(e @ Error::Conflict(_)) => log::warn!("{e}"),
            // The others can go all the same.
            Err(e) => failed = failed.or(Some(e)),
        }
    }
    failed.map_or(Ok(freed), Err)
}

/// Say what is gone, if anything is.
///
/// # Errors
/// When it cannot be written.
pub(super) fn list(heading: &str, lines: &[String], output: &mut Output<'_>) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(output.out, "{heading}\n{}\n", lines.join("\n")).map_err(output_error)
}

fn output_error(e: std::io::Error) -> Error {
    Error::System("cannot write the result".to_owned(), e)
}
