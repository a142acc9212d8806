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

/// Say which program this is. There is no server: who asks for its version asks
/// what does the work, which is the same program.
///
/// # Errors
/// For a bad template.
pub fn version(args: &Args, output: &mut Output<'_>) -> Outcome {
    let (version, os, arch) = (
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        host_architecture(),
    );
    let this = json!({"Version": version, "Os": os, "Arch": arch});
    let value = json!({"Client": this, "Server": this});
    match args.format.as_deref() {
        None | Some("") => writeln!(output.out, "capas version {version}\n OS/Arch: {os}/{arch}")?,
        Some("json") => writeln!(output.out, "{value}")?,
        Some(text) => writeln!(output.out, "{}", Template::parse(text)?.render(&value)?)?,
    }
    Ok(0)
}
