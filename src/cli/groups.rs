//! `system` and `container`: commands that are about the whole.

use super::{Outcome, Output, df, info, sweep};
use crate::container::Containers;
use clap::Subcommand;
use std::path::Path;

/// About the whole store.
#[derive(Debug, Subcommand)]
pub enum System {
    /// Show what images and containers take on the disk
    Df(df::Df),
    /// Show what there is and what it runs on
    Info(info::Info),
    /// Remove all that is not in use
    Prune(sweep::SystemPrune),
}

/// About containers.
#[derive(Debug, Subcommand)]
pub enum Container {
    /// Remove all containers that do not run
    Prune(sweep::ContainerPrune),
}

/// Run one of `system`'s commands.
///
/// # Errors
/// Those of the command.
pub fn system(
    containers: &Containers<'_>,
    command: &System,
    runtime: Option<&Path>,
    output: &mut Output<'_>,
) -> Outcome {
    match command {
        System::Df(args) => df::df(containers, args, output),
        System::Info(args) => info::info(containers, args, runtime, output),
        System::Prune(args) => sweep::system(containers, args, output),
    }
}

/// Run one of `container`'s commands.
///
/// # Errors
/// Those of the command.
pub fn container(
    containers: &Containers<'_>,
    command: &Container,
    output: &mut Output<'_>,
) -> Outcome {
    match command {
        Container::Prune(args) => sweep::containers(containers, args, output),
    }
}
