//! Building images from Dockerfiles.
//!
//! A crate parses; [`dockerfile`] keeps what is to be done. Stages that the
//! target needs ([`plan`]) are built in their order, one [`stage`] at a time.
//! Each step that changes files makes a layer: `COPY`, `ADD` and `WORKDIR` write
//! its archive from where the files are ([`copy`]), nothing is mounted for it;
//! `RUN` is a container whose writable layer is read ([`run`]). The layer is in
//! the store before the next step begins.
//!
//! A step is known by the digest of all that makes it what it is: the chain of
//! layers below, the instruction with its variables put in, and the content,
//! modes and owners of what is copied. What it has made is found by that
//! ([`crate::store::steps`]).

pub mod context;
pub mod copy;
pub mod dockerfile;
mod files;
pub mod lines;
pub mod mode;
pub mod mounts;
pub mod owner;
pub mod pattern;
pub mod plan;
pub mod run;
pub mod scope;
pub mod stage;
pub mod tree;

use crate::container::Containers;
use crate::container::record::Network;
use crate::container::step::Written;
use crate::store::document::Platform;
use crate::store::error::{Error, Result, show};
use crate::store::image::Image;
use crate::store::load::Loaded;
use crate::store::reference::Reference;
use crate::store::time;
use context::Sources;
use dockerfile::{Dockerfile, Kind};
use scope::{Given, Scope, arg_words};
use stage::Built;
use std::collections::HashMap;
use std::fs::File;
use std::time::Duration;

/// What is to be built.
#[derive(Debug, Default)]
pub struct Options {
    /// What the image is to be called.
    pub names: Vec<Reference>,
    /// The stage; else the last.
    pub target: Option<String>,
    /// `KEY=VALUE`.
    pub args: Vec<String>,
    /// `KEY=VALUE`.
    pub labels: Vec<String>,
    /// Steps are done again though it is known what they made.
    pub no_cache: bool,
    /// Images are looked for in their registries though they are here.
    pub pull: bool,
    /// What the image is to run on.
    pub platform: Option<Platform>,
    /// What commands reach that say nothing else.
    pub network: Network,
    /// What commands may ask for, by name, and what is kept nowhere.
    pub secrets: HashMap<String, Vec<u8>>,
}

/// Who is told how far a build is.
pub trait Tell {
    /// A step begins: its stage if there are several, its number and of how
    /// many, and what it is.
    ///
    /// # Errors
    /// When it cannot be shown.
    fn begin(&mut self, stage: Option<&str>, step: (usize, usize), text: &str) -> Result<()>;

    /// What its command writes.
    ///
    /// # Errors
    /// When it cannot be shown.
    fn output(&mut self, written: Written<'_>) -> Result<()>;

    /// It is done, in that time; `None` if what it made was known.
    ///
    /// # Errors
    /// When it cannot be shown.
    fn end(&mut self, took: Option<Duration>) -> Result<()>;

    /// Get an image that is not here, or may be newer elsewhere.
    ///
    /// # Errors
    /// When it cannot be had.
    fn pull(&mut self, image: &str, platform: Option<&Platform>) -> Result<()>;

    /// Get what is at a URL into a file; when it was changed last, in seconds
    /// since 1970, if its server says that.
    ///
    /// # Errors
    /// When it cannot be had.
    fn fetch(&mut self, url: &str, to: &mut File) -> Result<Option<i64>>;
}

/// A build at work.
struct Build<'a> {
    containers: &'a Containers<'a>,
    runtime: Option<&'a std::path::Path>,
    sources: &'a Sources,
    options: &'a Options,
    file: &'a Dockerfile,
    given: Given,
    globals: Scope,
    platform: Platform,
    /// No time in what is made is later.
    latest: Option<i64>,
    built: HashMap<usize, Built<'a>>,
    /// Something that a step made before is not known any more.
    replaced: bool,
    /// Images by their names and what they were to run on: each is looked for
    /// once, and another platform's may have taken its name since.
    images: HashMap<(String, Option<Platform>), Image>,
    tell: &'a mut dyn Tell,
}

/// Build an image.
///
/// # Errors
/// For whatever is not as it must be; steps before that stay known.
pub fn build(
    containers: &Containers<'_>,
    runtime: Option<&std::path::Path>,
    sources: &Sources,
    options: &Options,
    tell: &mut dyn Tell,
) -> Result<Loaded> {
    let file = dockerfile::parse(&sources.name, &sources.text)?;
    let target = plan::target(&file, options.target.as_deref())?;
    containers.settle_all()?;
    // What steps make is in the store before an image has it.
    let adding = containers.store().lock_adding()?;
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    let given = Given::new(&options.args, &platform);
    let mut globals = Scope::default();
    for instruction in &file.globals {
        if let Kind::Arg(rest) = &instruction.kind {
            let words = globals.words(&given, file.escape);
            let words =
                arg_words(&words, rest).map_err(|e| at_line(sources, instruction.line, e))?;
            globals.declare(words, &given, None);
        }
    }
    let latest = match given.epoch() {
        Some(text) => Some(text.parse::<u32>().map(i64::from).map_err(|_| {
            Error::Invalid(format!(
                "SOURCE_DATE_EPOCH={} is not seconds since 1970",
                show(text.as_bytes())
            ))
        })?),
        None => time::source_date_epoch()?,
    };
    let mut build = Build {
        containers,
        runtime,
        sources,
        options,
        file: &file,
        given,
        globals,
        platform,
        latest,
        built: HashMap::new(),
        replaced: false,
        images: HashMap::new(),
        tell,
    };
    let bases = build.bases()?;
    let stages = plan::needed(&file, target, &bases);
    for at in &stages {
        let base = bases.get(*at).copied().flatten();
        build.stage(*at, base, stages.len() > 1)?;
    }
    build.warn_unused(&stages);
    let loaded = build.finish(target)?;
    let replaced = build.replaced;
    drop(build);
    drop(adding);
    if replaced {
        let store = containers.store();
        store.sweep(|| containers.users())?;
    }
    Ok(loaded)
}

impl<'a> Build<'a> {
    /// The stages that stages begin with.
    fn bases(&self) -> Result<Vec<Option<usize>>> {
        let words = self.globals.words(&self.given, self.file.escape);
        let mut out = Vec::new();
        for (at, stage) in self.file.stages.iter().enumerate() {
            let name = words
                .expand(&stage.base)
                .map_err(|e| at_line(self.sources, stage.line, e))?;
            let named = plan::stage_called(&self.file.stages, &name, at);
            // A number is an image here.
            out.push(named.filter(|_| name.parse::<usize>().is_err()));
        }
        Ok(out)
    }

    /// An image that is here, or was pulled.
    fn image(&mut self, name: &str, platform: Option<&Platform>) -> Result<Image> {
        let platform = platform.or(self.options.platform.as_ref());
        let mut asked = (name.to_owned(), platform.cloned());
        if let Some(image) = self.images.get(&asked) {
            return Ok(image.clone());
        }
        if platform.is_none() && self.images.keys().any(|(known, _)| known == name) {
            // Just now the name may be another platform's.
            asked.1 = Some(Platform::host());
        }
        let platform = asked.1.as_ref();
        let here = match self.options.pull {
            true => None,
            false => self.suiting(name, platform)?.ok(),
        };
        let image = match here {
            Some(image) => image,
            None => {
                self.tell.pull(name, platform)?;
                self.suiting(name, platform)??
            }
        };
        self.images.insert(asked, image.clone());
        Ok(image)
    }

    /// The image of that name, or why it does not do.
    fn suiting(&self, name: &str, platform: Option<&Platform>) -> Result<Result<Image>> {
        let store = self.containers.store();
        let image = match store.find_image(name) {
            Ok((image, _)) => image,
            Err(e @ Error::NotFound(_)) => return Ok(Err(e)),
            Err(e) => return Err(e),
        };
        let (config, _) = store.image_config(&image.id)?;
        if let Some(platform) = platform.filter(|p| !config.suits(p)) {
            let why = format!("image {} is not for {platform}", image.title());
            return Ok(Err(Error::Invalid(why)));
        }
        store.refuse_damaged(&image)?;
        Ok(Ok(image))
    }

    fn warn_unused(&self, stages: &[usize]) {
        let all = stages.iter().filter_map(|at| self.built.get(at));
        let scopes: Vec<&Scope> = all.map(|b| &b.scope).chain([&self.globals]).collect();
        let known = |name: &str| name == scope::EPOCH || scopes.iter().any(|s| s.knows(name));
        let unused = self.given.unused(&known);
        if !unused.is_empty() {
            log::warn!("no ARG takes the build argument {}", unused.join(", "));
        }
    }
}

/// An error with the place in the Dockerfile where it is from.
fn at_line(sources: &Sources, line: usize, e: Error) -> Error {
    let place = match line {
        0 => format!("{}: ", sources.name.display()),
        line => format!("{}:{line}: ", sources.name.display()),
    };
    match e {
        Error::System(what, e) => Error::System(place + &what, e),
        Error::NotFound(what) => Error::NotFound(place + &what),
        Error::Conflict(what) => Error::Conflict(place + &what),
        e => Error::Invalid(place + &e.to_string()),
    }
}
