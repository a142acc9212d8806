//! `run`.

use super::create;
use super::{Outcome, Output, dockerconf};
use crate::container::Containers;
use crate::container::attach::{DetachKeys, End, Session, attach, check_terminal};
use crate::container::monitor::launch::Wanted;
use crate::container::runtime::Runtime;
use crate::store::Result;
use std::path::Path;

/// Arguments of `run`: those of `create`, and how it is attached to.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// Leave it running and print its id
    #[arg(short, long)]
    pub detach: bool,
    /// What is typed to leave it running [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    pub detach_keys: Option<String>,
    /// Hand signals on to its command
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true")]
    pub sig_proxy: std::primitive::bool,
    /// What to make.
    #[command(flatten)]
    pub create: create::Create,
}

/// Make a container and run its command; in the foreground its exit code is
/// ours.
///
/// # Errors
/// When the container cannot be made or its command not started.
pub fn run(
    containers: &Containers<'_>,
    args: Args,
    runtime: Option<&Path>,
    output: &mut Output<'_>,
) -> Outcome {
    let keys = detach_keys(args.detach_keys.as_deref())?;
    let runtime = Runtime::find(runtime)?;
    let around = &args.create.around;
    check_terminal(around.tty, around.interactive && !args.detach)?;
    let record = create::make(containers, args.create, args.detach)?;
    if args.detach {
        containers
            .launch(&record, &runtime, Wanted::default())?
            .started()?;
        writeln!(output.out, "{}", record.id)?;
        return Ok(0);
    }
    output.out.flush()?;
    let session = Session::new(&record, record.settings.stdin, args.sig_proxy, keys);
    let connection = containers.launch(&record, &runtime, session.wanted())?;
    ended(attach(containers, &record, connection, &session)?, output)
}

/// What was given as `--detach-keys`, else what docker's configuration file has.
///
/// # Errors
/// When these are none.
pub fn detach_keys(given: Option<&str>) -> Result<DetachKeys> {
    let configured = || dockerconf::text("detachKeys").filter(|keys| !keys.is_empty());
    match given.map(str::to_owned).or_else(configured) {
        Some(keys) => DetachKeys::parse(&keys),
        None => Ok(DetachKeys::default()),
    }
}

/// The exit code of an attached command.
///
/// # Errors
/// When it cannot be said how it ended.
pub fn ended(end: End, output: &mut Output<'_>) -> Outcome {
    if end == End::Detached {
        writeln!(output.err, "read escape sequence")?;
    }
    Ok(match end {
        End::Exited(code) => code,
        End::Detached => 0,
        End::Signalled(number) => u8::try_from(128 + number).unwrap_or(255),
    })
}
