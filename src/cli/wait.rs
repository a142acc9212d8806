//! `wait`.

use super::containers::each;
use super::{Outcome, Output, args};
use crate::container::Containers;

/// Wait for the end of containers' commands and print their exit codes.
///
/// # Errors
/// When one is not there.
pub fn wait(containers: &Containers<'_>, args: &args::Names, output: &mut Output<'_>) -> Outcome {
    each(&args.names, output, |name, output| {
        let code = containers.wait(&containers.find(name)?)?;
        writeln!(output.out, "{code}")?;
        Ok(())
    })
}
