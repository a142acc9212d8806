//! `image`, `container` and `system`: the commands under their long names. All but those
//! that only exist there are the short commands.

use super::args::{Command, Load, Mount, Names, Remove};
use super::{
    attach, build, commit, cp, create, df, diff, exec, export, history, image_prune, images,
    import, info, inspect, kill, layers, logs, ps, pull, push, rename, rmi, run, save, start, stop,
    sweep, tag,
};
use clap::Subcommand;

/// Commands for images.
#[derive(Debug, Subcommand)]
pub enum Image {
    /// Build an image from a Dockerfile
    Build(build::Build),
    /// Show how an image was made
    History(history::Args),
    /// Make an image of a root filesystem's archive
    Import(import::Args),
    /// Show all that is known of images, as JSON
    Inspect(inspect::Args),
    /// Show what the layers of an image add, change, remove and waste
    Layers(layers::Args),
    /// Load images from an archive or an OCI directory
    Load(Load),
    /// List images
    #[command(alias = "list")]
    Ls(images::Images),
    /// Remove images that are not used
    Prune(image_prune::Args),
    /// Get an image from a registry
    Pull(pull::Pull),
    /// Send an image to a registry
    Push(push::Push),
    /// Remove images
    #[command(alias = "remove")]
    Rm(rmi::Args),
    /// Write images to an archive or an OCI directory
    Save(save::Args),
    /// Give an image one more name
    Tag(tag::Args),
}

impl Image {
    /// The command that does it.
    pub fn command(self) -> Command {
        match self {
            Image::Build(args) => Command::Build(args),
            Image::History(args) => Command::History(args),
            Image::Import(args) => Command::Import(args),
            Image::Inspect(args) => Command::Inspect(inspect::Args {
                kind: Some(inspect::Type::Image),
                ..args
            }),
            Image::Layers(args) => Command::Layers(args),
            Image::Load(args) => Command::Load(args),
            Image::Ls(args) => Command::Images(args),
            Image::Prune(args) => Command::ImagePrune(args),
            Image::Pull(args) => Command::Pull(args),
            Image::Push(args) => Command::Push(args),
            Image::Rm(args) => Command::Rmi(args),
            Image::Save(args) => Command::Save(args),
            Image::Tag(args) => Command::Tag(args),
        }
    }
}

/// Commands for containers.
#[derive(Debug, Subcommand)]
pub enum Container {
    /// See what a container writes, and type what it reads
    Attach(attach::Args),
    /// Make an image of what a container has changed
    Commit(commit::Args),
    /// Copy files from a container to here or the reverse
    Cp(cp::Args),
    /// Make a container without running it
    Create(create::Create),
    /// Show all that is known of containers, as JSON
    Inspect(inspect::Args),
    /// List containers
    #[command(aliases = ["list", "ps"])]
    Ls(ps::Ps),
    /// Remove all containers that do not run
    Prune(sweep::ContainerPrune),
    /// Remove containers
    #[command(alias = "remove")]
    Rm(Remove),
    /// Show what a container has added, changed and deleted
    Diff(diff::Args),
    /// Run one more command in a container
    Exec(exec::Args),
    /// Write a container's files as a tar archive
    Export(export::Args),
    /// Send a signal to containers' commands
    Kill(kill::Args),
    /// Show what a container has written
    Logs(logs::Args),
    /// Mount a container's root and print where
    Mount(Mount),
    /// Show where the ports of a container are reached
    Port(super::port::Args),
    /// Give a container another name
    Rename(rename::Args),
    /// Stop containers and start them again
    Restart(stop::Args),
    /// Run a command in a new container
    Run(run::Args),
    /// Start containers again
    Start(start::Args),
    /// Ask containers' commands to end
    Stop(stop::Args),
    /// Unmount a container's root
    #[command(alias = "unmount")]
    Umount(Names),
    /// Wait for the end of containers' commands and print their exit codes
    Wait(Names),
}

impl Container {
    /// The command that does it.
    pub fn command(self) -> Command {
        match self {
            Container::Attach(args) => Command::Attach(args),
            Container::Commit(args) => Command::Commit(args),
            Container::Cp(args) => Command::Cp(args),
            Container::Create(args) => Command::Create(args),
            Container::Diff(args) => Command::Diff(args),
            Container::Export(args) => Command::Export(args),
            Container::Exec(args) => Command::Exec(args),
            Container::Kill(args) => Command::Kill(args),
            Container::Logs(args) => Command::Logs(args),
            Container::Mount(args) => Command::Mount(args),
            Container::Port(args) => Command::Port(args),
            Container::Rename(args) => Command::Rename(args),
            Container::Restart(args) => Command::Restart(args),
            Container::Start(args) => Command::Start(args),
            Container::Stop(args) => Command::Stop(args),
            Container::Umount(args) => Command::Umount(args),
            Container::Wait(args) => Command::Wait(args),
            Container::Inspect(args) => Command::Inspect(inspect::Args {
                kind: Some(inspect::Type::Container),
                ..args
            }),
            Container::Ls(args) => Command::Ps(args),
            Container::Prune(args) => Command::ContainerPrune(args),
            Container::Rm(args) => Command::Rm(args),
            Container::Run(args) => Command::Run(args),
        }
    }
}

/// Commands for builds.
#[derive(Debug, Subcommand)]
pub enum Builder {
    /// Build an image from a Dockerfile
    Build(Box<build::Build>),
    /// Forget what steps of builds have made
    Prune(sweep::BuilderPrune),
}

impl Builder {
    /// The command that does it.
    pub fn command(self) -> Command {
        match self {
            Builder::Build(args) => Command::Build(*args),
            Builder::Prune(args) => Command::BuilderPrune(args),
        }
    }
}

/// Commands for the whole store.
#[derive(Debug, Subcommand)]
pub enum System {
    /// Show what images and containers take on the disk
    Df(df::Df),
    /// Show what there is and what it runs on
    Info(info::Info),
    /// Remove all that is not in use
    Prune(sweep::SystemPrune),
}

impl System {
    /// The command that does it.
    pub fn command(self) -> Command {
        match self {
            System::Df(args) => Command::SystemDf(args),
            System::Info(args) => Command::Info(args),
            System::Prune(args) => Command::SystemPrune(args),
        }
    }
}
