//! `export`.

use super::{Outcome, Output, interrupt, outfile};
use crate::container::Containers;
use std::path::PathBuf;

/// Arguments of `export`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    pub container: String,
}

/// Write a container's files as a tar archive.
///
/// # Errors
/// When there is no such container, it cannot be read, or writing fails.
pub fn export(containers: &Containers<'_>, args: &Args, output: &mut Output<'_>) -> Outcome {
    let file = args.output.as_deref().filter(|o| o.as_os_str() != "-");
    interrupt::watch(match file {
        Some(_) => interrupt::NOTHING,
        None => "what was written is not complete",
    });
    let record = containers.find(&args.container)?;
    match file {
        Some(file) => outfile::write(file, |out| containers.export(&record, out))?,
        None => {
            outfile::refuse_terminal()?;
            containers.export(&record, &mut *output.out)?;
        }
    }
    Ok(0)
}
