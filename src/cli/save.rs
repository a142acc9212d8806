//! `save`.

use super::{Outcome, Output, interrupt, outfile, platform};
use crate::store::save::Format as StoreFormat;
use crate::store::{Error, Store};
use clap::ValueEnum;
use std::path::PathBuf;

/// Arguments of `save`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write to this file or directory instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// What is written
    #[arg(long, value_enum, default_value = "docker-archive")]
    pub format: Format,
    /// Only if the images are for this
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Names or ids; a name without a tag means all tags
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
}

/// The forms in which images are saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// As docker since version 25 writes it: an OCI layout that older programs
    /// read too
    #[value(alias = "docker")]
    DockerArchive,
    /// An OCI layout as a tar archive
    #[value(alias = "oci")]
    OciArchive,
    /// An OCI layout as a directory
    OciDir,
}

/// Write images to a file, a directory or standard output.
///
/// # Errors
/// When an image is not there or damaged, or writing fails.
pub fn save(store: &Store, args: &Args, output: &mut Output<'_>) -> Outcome {
    let file = args.output.as_deref().filter(|o| o.as_os_str() != "-");
    interrupt::watch(match file {
        Some(_) => interrupt::NOTHING,
        None => "what was written is not complete",
    });
    let platform = platform::given(args.platform.as_deref())?;
    let wanted = store.wanted(&args.images)?;
    if let Some(platform) = platform {
        store.wanted_for(&wanted, &platform)?;
    }
    let format = match args.format {
        Format::DockerArchive => StoreFormat::Docker,
        Format::OciArchive => StoreFormat::Oci,
        Format::OciDir => {
            let Some(dir) = file else {
                let why = "a directory must have a name: give -o DIR";
                return Err(Error::Invalid(why.to_owned()).into());
            };
            outfile::write_dir(dir, |dir| store.save_dir(&wanted, dir))?;
            return Ok(0);
        }
    };
    match file {
        Some(file) => outfile::write(file, |out| store.save(&wanted, format, out))?,
        None => {
            outfile::refuse_terminal()?;
            store.save(&wanted, format, &mut *output.out)?;
        }
    }
    Ok(0)
}
