//! `version`.

use super::template::Template;
use super::{Outcome, Output};
use crate::store::document::host_architecture;
use serde_json::json;

/// Arguments of `version`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print `json`, or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<String>,
}

/// Say which program this is. There is no server; docker's fields of the client
/// are here so that scripts find them.
///
/// # Errors
/// For a bad template.
pub fn version(args: &Args, output: &mut Output<'_>) -> Outcome {
    let (version, os, arch) = (
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        host_architecture(),
    );
    let value = json!({"Client": {"Version": version, "Os": os, "Arch": arch}});
    match args.format.as_deref() {
        None | Some("") => writeln!(output.out, "capas version {version}\n OS/Arch: {os}/{arch}")?,
        Some("json") => writeln!(output.out, "{value}")?,
        Some(text) => writeln!(output.out, "{}", Template::parse(text)?.render(&value)?)?,
    }
    Ok(0)
}
