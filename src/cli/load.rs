//! `load`.

use super::args;
use super::progress::{Display, Shown};
use super::{Outcome, Output, interrupt, platform};
use crate::store::error::invalid;
use crate::store::load::Wish;
use crate::store::{Digest, Store};
use std::io::IsTerminal;

/// Load images and say what they are called.
///
/// # Errors
/// When the archive is bad or cannot be stored.
pub fn load(store: &Store, args: &args::Load, output: &mut Output<'_>) -> Outcome {
    interrupt::watch(interrupt::NOTHING);
    let platform = platform::given(args.platform.as_deref())?;
    let loaded = Display::new(args.quiet).follow(output, |sender| {
        let tell = |layer: &Digest, at, size| {
            let shown = vec![Shown::Bytes("Loading layer", at, size)];
            let _ = sender.send((layer.short(), shown));
        };
        let wish = Wish {
            platform: platform.as_ref(),
            tell: Some(&tell),
        };
        match &args.input {
            Some(path) if path.as_os_str() != "-" => store.load_as(path, wish),
            _ => {
                let stdin = std::io::stdin();
                if stdin.is_terminal() {
                    return invalid("requested load from stdin, but stdin is empty: give -i FILE");
                }
                store.load_stream(stdin, wish)
            }
        }
    })?;
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
