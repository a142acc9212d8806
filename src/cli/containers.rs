//! `mount`, `umount` and `rm`.

use super::args;
use super::{Failure, Outcome, Output};
use crate::container::{Containers, Record};
use crate::store::Error;

/// Mount containers and print where, or list what is mounted.
///
/// # Errors
/// When one cannot be mounted.
pub fn mount(containers: &Containers<'_>, args: &args::Mount, output: &mut Output<'_>) -> Outcome {
    if args.names.is_empty() {
        for record in containers.list()? {
            if containers.is_served(&record)? {
                let point = containers.mount_point(&record);
                writeln!(output.out, "{} {}", record.short(), point.display())?;
            }
        }
        return Ok(0);
    }
    each(&args.names, output, |name, output| {
        let record = containers.find(name)?;
        // One that runs is mounted, and held by whoever runs it.
        let point = if containers.is_served(&record)? {
            containers.mount_point(&record)
        } else {
            let _held = containers.hold(&record)?;
            containers.mount(&record)?
        };
        writeln!(output.out, "{}", point.display())?;
        Ok(())
    })
}

/// Unmount containers and print their names.
///
/// # Errors
/// When one is in use.
pub fn umount(containers: &Containers<'_>, args: &args::Names, output: &mut Output<'_>) -> Outcome {
    each(&args.names, output, |name, output| {
        let record = containers.find(name)?;
        containers.settle(&record)?;
        let _held = containers.hold(&record)?;
        containers.unmount(&record)?;
        writeln!(output.out, "{name}")?;
        Ok(())
    })
}

/// Remove containers and print their names.
///
/// # Errors
/// When one is running or in use.
pub fn rm(containers: &Containers<'_>, args: &args::Remove, output: &mut Output<'_>) -> Outcome {
    let remove = |name: &str| -> Result<Record, Error> {
        let record = containers.find(name)?;
        containers.remove(&record, args.force, args.volumes)?;
        Ok(record)
    };
    let outcome = each(&args.names, output, |name, output| {
        match remove(name) {
            Ok(_) => writeln!(output.out, "{name}")?,
            Err(e @ Error::NotFound(_)) if args.force => {
                output.out.flush()?;
                writeln!(output.err, "Error: {e}")?;
            }
            Err(e) => return Err(e.into()),
        }
        Ok(())
    });
    // The last container of an image that was removed by force.
    containers.store().sweep(|| containers.users())?;
    outcome
}

/// Do something with each of `names`; what fails does not keep the others.
///
/// # Errors
/// When one failed.
pub fn each(
    names: &[String],
    output: &mut Output<'_>,
    mut act: impl FnMut(&str, &mut Output<'_>) -> Result<(), Failure>,
) -> Outcome {
    let mut failed = false;
    for name in names {
        match act(name, output) {
            Ok(()) => {}
            Err(Failure::Error(e)) => {
                failed = true;
                // In their order, where both go to one place.
                output.out.flush()?;
                writeln!(output.err, "Error: {e}")?;
            }
            Err(other) => return Err(other),
        }
    }
    match failed {
        false => Ok(0),
        true => Err(Failure::Said(1)),
    }
}
