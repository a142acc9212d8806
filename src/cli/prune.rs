//! `prune`.

use super::{Outcome, Output, interrupt, units};
use crate::store::Store;
use std::io::BufRead;

/// Arguments of `prune`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Blobs of layers, whose archives can be made from the unpacked layers
    #[arg(long, required = true)]
    pub blobs: bool,
    /// Show what would be removed
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
}

/// Remove the blobs of layers.
///
/// # Errors
/// When the store cannot be changed.
pub fn prune(store: &Store, args: &Args, output: &mut Output<'_>) -> Outcome {
    let warning = "WARNING! This will remove the compressed layers of all images.\n\
                   Images that are saved after that have their layers uncompressed, those that are pushed have them compressed again, under other digests.\n";
    if !args.dry_run && !args.force && !confirmed(warning, output)? {
        return Ok(0);
    }
    interrupt::watch(interrupt::REMOVING);
    let dropped = store.drop_blobs(args.dry_run)?;
    for digest in dropped.blobs.keys() {
        let said = if args.dry_run {
            "Would delete"
        } else {
            "Deleted"
        };
        writeln!(output.out, "{said}: {digest}")?;
    }
    for (digest, why) in &dropped.kept {
        writeln!(output.err, "warning: blob {digest} stays: {why}")?;
    }
    let said = match args.dry_run {
        true => "Reclaimable space, at most",
        false => "Total reclaimed space",
    };
    writeln!(output.out, "{said}: {}", units::fine_size(dropped.freed()))?;
    Ok(0)
}

/// Say what will be done, and ask whether it shall be.
///
/// # Errors
/// When the question cannot be written or the answer not be read.
pub(super) fn confirmed(warning: &str, output: &mut Output<'_>) -> std::io::Result<bool> {
    write!(
        output.out,
        "{warning}Are you sure you want to continue? [y/N] "
    )?;
    output.out.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
