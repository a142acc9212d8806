//! `gc`.

use super::{Outcome, Output, interrupt, units};
use crate::container::Containers;
use crate::store::Error;
use clap::Args;

/// Arguments of `gc`.
#[derive(Debug, Args)]
pub struct Gc {
    /// Only say what would be removed
    #[arg(long)]
    pub dry_run: bool,
}

/// Remove what nobody refers to, and say what that was.
///
/// # Errors
/// When it cannot be known what is in use, or something is being added now.
pub fn gc(containers: &Containers<'_>, args: &Gc, output: &mut Output<'_>) -> Outcome {
    interrupt::watch(interrupt::REMOVING);
    let store = containers.store();
    let users = || containers.users();
    let garbage = match args.dry_run {
        true => store.garbage(users)?,
        false => store.gc(users)?.ok_or_else(|| {
            Error::Conflict(
                "the store is being added to or checked now: try again when that is done"
                    .to_owned(),
            )
        })?,
    };
    for one in &garbage {
        writeln!(output.out, "{} {}", one.bytes, one.path)?;
    }
    let bytes: u64 = garbage.iter().map(|g| g.bytes).sum();
    let what = match args.dry_run {
        true => "Reclaimable space",
        false => "Total reclaimed space",
    };
    writeln!(output.out, "{what}: {} ({bytes} bytes)", units::size(bytes))?;
    Ok(0)
}
