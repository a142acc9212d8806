//! `man`: the manual pages, made at installation from the command line's own
//! description.

use super::Outcome;
use super::args::Cli;
use crate::store::Context;
use clap::CommandFactory;
use std::path::PathBuf;

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to; it is made
    pub dir: PathBuf,
}

/// Write a page for the program and one for each command.
///
/// # Errors
/// When the directory cannot be written.
pub fn man(args: &Args) -> Outcome {
    let say = || format!("cannot write manual pages to {}", args.dir.display());
    std::fs::create_dir_all(&args.dir).context(say)?;
    clap_mangen::generate_to(Cli::command(), &args.dir).context(say)?;
    Ok(0)
}
