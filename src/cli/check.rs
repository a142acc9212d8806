//! `check`.

use super::{Failure, Outcome, Output, interrupt};
use crate::container::Containers;
use crate::store::check::{Finding, Options, Report};
use clap::Args;
use std::any::Any;

/// Arguments of `check`.
#[derive(Debug, Args)]
#[command(after_help = "Exit code 1: something is damaged, and was not repaired.")]
pub struct Check {
    /// Read no content: only what is there, and how large it is
    #[arg(long)]
    pub quick: bool,
    /// Mend what can be mended, and mark the images of what cannot
    #[arg(long, conflicts_with = "quick")]
    pub repair: bool,
}

/// Check the whole store: a line for each finding, and a summary.
///
/// # Errors
/// When the check cannot go on; exit code 1 for damage.
pub fn check(containers: &Containers<'_>, args: &Check, output: &mut Output<'_>) -> Outcome {
    interrupt::watch("the check is not complete");
    let options = Options {
        quick: args.quick,
        repair: args.repair,
    };
    let mut own = Report::default();
    let mut written = Ok(());
    let mut tell = |finding: Finding| {
        let (word, what, why) = match &finding {
            Finding::Damaged(what, why) => ("damaged", what, why),
            Finding::Repaired(what, why) => ("repaired", what, why),
            Finding::Unused(what, why) => ("unused", what, why),
        };
        // The check itself goes on: repairs do not depend on who reads of them.
        if written.is_ok() {
            written =
                writeln!(output.out, "{word}: {what}: {why}").and_then(|()| output.out.flush());
        }
    };
    let (count, users) = containers.check(&mut |finding| {
        own.count(&finding);
        tell(finding);
    })?;
    let claim = |layer: &_| Ok(Box::new(containers.claim_layer(layer)?) as Box<dyn Any>);
    let report = containers
        .store()
        .check(options, users, &claim, &mut tell)?;
    let damaged = own.damaged + report.damaged;
    let summary = writeln!(
        output.out,
        "{} images, {} layers, {} blobs, {count} containers checked{}: {damaged} damaged, {} repaired, {} unused",
        report.images,
        report.layers,
        report.blobs,
        if args.quick {
            " without their content"
        } else {
            ""
        },
        report.repaired,
        own.unused + report.unused,
    );
    // What is damaged stays so if nobody reads of it.
    match own.damaged > 0 || !report.sound {
        false => Ok(written.and(summary).map(|()| 0)?),
        true => Err(Failure::Said(1)),
    }
}
