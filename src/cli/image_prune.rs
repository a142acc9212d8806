//! `image prune`.

use super::filter::{Filters, created};
use super::prune::confirmed;
use super::{Failure, Outcome, Output, interrupt};
use crate::container::Containers;
use crate::store::image::Image;
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
    let warning = match args.all {
        true => {
            "WARNING! This will remove all images without at least one container associated to them.\n"
        }
        false => "WARNING! This will remove all dangling images.\n",
    };
    if !args.force && !confirmed(warning, output)? {
        return Ok(0);
    }
    interrupt::watch(interrupt::REMOVING);
    let removed = unused(containers, args.all, &filters)?;
    tell(&removed, output)?;
    let freed = match removed.is_empty() {
        true => 0,
        false => garbage(containers, output)?,
    };
    super::sweep::reclaimed(freed, output)
}

/// Remove images that no container uses and that the filters take.
///
/// # Errors
/// For a bad filter, and when the store is damaged or cannot be changed.
pub(super) fn unused(
    containers: &Containers<'_>,
    all: bool,
    filters: &Filters,
) -> Result<Vec<Removed>> {
    let store = containers.store();
    let until = filters.until()?;
    let users = containers.users()?;
    let mut removed = Vec::new();
    for image in store.images()? {
        let wanted = (all || image.names.is_empty())
            && !users.iter().any(|u| u.image == image.id)
            && until.is_none_or(|until| created(&image) < Some(until))
            && labels_fit(filters, &image, store)?;
        if wanted {
            removed.extend(remove(containers, &image)?);
        }
    }
    Ok(removed)
}

/// List what was removed.
///
/// # Errors
/// When it cannot be written.
pub(super) fn tell(removed: &[Removed], output: &mut Output<'_>) -> std::io::Result<()> {
    if removed.is_empty() {
        return Ok(());
    }
    writeln!(output.out, "Deleted Images:")?;
    for what in removed {
        match what {
            Removed::Name(name) => writeln!(output.out, "untagged: {}", name.familiar_tagged())?,
            Removed::Digest(digest) => writeln!(output.out, "untagged: {}", digest.familiar())?,
            Removed::Image(id) => writeln!(output.out, "deleted: {id}")?,
        }
    }
    writeln!(output.out)
}

/// Remove what nobody refers to any more; returns what it took on the disk.
///
/// # Errors
/// When the store is damaged or cannot be changed.
pub(super) fn garbage(
    containers: &Containers<'_>,
    output: &mut Output<'_>,
) -> std::result::Result<u64, Failure> {
    match containers.store().gc(|| containers.users())? {
        Some(garbage) => Ok(garbage.iter().map(|g| g.bytes).sum()),
        None => {
            writeln!(
                output.err,
                "warning: the store is being added to or checked now, so the space is not free yet: run 'capas gc' later"
            )?;
            Ok(0)
        }
    }
}

/// Do the labels of an image fit; those that are not known do not.
///
/// # Errors
/// When the store cannot be read.
fn labels_fit(filters: &Filters, image: &Image, store: &Store) -> Result<bool> {
    if !filters.any(&["label", "label!"]) {
        return Ok(true);
    }
    let labels = store.labels_if_whole(image)?;
    Ok(labels.is_some_and(|labels| filters.labels_fit(Some(&labels))))
}

/// Remove an image by all that it is called, without force: whoever uses it by
/// now keeps it.
fn remove(containers: &Containers<'_>, image: &Image) -> Result<Vec<Removed>> {
    let names = image.names.iter().map(ToString::to_string);
    let digests = image.digests.iter().map(ToString::to_string);
    let mut called: Vec<String> = names.chain(digests).collect();
    if called.is_empty() {
        called.push(image.id.to_string());
    }
    let mut removed = Vec::new();
    for name in called {
        let store = containers.store();
        match store.remove_image(&name, false, || containers.users()) {
            Ok(what) => removed.extend(what),
            // A digest went with the last name of its repository.
            Err(Error::NotFound(_)) => {}
            Err(Error::Conflict(_)) => break,
            Err(e) => return Err(e),
        }
    }
    Ok(removed)
}
