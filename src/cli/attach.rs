//! `attach`.

use super::run::{detach_keys, ended};
use super::{Outcome, Output};
use crate::container::attach::{Session, attach as stay, check_terminal};
use crate::container::{Containers, Status};
use crate::store::Error;

/// Arguments of `attach`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What is typed to leave it running [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    pub detach_keys: Option<String>,
    /// Only see its output
    #[arg(long)]
    pub no_stdin: bool,
    /// Hand signals on to its command
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true")]
    pub sig_proxy: std::primitive::bool,
    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    pub name: String,
}

/// See what a container writes from now on, and type what it reads; the exit
/// code is its command's.
///
/// # Errors
/// When it does not run.
pub fn attach(containers: &Containers<'_>, args: &Args, output: &mut Output<'_>) -> Outcome {
    let keys = detach_keys(args.detach_keys.as_deref())?;
    let record = containers.find(&args.name)?;
    if containers.status(&record).0 != Status::Running {
        let why = "You cannot attach to a stopped container, start it first";
        return Err(Error::Conflict(why.to_owned()).into());
    }
    let input = record.settings.stdin && !args.no_stdin;
    check_terminal(record.settings.tty, input)?;
    output.out.flush()?;
    let session = Session::new(&record, input, args.sig_proxy, keys);
    let connection = containers.connect(&record, session.wanted())?;
    ended(stay(containers, &record, connection, &session)?, output)
}
