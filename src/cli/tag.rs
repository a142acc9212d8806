//! `tag`.

use super::{Outcome, Output, units};
use crate::store::Store;

/// Arguments of `tag`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name or id of the image
    #[arg(value_name = "SOURCE_IMAGE[:TAG]")]
    pub source: String,
    /// Its new name
    #[arg(value_name = "TARGET_IMAGE[:TAG]")]
    pub target: String,
}

/// Give an image one more name; says nothing.
///
/// # Errors
/// When there is no such image, or the name is not allowed.
pub fn tag(store: &Store, args: &Args, _output: &mut Output<'_>) -> Outcome {
    let now = crate::store::time::format(units::now(), 0);
    store.tag(&args.source, &args.target, &now)?;
    Ok(0)
}
