//! `logout`.

use super::{Outcome, Output};
use crate::registry::credentials::{Keyring, Server};
use clap::Args;
use std::path::PathBuf;

/// Arguments of `logout`.
#[derive(Debug, Args)]
pub struct Logout {
    /// Remove it from this file alone [env: REGISTRY_AUTH_FILE]
    #[arg(long, value_name = "FILE")]
    pub authfile: Option<PathBuf>,
    /// The registry [default: Docker Hub]
    #[arg(value_name = "SERVER")]
    pub server: Option<String>,
}

/// Forget a login, wherever it is kept.
///
/// # Errors
/// When a file cannot be rewritten, or a helper fails.
pub fn logout(args: &Logout, output: &mut Output<'_>) -> Outcome {
    let server = Server::parse(args.server.as_deref().unwrap_or_default())?;
    let done = match Keyring::new(args.authfile.as_deref()).forget(&server)? {
        true => "Removing login credentials for",
        false => "Not logged in to",
    };
    writeln!(output.out, "{done} {}", server.key())?;
    Ok(0)
}
