//! `kill`.

use super::containers::each;
use super::{Outcome, Output};
use crate::container::{Containers, signal};

/// Arguments of `kill`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name or number of the signal
    #[arg(short, long, default_value = "KILL", value_name = "SIGNAL")]
    pub signal: String,
    /// Names or ids of containers
    #[arg(required = true, value_name = "CONTAINER")]
    pub names: Vec<String>,
}

/// Send a signal to containers' commands and print their names.
///
/// # Errors
/// When one does not run.
pub fn kill(containers: &Containers<'_>, args: &Args, output: &mut Output<'_>) -> Outcome {
    let number = signal::parse(&args.signal)?;
    each(&args.names, output, |name, output| {
        containers.kill(&containers.find(name)?, number)?;
        writeln!(output.out, "{name}")?;
        Ok(())
    })
}
