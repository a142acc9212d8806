//! `image prune`.

use super::filter::{Filters, created};
use super::prune::confirmed;
use super::{Outcome, Output, units};
use crate::container::Containers;
use crate::store::image::{Image, raw_config};
use crate::store::remove::Removed;
use crate::store::{Error, Result, Store};

/// Arguments of `image prune`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also images with names, if no container uses them
    #[arg(short, long)]
    pub all: bool,
    /// Only those that fit: label=KEY[=VALUE], label!=KEY[=VALUE], until=TIME
    #[arg(long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
}

/// Remove images that nobody uses, and say what that has freed: what the
/// removed blobs and layers took on the disk.
///
/// # Errors
/// When the store is damaged or cannot be changed.
pub fn prune(containers: &Containers<'_>, args: &Args, output: &mut Output<'_>) -> Outcome {
    let filters = Filters::parse(&args.filter, &["label", "label!", "until"])?;
    let until = filters.until()?;
    let warning = match args.all {
        true => {
            "WARNING! This will remove all images without at least one container associated to them.\n"
        }
        false => "WARNING! This will remove all dangling images.\n",
    };
    if !args.force && !confirmed(warning, output)? {
        return Ok(0);
    }
    let store = containers.store();
    let users = containers.users()?;
    let mut removed = Vec::new();
    for image in store.images()? {
        let wanted = (args.all || image.names.is_empty())
            && !users.iter().any(|u| u.image == image.id)
            && until.is_none_or(|until| created(&image) < Some(until))
            && fits(&filters, &image, store)?;
        if wanted {
            removed.extend(remove(containers, &image)?);
        }
    }
    if !removed.is_empty() {
        writeln!(output.out, "Deleted Images:")?;
        for what in &removed {
            match what {
                Removed::Name(name) => {
                    writeln!(output.out, "untagged: {}", name.familiar_tagged())?;
                }
                Removed::Digest(digest) => {
                    writeln!(output.out, "untagged: {}", digest.familiar())?;
                }
                Removed::Image(id) => writeln!(output.out, "deleted: {id}")?,
            }
        }
        writeln!(output.out)?;
    }
    let freed: u64 = match removed.is_empty() {
        true => 0,
        false => match store.gc(|| containers.users())? {
            Some(garbage) => garbage.iter().map(|g| g.bytes).sum(),
            None => {
                writeln!(
                    output.err,
                    "warning: images are being added now, so the space is not free yet: run 'capas gc' later"
                )?;
                0
            }
        },
    };
    writeln!(output.out, "Total reclaimed space: {}", units::size(freed))?;
    Ok(0)
}

fn fits(filters: &Filters, image: &Image, store: &Store) -> Result<bool> {
    if !filters.any(&["label", "label!"]) {
        return Ok(true);
    }
    let config = raw_config(&store.image_config(&image.id)?.1)?;
    Ok(filters.labels_fit(config.pointer("/config/Labels")))
}

/// Remove an image by all its names, without force: whoever uses it by now
/// keeps it.
fn remove(containers: &Containers<'_>, image: &Image) -> Result<Vec<Removed>> {
    let mut names: Vec<String> = image.names.iter().map(ToString::to_string).collect();
    if names.is_empty() {
        names.push(image.id.to_string());
    }
    let mut removed = Vec::new();
    for name in names {
        let store = containers.store();
        match store.remove_image(&name, false, || containers.users()) {
            Ok(what) => removed.extend(what),
            Err(Error::NotFound(_) | Error::Conflict(_)) => break,
            Err(e) => return Err(e),
        }
    }
    Ok(removed)
}
