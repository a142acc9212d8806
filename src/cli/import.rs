//! `import`.

use super::{Outcome, Output, units};
use crate::store::error::{Context, show};
use crate::store::load::Import;
use crate::store::{Error, Reference, Store};
use std::fs::File;
use std::io::IsTerminal;
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
    /// An archive, or `-` for standard input
    #[arg(value_name = "FILE|-")]
    pub file: PathBuf,
    /// The name of the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub name: Option<String>,
}

/// Make an image of an archive and print its id.
///
/// # Errors
/// When the archive, the name or a change is bad, or the store cannot be
/// written.
pub fn import(store: &Store, args: &Args, output: &mut Output<'_>) -> Outcome {
    let name = args.name.as_deref().map(Reference::parse).transpose()?;
    let file = open(&args.file)?;
    // Docker sends the archive along and knows no more than that either.
    let comment = args.message.as_deref().unwrap_or("Imported from -");
    let loaded = store.import(
        file,
        Import {
            name,
            changes: args.change.clone(),
            comment: comment.to_owned(),
            created: crate::store::time::format(units::now(), 0),
        },
    )?;
    writeln!(output.out, "{}", loaded.id)?;
    Ok(0)
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
    let text = path.to_string_lossy();
    if text.starts_with("http://") || text.starts_with("https://") {
        return Err(Error::Invalid(format!(
            "{} is not fetched here: try \"curl -L URL | capas import -\"",
            show(text.as_bytes())
        )));
    }
    File::open(path).context(|| format!("cannot open {}", path.display()))
}
