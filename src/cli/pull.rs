//! `pull`.

use super::progress::{Display, Shown};
use super::{Failure, Outcome, Output, interrupt, platform};
use crate::config::Config;
use crate::registry::credentials::Keyring;
use crate::registry::{Found, Progress, Registry};
use crate::store::document::Platform;
use crate::store::load::Step;
use crate::store::{Digest, Error, Name, Store};
use clap::Args;
use std::path::PathBuf;

/// Arguments of `pull`.
#[derive(Debug, Args)]
pub struct Pull {
    /// All tags of the repository
    #[arg(short, long)]
    pub all_tags: bool,
    /// Print nothing but the name
    #[arg(short, long)]
    pub quiet: bool,
    /// Of an image for several platforms the one for this [env: DOCKER_DEFAULT_PLATFORM]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Allow a registry without TLS
    #[arg(long)]
    pub insecure: bool,
    /// Credentials are in this file [env: REGISTRY_AUTH_FILE]
    #[arg(long, value_name = "FILE")]
    pub authfile: Option<PathBuf>,
    /// What to pull
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub name: String,
}

/// Get an image from a registry.
///
/// # Errors
/// When it cannot be had; what was complete before stays.
pub fn pull(store: &Store, config: &Config, args: &Pull, output: &mut Output<'_>) -> Outcome {
    interrupt::watch(interrupt::NOTHING);
    let name = Name::parse(&args.name)?;
    if args.all_tags && (name.tagged || name.digest.is_some()) {
        return Err(Error::Invalid("tag can't be used with --all-tags/-a".to_owned()).into());
    }
    let platform = platform::wanted(args.platform.as_deref())?;
    let keeper = Keyring::new(args.authfile.as_deref()).keeper();
    let domain = name.reference.domain();
    let registry = Registry::new(domain, config, args.insecure, keeper)?;
    let bare = !name.tagged && name.digest.is_none() && !args.all_tags;
    if bare && !args.quiet {
        writeln!(output.out, "Using default tag: {}", name.reference.tag())?;
    }
    let names = match args.all_tags {
        false => vec![name.clone()],
        true => {
            let tags = registry.tags(name.reference.path())?;
            let with_tag = |tag: &String| {
                let repository = name.reference.familiar();
                Name::parse(&format!("{repository}:{tag}"))
            };
            tags.iter().map(with_tag).collect::<Result<_, _>>()?
        }
    };
    let pull = One {
        store,
        registry: &registry,
        platform: platform.as_ref(),
        quiet: args.quiet,
    };
    let mut changed = false;
    for name in &names {
        changed |= pull.pull(name, output)?;
    }
    let (familiar, full) = if args.all_tags {
        let full = format!("{domain}/{}", name.reference.path());
        (name.reference.familiar(), full)
    } else {
        match name.digest {
            Some(digest) => (
                format!("{}@{digest}", name.reference.familiar()),
                format!("{domain}/{}@{digest}", name.reference.path()),
            ),
            None => (name.reference.familiar_tagged(), name.reference.to_string()),
        }
    };
    if !args.quiet {
        let status = match changed {
            true => "Downloaded newer image for",
            false => "Image is up to date for",
        };
        writeln!(output.out, "Status: {status} {familiar}")?;
    }
    writeln!(output.out, "{full}")?;
    Ok(0)
}

/// How every one of several images is pulled.
struct One<'a> {
    store: &'a Store,
    registry: &'a Registry,
    platform: Option<&'a Platform>,
    quiet: bool,
}

impl One<'_> {
    /// Pull one image; is it new here.
    fn pull(&self, name: &Name, output: &mut Output<'_>) -> Result<bool, Failure> {
        let reference = &name.reference;
        let found = self.registry.find(self.store, name, self.platform)?;
        if !self.quiet {
            let what = match name.digest {
                Some(digest) => format!("{}/{}@{digest}", reference.domain(), reference.path()),
                None => reference.tag().to_owned(),
            };
            writeln!(output.out, "{what}: Pulling from {}", reference.path())?;
        }
        let (new, digest) = (!found.up_to_date, found.digest);
        self.fetch(name, found, output)?;
        if !self.quiet {
            writeln!(output.out, "Digest: {digest}")?;
        }
        Ok(new)
    }

    /// Fetch what is missing, and show how.
    fn fetch(&self, name: &Name, found: Found, output: &mut Output<'_>) -> Result<(), Failure> {
        Display::new(self.quiet).follow(output, |sender| {
            let tell = |digest: &Digest, progress| {
                let _ = sender.send((digest.short(), words(progress)));
            };
            self.registry
                .pull(self.store, &name.reference, found, &tell)
        })
    }
}

/// Docker's words.
fn words(progress: Progress) -> Vec<Shown> {
    let state = |text| vec![Shown::state(text)];
    match progress {
        Progress::Step(Step::Present) => state("Already exists"),
        Progress::Step(Step::Wanted) => state("Pulling fs layer"),
        Progress::Step(Step::Waiting) => state("Waiting"),
        Progress::Step(Step::Done) => state("Pull complete"),
        Progress::Downloading(at, size) => vec![Shown::Bytes("Downloading", at, size)],
        Progress::Retrying(time) => vec![Shown::retrying(time)],
        Progress::Downloaded => vec![
            Shown::state("Verifying Checksum"),
            Shown::state("Download complete"),
        ],
    }
}
