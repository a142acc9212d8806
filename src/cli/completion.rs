//! `completion`.

use super::args::Cli;
use super::{Outcome, Output};
use clap::CommandFactory;
use clap_complete::Shell;

/// Arguments of `completion`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whose
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Print what a shell needs to complete our command line.
///
/// # Errors
/// When it cannot be written.
pub fn completion(args: &Args, output: &mut Output<'_>) -> Outcome {
    // Made in memory, as the generator panics when it cannot write.
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "capas", &mut text);
    output.out.write_all(&text)?;
    Ok(0)
}
