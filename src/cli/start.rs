//! `start`.

use super::containers::each;
use super::run::{detach_keys, ended};
use super::{Outcome, Output};
use crate::container::attach::{Session, attach, check_terminal};
use crate::container::monitor::launch::Wanted;
use crate::container::runtime::Runtime;
use crate::container::{Containers, Record, Status};
use crate::store::Error;
use crate::store::error::invalid;
use std::path::Path;

/// Arguments of `start`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Stay attached to its output; the exit code is the command's
    #[arg(short, long)]
    pub attach: bool,
    /// Stay attached to its input too
    #[arg(short, long)]
    pub interactive: bool,
    /// What is typed to leave it running [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    pub detach_keys: Option<String>,
    /// Names or ids of containers
    #[arg(required = true, value_name = "CONTAINER")]
    pub names: Vec<String>,
}

/// Start containers again and print their names, or stay attached to one, also
/// if it runs already.
///
/// # Errors
/// When one cannot be started.
pub fn start(
    containers: &Containers<'_>,
    args: &Args,
    runtime: Option<&Path>,
    output: &mut Output<'_>,
) -> Outcome {
    let runtime = Runtime::find(runtime)?;
    if !args.attach && !args.interactive {
        return each(&args.names, output, |name, output| {
            let record = containers.find(name)?;
            start_one(containers, &record, &runtime)?;
            writeln!(output.out, "{name}")?;
            Ok(())
        });
    }
    let [name] = args.names.as_slice() else {
        return Err(Error::Invalid(
            "you cannot start and attach multiple containers at once".to_owned(),
        )
        .into());
    };
    let keys = detach_keys(args.detach_keys.as_deref())?;
    let record = containers.find(name)?;
    let running = containers.status(&record).0 == Status::Running;
    containers.settle(&record)?;
    let input = args.interactive && record.settings.stdin;
    check_terminal(record.settings.tty, input)?;
    output.out.flush()?;
    let session = Session::new(&record, input, true, keys);
    let connection = match running {
        true => containers.connect(&record, session.wanted())?,
        false => containers.launch(&record, &runtime, session.wanted())?,
    };
    ended(attach(containers, &record, connection, &session)?, output)
}

/// Start one, unless it runs.
///
/// # Errors
/// When it cannot be started.
pub fn start_one(
    containers: &Containers<'_>,
    record: &Record,
    runtime: &Runtime,
) -> Result<(), Error> {
    if containers.status(record).0 == Status::Running {
        return Ok(());
    }
    containers.settle(record)?;
    if !containers.dir(&record.id).exists() {
        return invalid(format!(
            "container {} was to be removed when it ended, and has",
            record.name
        ));
    }
    let started = containers
        .launch(record, runtime, Wanted::default())?
        .started();
    match started {
        Err(_) if containers.is_started_by_another(record) => Ok(()),
        started => started,
    }
}
