//! `run`.

use super::args;
use super::{Outcome, Output};
use crate::container::Containers;
use std::path::Path;

/// Make a container, run its command in the foreground, return its exit code.
///
/// # Errors
/// When the container cannot be made or its command not started.
pub fn run(
    containers: &Containers<'_>,
    args: args::Run,
    runtime: Option<&Path>,
    output: &mut Output<'_>,
) -> Outcome {
    let record = containers.create(args.create.into())?;
    output.out.flush()?;
    Ok(containers.run(&record, runtime)?)
}
