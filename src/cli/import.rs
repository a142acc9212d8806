//! `import`.

use super::progress::{Display, Shown};
use super::{Failure, Outcome, Output, interrupt, platform, units};
use crate::registry::download;
use crate::store::document::Platform;
use crate::store::error::{Context, show};
use crate::store::load::{Import, Loaded};
use crate::store::{Error, Reference, Store};
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Apply an instruction of a Dockerfile to the image
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub change: Vec<String>,
    /// What the image's history says
    #[arg(short, long)]
    pub message: Option<String>,
    /// What the image runs on [env: DOCKER_DEFAULT_PLATFORM] [default: this machine]
    #[arg(long, value_name = "OS[/ARCH[/VARIANT]]")]
    pub platform: Option<String>,
    /// Allow a URL without TLS
    #[arg(long)]
    pub insecure: bool,
    /// An archive, its http or https URL, or `-` for standard input
    #[arg(value_name = "FILE|URL|-")]
    pub source: PathBuf,
    /// The name of the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub name: Option<String>,
}

/// Make an image of an archive and print its id.
///
/// # Errors
/// When the archive cannot be had, when it, the name or a change is bad, or the
/// store cannot be written.
pub fn import(store: &Store, args: &Args, output: &mut Output<'_>) -> Outcome {
    interrupt::watch(interrupt::NOTHING);
    let platform = platform::wanted(args.platform.as_deref())?;
    let name = args.name.as_deref().map(Reference::parse).transpose()?;
    let url = args.source.to_str().filter(|source| is_url(source));
    // Docker sends a file along and knows no more than that of it either.
    let from = url.unwrap_or("-");
    let comment = args.message.clone();
    let wish = Import {
        name,
        changes: args.change.clone(),
        comment: comment.unwrap_or_else(|| format!("Imported from {from}")),
        created: units::now_text(),
        platform: platform.unwrap_or_else(Platform::host),
    };
    let loaded = match url {
        Some(url) => fetch(store, url, args.insecure, wish, output)?,
        None => store.import(open(&args.source)?, wish)?,
    };
    writeln!(output.out, "{}", loaded.id)?;
    Ok(0)
}

fn is_url(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}

/// Import what is at a URL, and show how it comes.
fn fetch(
    store: &Store,
    url: &str,
    insecure: bool,
    wish: Import,
    output: &mut Output<'_>,
) -> Result<Loaded, Failure> {
    writeln!(output.out, "Downloading from {}", show(url.as_bytes()))?;
    let name = url.rsplit('/').next().unwrap_or_default();
    let name = show(name.as_bytes());
    Display::new(false).follow(output, |sender| {
        let tell = {
            let (name, sender) = (name.clone(), sender.clone());
            move |time| {
                let _ = sender.send((name.clone(), vec![Shown::retrying(time)]));
            }
        };
        let file = download(url, insecure, Box::new(tell))?;
        let size = file.size;
        let mut at = 0;
        let counted = Counted(file, |n| {
            at += n as u64;
            let shown = Shown::Bytes("Importing", at, size.unwrap_or(at));
            let _ = sender.send((name.clone(), vec![shown]));
        });
        store.import_stream(counted, wish)
    })
}

/// Says how much is read.
struct Counted<R, T>(R, T);

impl<R: Read, T: FnMut(usize)> Read for Counted<R, T> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.0.read(buf)?;
        (self.1)(n);
        Ok(n)
    }
}

fn open(path: &Path) -> Result<File, Error> {
    if path.as_os_str() == "-" {
        let stdin = std::io::stdin();
        if stdin.is_terminal() {
            return Err(Error::Invalid(
                "the archive would be read from a terminal: give a file, or redirect".to_owned(),
            ));
        }
        let fd = stdin.as_fd().try_clone_to_owned();
        return Ok(fd
            .context(|| "cannot read standard input".to_owned())?
            .into());
    }
    File::open(path).context(|| format!("cannot open {}", path.display()))
}
