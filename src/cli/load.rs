//! `load`.

use super::args;
use super::{Outcome, Output, interrupt};
use crate::store::{Error, Store};
use std::io::IsTerminal;

/// Load images and say what they are called.
///
/// # Errors
/// When the archive is bad or cannot be stored.
pub fn load(store: &Store, args: &args::Load, output: &mut Output<'_>) -> Outcome {
    interrupt::watch();
    let loaded = match &args.input {
        Some(path) if path.as_os_str() != "-" => store.load(path)?,
        _ => {
            let stdin = std::io::stdin();
            if stdin.is_terminal() {
                return Err(Error::Invalid(
                    "requested load from stdin, but stdin is empty: give -i FILE".to_owned(),
                )
                .into());
            }
            store.load_stream(stdin)?
        }
    };
    for image in loaded {
        for (name, old) in &image.replaced {
            writeln!(
                output.out,
                "The image {} already exists, renaming the old one with ID {old} to empty string",
                name.familiar_tagged()
            )?;
        }
        for name in &image.names {
            writeln!(output.out, "Loaded image: {}", name.familiar_tagged())?;
        }
        if image.names.is_empty() {
            writeln!(output.out, "Loaded image ID: {}", image.id)?;
        }
    }
    Ok(0)
}
