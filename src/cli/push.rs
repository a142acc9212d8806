//! `push`.

use super::progress::{Display, Shown};
use super::{Failure, Outcome, Output, interrupt};
use crate::config::Config;
use crate::registry::credentials::Keyring;
use crate::registry::{Pushed, Registry, Sending};
use crate::store::image::Image;
use crate::store::{Digest, Error, Name, Reference, Store, staging};
use clap::Args;
use std::path::PathBuf;

/// Arguments of `push`.
#[derive(Debug, Args)]
pub struct Push {
    /// All tags of the repository that are here
    #[arg(short, long)]
    pub all_tags: bool,
    /// Print nothing but the name
    #[arg(short, long)]
    pub quiet: bool,
    /// Allow a registry without TLS
    #[arg(long)]
    pub insecure: bool,
    /// Credentials are in this file [env: REGISTRY_AUTH_FILE]
    #[arg(long, value_name = "FILE")]
    pub authfile: Option<PathBuf>,
    /// What to push, and where to
    #[arg(value_name = "NAME[:TAG]")]
    pub name: String,
}

/// Send an image to the registry that its name says.
///
/// # Errors
/// When it is not here or not taken there.
pub fn push(store: &Store, config: &Config, args: &Push, output: &mut Output<'_>) -> Outcome {
    interrupt::watch("layers that were sent stay in the registry");
    let name = Name::parse(&args.name)?;
    if name.digest.is_some() {
        return Err(Error::Invalid("cannot push a digest reference".to_owned()).into());
    }
    if args.all_tags && name.tagged {
        return Err(Error::Invalid("tag can't be used with --all-tags/-a".to_owned()).into());
    }
    if !name.tagged && !args.all_tags && !args.quiet {
        writeln!(output.out, "Using default tag: {}", name.reference.tag())?;
    }
    let wanted = |n: &Reference| match args.all_tags {
        true => n.same_repository(&name.reference),
        false => *n == name.reference,
    };
    let mut found: Vec<(Reference, Image)> = Vec::new();
    for image in store.images()? {
        let names = image.names.iter().filter(|n| wanted(n));
        found.extend(names.map(|n| (n.clone(), image.clone())));
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    let repository = format!("{}/{}", name.reference.domain(), name.reference.path());
    if !args.quiet {
        writeln!(output.out, "The push refers to repository [{repository}]")?;
    }
    if found.is_empty() {
        let reference = &name.reference;
        let absent = match args.all_tags {
            true => format!(
                "An image does not exist locally with the tag: {}",
                reference.familiar()
            ),
            false => format!("tag does not exist: {}", reference.familiar_tagged()),
        };
        return Err(Error::NotFound(absent).into());
    }
    let keeper = Keyring::new(args.authfile.as_deref()).keeper();
    let registry = Registry::new(name.reference.domain(), config, args.insecure, keeper)?;
    for (name, image) in &found {
        let pushed = send(store, &registry, name, image, args.quiet, output)?;
        staging::committing().changed();
        let (
            tag,
            Pushed {
                digest,
                size,
                noted,
            },
        ) = (name.tag(), pushed);
        if !args.quiet {
            writeln!(output.out, "{tag}: digest: {digest} size: {size}")?;
        }
        if let Err(e) = noted {
            writeln!(
                output.err,
                "warning: {} was pushed, but its digest is not noted here: {e}",
                name.familiar_tagged()
            )?;
        }
    }
    if args.quiet {
        match args.all_tags {
            true => writeln!(output.out, "{repository}")?,
            false => writeln!(output.out, "{}", name.reference)?,
        }
    }
    Ok(0)
}

/// Send one image, and show how.
fn send(
    store: &Store,
    registry: &Registry,
    name: &Reference,
    image: &Image,
    quiet: bool,
    output: &mut Output<'_>,
) -> Result<Pushed, Failure> {
    Display::new(quiet).follow(output, |sender| {
        let tell = |digest: &Digest, sending| {
            let _ = sender.send((digest.short(), words(sending)));
        };
        registry.push(store, image, name, &tell)
    })
}

/// Docker's words.
fn words(sending: Sending) -> Vec<Shown> {
    vec![match sending {
        Sending::Preparing => Shown::state("Preparing"),
        Sending::Waiting => Shown::state("Waiting"),
        Sending::Exists => Shown::state("Layer already exists"),
        Sending::Mounted(from) => Shown::State(format!("Mounted from {from}")),
        Sending::Sent(at, size) => Shown::Bytes("Pushing", at, size),
        Sending::Retrying(time) => Shown::retrying(time),
        Sending::Done => Shown::state("Pushed"),
    }]
}
