//! `login`.

use super::{Failure, Outcome, Output, interrupt};
use crate::config::Config;
use crate::registry::credentials::{Kept, Keyring, Server};
use crate::registry::{Credentials, Registry, Secret};
use crate::store::error::{Context, Error, Result as StoreResult, invalid};
use crate::store::staging;
use crate::sys::terminal;
use clap::Args;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::sync::Arc;

/// No secret on standard input is longer.
const MAX_SECRET: u64 = 1 << 20;

/// Arguments of `login`.
#[derive(Debug, Args)]
pub struct Login {
    /// User name
    #[arg(short, long, value_name = "NAME")]
    pub username: Option<String>,
    /// Password; whoever lists processes can see it
    #[arg(short, long)]
    pub password: Option<String>,
    /// Take the password from standard input
    #[arg(long)]
    pub password_stdin: bool,
    /// Keep it in this file [env: REGISTRY_AUTH_FILE]
    #[arg(long, value_name = "FILE")]
    pub authfile: Option<PathBuf>,
    /// Allow a registry without TLS
    #[arg(long)]
    pub insecure: bool,
    /// The registry [default: Docker Hub]
    #[arg(value_name = "SERVER")]
    pub server: Option<String>,
}

/// Let the registry check a name and a password, and keep them.
///
/// # Errors
/// When the registry refuses or cannot be asked; nothing is kept then.
pub fn login(config: &Config, args: &Login, output: &mut Output<'_>) -> Outcome {
    interrupt::watch(interrupt::NOTHING);
    let server = Server::parse(args.server.as_deref().unwrap_or_default())?;
    let kept = Keyring::new(args.authfile.as_deref());
    let mut username = args.username.clone().unwrap_or_default();
    let mut password = password(args, output)?;
    let mut usual = String::new();
    if username.is_empty()
        && password.is_empty()
        && let Some(old) = known(&kept, &server)
    {
        usual.clone_from(&old.username);
        if again(config, &server, &old, args.insecure, output)? {
            return succeeded(output);
        }
    }
    if username.is_empty() || password.is_empty() {
        if !std::io::stdin().is_terminal() {
            return Err(Error::Invalid(
                "cannot perform an interactive login from a non TTY device: give --username and --password-stdin"
                    .to_owned(),
            )
            .into());
        }
        if username.is_empty() {
            username = ask_username(&usual, output)?;
        }
        if password.is_empty() {
            password = ask_password(output)?;
        }
    }
    if username.contains(':') {
        return Ok(invalid("a user name has no colon in it")?);
    }
    let mut login = Credentials {
        username,
        secret: Secret::Password(password),
    };
    if let Some(token) = verify(config, &server, &login, args.insecure)? {
        login.secret = Secret::IdentityToken(token);
    }
    let secret_is_password = matches!(login.secret, Secret::Password(_));
    let mut interrupts = staging::committing();
    let place = kept.keep(&server, &login)?;
    interrupts.changed();
    drop(interrupts);
    if let Kept::File(path) = place
        && secret_is_password
    {
        writeln!(
            output.err,
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\n\
             Configure a credential helper to remove this warning. See\n\
             https://docs.docker.com/go/credential-store/\n",
            path.display()
        )?;
    }
    succeeded(output)
}

fn succeeded(output: &mut Output<'_>) -> Outcome {
    writeln!(output.out, "Login Succeeded")?;
    Ok(0)
}

/// What is kept. What cannot be read is warned of: a login may mend it.
fn known(kept: &Keyring, server: &Server) -> Option<Credentials> {
    let found = kept.find(server.host(), server.path());
    found.unwrap_or_else(|e| {
        log::warn!("{e}");
        None
    })
}

/// The password that the arguments give, if they do.
fn password(args: &Login, output: &mut Output<'_>) -> Result<String, Failure> {
    let given = args.password.clone().unwrap_or_default();
    if !given.is_empty() {
        let warning = "WARNING! Using --password via the CLI is insecure. Use --password-stdin.";
        writeln!(output.err, "{warning}")?;
    }
    if !args.password_stdin {
        return Ok(given);
    }
    if args.password.is_some() {
        return Ok(invalid(
            "--password and --password-stdin are mutually exclusive",
        )?);
    }
    if args.username.as_deref().unwrap_or_default().is_empty() {
        return Ok(invalid(
            "the --password-stdin option requires --username to be set",
        )?);
    }
    let mut text = String::new();
    std::io::stdin()
        .take(MAX_SECRET)
        .read_to_string(&mut text)
        .context(|| "cannot read the password from standard input".to_owned())?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    match text {
        "" => Ok(invalid("the password on standard input is empty")?),
        text => Ok(text.to_owned()),
    }
}

/// Is what is kept still good.
fn again(
    config: &Config,
    server: &Server,
    old: &Credentials,
    insecure: bool,
    output: &mut Output<'_>,
) -> Result<bool, Failure> {
    let user = match old.username.as_str() {
        "" => String::new(),
        name => format!(" [Username: {name}]"),
    };
    writeln!(
        output.err,
        "Authenticating with existing credentials...{user}\n\n\
         i Info → To login with a different account, run 'capas logout' followed by 'capas login'\n\n"
    )?;
    match verify(config, server, old, insecure) {
        Ok(_) => Ok(true),
        Err(e) => {
            writeln!(output.err, "Login did not succeed, error: {e}")?;
            Ok(false)
        }
    }
}

/// What the registry says; a token to keep, if it gives one.
fn verify(
    config: &Config,
    server: &Server,
    login: &Credentials,
    insecure: bool,
) -> StoreResult<Option<String>> {
    let login = login.clone();
    let keeper = Arc::new(move |_: &str, _: Option<&str>| Ok(Some(login.clone())));
    Registry::new(server.host(), config, insecure, keeper)?.login()
}

fn ask_username(usual: &str, output: &mut Output<'_>) -> Result<String, Failure> {
    match usual {
        "" => write!(output.out, "Username: ")?,
        usual => write!(output.out, "Username ({usual}): ")?,
    }
    output.out.flush()?;
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .context(|| "cannot read the user name".to_owned())?;
    match (line.trim(), usual) {
        ("", "") => Ok(invalid("username is required")?),
        ("", usual) => Ok(usual.to_owned()),
        (given, _) => Ok(given.to_owned()),
    }
}

fn ask_password(output: &mut Output<'_>) -> Result<String, Failure> {
    let ask = || {
        write!(output.out, "Password: ")?;
        output.out.flush()
    };
    let line = terminal::read_hidden(std::io::stdin(), ask)
        .context(|| "cannot read the password".to_owned())?;
    match String::from_utf8(line) {
        Ok(text) if !text.is_empty() => Ok(text),
        Ok(_) => Ok(invalid("password is required")?),
        Err(_) => Ok(invalid("the password is not UTF-8")?),
    }
}
