//! `rename`.

use super::{Outcome, Output};
use crate::container::Containers;

/// Arguments of `rename`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    pub old: String,
    /// What it is to be called
    #[arg(value_name = "NAME")]
    pub new: String,
}

/// Give a container another name; prints nothing.
///
/// # Errors
/// When that is none, or taken.
pub fn rename(containers: &Containers<'_>, args: &Args, _: &mut Output<'_>) -> Outcome {
    containers.rename(&containers.find(&args.old)?, &args.new)?;
    Ok(0)
}
