//! `commit`.

use super::{Outcome, Output, interrupt};
use crate::container::{Containers, commit};
use crate::store::Reference;

/// Arguments of `commit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Who made the image
    #[arg(short, long, value_name = "NAME")]
    pub author: Option<String>,
    /// Apply an instruction of a Dockerfile to the image
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub change: Vec<String>,
    /// What the image's history says
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    /// Let the container stand still meanwhile [default: true, where it can be]
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub pause: Option<bool>,
    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    pub container: String,
    /// The name of the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub name: Option<String>,
}

/// Make an image of a container and print its id.
///
/// # Errors
/// When there is no such container, a name or change is bad, or the store cannot
/// be written.
pub fn commit(containers: &Containers<'_>, args: Args, output: &mut Output<'_>) -> Outcome {
    interrupt::watch(interrupt::NOTHING);
    let wish = commit::Wish {
        name: args.name.as_deref().map(Reference::parse).transpose()?,
        author: args.author.unwrap_or_default(),
        message: args.message.unwrap_or_default(),
        changes: args.change,
        pause: args.pause,
    };
    let loaded = containers.commit(&containers.find(&args.container)?, wish)?;
    writeln!(output.out, "{}", loaded.id)?;
    Ok(0)
}
