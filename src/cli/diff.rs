//! `diff`.

use super::{Outcome, Output};
use crate::container::Containers;
use crate::container::diff::Kind;
use std::io::IsTerminal;

/// Arguments of `diff`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    pub container: String,
}

/// Print what a container has added, changed and deleted, a name a line.
///
/// # Errors
/// When there is no such container, or it cannot be read.
pub fn diff(containers: &Containers<'_>, args: &Args, output: &mut Output<'_>) -> Outcome {
    let terminal = std::io::stdout().is_terminal();
    for (kind, path) in containers.diff(&containers.find(&args.container)?)? {
        let letter = match kind {
            Kind::Added => "A",
            Kind::Changed => "C",
            Kind::Deleted => "D",
        };
        // Names are the container's, and may hold what a terminal obeys.
        let path = match terminal {
            true => path
                .iter()
                .map(|b| if b.is_ascii_control() { b'?' } else { *b })
                .collect(),
            false => path,
        };
        let line = [letter.as_bytes(), b" /", &path, b"\n"].concat();
        output.out.write_all(&line)?;
    }
    Ok(0)
}
