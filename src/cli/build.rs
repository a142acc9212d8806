//! `build`.

use super::create::{self, NetworkName};
use super::{Outcome, Output, dockerconf, interrupt, platform};
use crate::build::{self, Options, Tell, context};
use crate::container::Containers;
use crate::container::record::Network;
use crate::container::step::Written;
use crate::registry::download;
use crate::store::document::Platform;
use crate::store::error::{Context, invalid, show};
use crate::store::{Reference, Result, read_file};
use crate::sys::terminal;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Arguments of `build`.
#[derive(Debug, clap::Args)]
pub struct Build {
    /// What the image is to be called
    #[arg(short, long, value_name = "NAME[:TAG]")]
    pub tag: Vec<String>,
    /// The Dockerfile, - for standard input [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The stage to be built [default: the last]
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// Give an ARG its value, or hand our variable on
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub build_arg: Vec<String>,
    /// Label the image
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub label: Vec<String>,
    /// Do every step, though it is known what it makes
    #[arg(long)]
    pub no_cache: bool,
    /// Look for newer images in their registries
    #[arg(long)]
    pub pull: bool,
    /// What the image is to run on [env: DOCKER_DEFAULT_PLATFORM]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// What commands reach that say nothing else
    #[arg(long, value_enum, default_value = "host")]
    pub network: NetworkName,
    /// Something that RUN --mount=type=secret may show to a command [default source: the variable, else the file, of its id]
    #[arg(long, value_name = "id=ID[,src=FILE|,env=NAME]")]
    pub secret: Vec<String>,
    /// Print nothing but the image's id
    #[arg(short, long)]
    pub quiet: bool,
    /// Docker's choice of how this is shown, which is always as plain text here
    #[arg(long, value_name = "HOW", hide = true)]
    pub progress: Option<String>,
    /// Docker's word for what is done here in any case
    #[arg(long, aliases = ["force-rm", "load"], hide = true)]
    pub rm: bool,
    /// Where docker may look for what steps have made, which is known here
    #[arg(long, value_name = "WHERE", hide = true)]
    pub cache_from: Vec<String>,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,
    /// The directory to copy from, - for an archive on standard input
    pub context: String,
}

/// Build an image from a Dockerfile.
///
/// # Errors
/// For whatever is not as it must be; steps before that are known next time.
pub fn build(
    containers: &Containers<'_>,
    args: &Build,
    runtime: Option<&Path>,
    output: &mut Output<'_>,
) -> Outcome {
    interrupt::watch(interrupt::NOTHING);
    let names = args.tag.iter().map(|name| Reference::parse(name));
    let options = Options {
        names: names.collect::<Result<_>>()?,
        target: args.target.clone(),
        args: [dockerconf::proxies(&args.build_arg), args.build_arg.clone()].concat(),
        labels: args.label.clone(),
        no_cache: args.no_cache,
        pull: args.pull,
        platform: platform::wanted(args.platform.as_deref())?,
        network: match args.network {
            NetworkName::Host => Network::Host,
            NetworkName::None => Network::None,
            NetworkName::Private => Network::Private,
        },
        secrets: args
            .secret
            .iter()
            .map(|s| secret(s))
            .collect::<Result<_>>()?,
    };
    let sources = context::open(
        containers.store(),
        &args.context,
        args.file.as_deref(),
        &mut std::io::stdin(),
    )?;
    let mut progress = Progress {
        containers,
        err: output.err,
        quiet: args.quiet,
        bold: terminal::is_terminal(std::io::stderr()),
        heard: Vec::new(),
    };
    let done = build::build(containers, runtime, &sources, &options, &mut progress);
    if done.is_err() {
        // Else nobody could know what went wrong.
        let heard = std::mem::take(&mut progress.heard);
        output.err.write_all(&heard)?;
    }
    let done = done?;
    if let Some(path) = &args.iidfile {
        std::fs::write(path, done.id.to_string())
            .context(|| format!("cannot write {}", path.display()))?;
    }
    if args.quiet {
        writeln!(output.out, "{}", done.id)?;
        return Ok(0);
    }
    writeln!(output.out, "Successfully built {}", done.id.short())?;
    for name in &done.names {
        writeln!(output.out, "Successfully tagged {}", name.familiar_tagged())?;
    }
    Ok(0)
}

/// No secret is larger.
const MAX_SECRET: u64 = 500 << 10;

/// The name and the content of what `--secret` gives.
fn secret(text: &str) -> Result<(String, Vec<u8>)> {
    let bad = |why: &str| invalid(format!("--secret={}: {why}", show(text.as_bytes())));
    let (mut id, mut file, mut variable) = (None, None, None);
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("id", value)) if !value.is_empty() => id = Some(value),
            Some(("src" | "source", value)) => file = Some(value),
            Some(("env", value)) => variable = Some(value),
            Some(("type", "file" | "env")) => {}
            _ => return bad(&format!("{} is not known", show(field.as_bytes()))),
        }
    }
    let Some(id) = id else {
        return bad("it needs id=ID");
    };
    let set = |name: &str| std::env::var_os(name).map(OsString::into_vec);
    let content = match (file, variable) {
        (Some(_), Some(_)) => return bad("give src or env, not both"),
        (None, Some(name)) => match set(name) {
            Some(value) => value,
            None => {
                return bad(&format!(
                    "the variable {} is not set",
                    show(name.as_bytes())
                ));
            }
        },
        (None, None) if set(id).is_some() => set(id).unwrap_or_default(),
        (file, None) => read_file(Path::new(file.unwrap_or(id)), MAX_SECRET)?,
    };
    Ok((id.to_owned(), content))
}

/// Shows how far a build is.
struct Progress<'a> {
    containers: &'a Containers<'a>,
    err: &'a mut dyn Write,
    quiet: bool,
    bold: bool,
    /// What the command of the step has written, where nothing is shown.
    heard: Vec<u8>,
}

/// No more of that is kept.
const HEARD: usize = 1 << 20;

fn say() -> String {
    "cannot show how far the build is".to_owned()
}

impl Tell for Progress<'_> {
    fn begin(&mut self, stage: Option<&str>, (step, of): (usize, usize), text: &str) -> Result<()> {
        self.heard.clear();
        if self.quiet {
            return Ok(());
        }
        let (on, off) = match self.bold {
            true => ("\x1b[1m", "\x1b[0m"),
            false => ("", ""),
        };
        let stage = stage.map(|s| format!("{s} ")).unwrap_or_default();
        let text = show(text.as_bytes());
        writeln!(self.err, "{on}[{stage}{step}/{of}] {text}{off}").context(say)
    }

    fn output(&mut self, written: Written<'_>) -> Result<()> {
        let (Written::Output(data) | Written::Error(data)) = written;
        if !self.quiet {
            return self.err.write_all(data).context(say);
        }
        self.heard.extend_from_slice(data);
        let extra = self.heard.len().saturating_sub(HEARD);
        self.heard.drain(..extra);
        Ok(())
    }

    fn end(&mut self, took: Option<Duration>) -> Result<()> {
        match took {
            _ if self.quiet => Ok(()),
            None => writeln!(self.err, " => CACHED").context(say),
            Some(took) => writeln!(self.err, " => {:.1}s", took.as_secs_f64()).context(say),
        }
    }

    fn fetch(&mut self, url: &str, to: &mut File) -> Result<Option<i64>> {
        let waiting = |time: Duration| log::warn!("retrying in {} seconds", time.as_secs());
        // Whoever writes http:// means it.
        let insecure = url.starts_with("http://");
        let mut file = download(url, insecure, Box::new(waiting))?;
        let copied = std::io::copy(&mut file, to);
        copied.context(|| format!("cannot get {}", show(url.as_bytes())))?;
        Ok(file.changed)
    }

    fn pull(&mut self, image: &str, platform: Option<&Platform>) -> Result<()> {
        create::fetch(self.containers, image, platform)
    }
}
