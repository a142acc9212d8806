//! `rmi`.

use super::{Failure, Outcome, Output, interrupt};
use crate::container::Containers;
use crate::store::Error;
use crate::store::remove::Removed;

/// Arguments of `rmi`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also what is in use by containers that do not run, or has several names
    #[arg(short, long)]
    pub force: bool,
    /// Accepted for compatibility: images have no parents here
    #[arg(long)]
    pub no_prune: bool,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    pub names: Vec<String>,
}

/// Remove names and images.
///
/// # Errors
/// When one of them is not there or in use; the others are removed.
pub fn rmi(containers: &Containers<'_>, args: &Args, output: &mut Output<'_>) -> Outcome {
    interrupt::watch(interrupt::REMOVING);
    let store = containers.store();
    let mut code = 0;
    let mut gone = false;
    // Told when all is done: that does not depend on who reads of it.
    let mut told = String::new();
    for name in &args.names {
        match store.remove_image(name, args.force, || containers.users()) {
            Ok(removed) => {
                for what in removed {
                    told.push_str(&match what {
                        Removed::Name(name) => format!("Untagged: {}\n", name.familiar_tagged()),
                        Removed::Digest(digest) => format!("Untagged: {}\n", digest.familiar()),
                        Removed::Image(id) => {
                            gone = true;
                            format!("Deleted: {id}\n")
                        }
                    });
                }
            }
            // As `rm -f`, which is not surprised either.
            Err(Error::NotFound(text)) if args.force => writeln!(output.err, "Error: {text}")?,
            Err(e) => {
                code = 1;
                writeln!(output.err, "Error: {e}")?;
            }
        }
    }
    let swept = match gone {
        true => store.sweep(|| containers.users()),
        false => Ok(()),
    };
    output.out.write_all(told.as_bytes())?;
    swept?;
    match code {
        0 => Ok(0),
        code => Err(Failure::Said(code)),
    }
}
