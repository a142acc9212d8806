//! `stop` and `restart`.

use super::containers::each;
use super::start::start_one;
use super::{Outcome, Output};
use crate::container::runtime::Runtime;
use crate::container::stop::How;
use crate::container::{Containers, signal};
use crate::store::Error;
use crate::store::error::invalid;
use std::path::Path;

/// So many are stopped at once.
const AT_ONCE: usize = 50;

/// Arguments of `stop` and `restart`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// After how many seconds it is killed, -1 for never [default: 10, or the container's own]
    #[arg(
        short,
        long,
        alias = "timeout",
        value_name = "SECONDS",
        allow_negative_numbers = true
    )]
    pub time: Option<i64>,
    /// The signal that asks it to end [default: TERM, or the container's own]
    #[arg(short, long, value_name = "SIGNAL")]
    pub signal: Option<String>,
    /// Names or ids of containers
    #[arg(required = true, value_name = "CONTAINER")]
    pub names: Vec<String>,
}

impl Args {
    fn how(&self) -> Result<How, Error> {
        Ok(How {
            patience: self.time.map(seconds),
            signal: self.signal.as_deref().map(signal::parse).transpose()?,
        })
    }
}

/// Seconds to wait, which for docker less than none are all there will be.
pub(super) fn seconds(given: i64) -> u64 {
    u64::try_from(given).unwrap_or(u64::MAX)
}

/// Ask containers' commands to end, kill them if they do not, and print their
/// names.
///
/// # Errors
/// When one does not end.
pub fn stop(containers: &Containers<'_>, args: &Args, output: &mut Output<'_>) -> Outcome {
    let how = args.how()?;
    let one = |name: &str| containers.stop(&containers.find(name)?, how);
    // All are asked before any is waited for.
    let mut done = Vec::new();
    for names in args.names.chunks(AT_ONCE) {
        done.extend(std::thread::scope(|scope| {
            let all: Vec<_> = names.iter().map(|n| scope.spawn(|| one(n))).collect();
            all.into_iter()
                .map(|stopped| stopped.join())
                .collect::<Vec<_>>()
        }));
    }
    let mut done = done.into_iter();
    each(&args.names, output, |name, output| {
        match done.next() {
            Some(Ok(stopped)) => stopped?,
            _ => invalid(format!("stopping {name} came to no end"))?,
        }
        writeln!(output.out, "{name}")?;
        Ok(())
    })
}

/// Stop containers and start them again.
///
/// # Errors
/// When one does not end, or cannot be started.
pub fn restart(
    containers: &Containers<'_>,
    args: &Args,
    runtime: Option<&Path>,
    output: &mut Output<'_>,
) -> Outcome {
    let (runtime, how) = (Runtime::find(runtime)?, args.how()?);
    each(&args.names, output, |name, output| {
        let record = containers.find(name)?;
        containers.stop_to_start(&record, how)?;
        start_one(containers, &containers.find(&record.id)?, &runtime)?;
        writeln!(output.out, "{name}")?;
        Ok(())
    })
}
