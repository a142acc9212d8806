//! The command line.

use super::{images, ps};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Container images and containers on the capasfs union filesystem.
#[derive(Debug, Parser)]
#[command(
    name = "capas",
    version,
    propagate_version = false,
    disable_version_flag = true
)]
pub struct Cli {
    /// Print version
    #[arg(short = 'v', long, short_alias = 'V', action = clap::ArgAction::Version)]
    pub version: Option<bool>,
    /// Where images and containers are kept [env: CAPAS_ROOT]
    /// [default: /var/lib/capas for root, else under XDG_DATA_HOME]
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// The OCI runtime, a name or a path [default: runc, else crun]
    #[arg(long, global = true, value_name = "PROGRAM")]
    pub runtime: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a shell's completions to standard output
    Completion(super::completion::Args),
    /// Check all that the store holds, and repair it
    Check(super::check::Check),
    /// Say whether containers can be run here, and what is missing
    Doctor,
    /// Remove what no image and no container refers to
    Gc(super::gc::Gc),
    /// Show what there is and what it runs on
    Info(super::info::Info),
    /// Load images from an archive or an OCI directory
    Load(Load),
    /// Log in to a registry
    Login(super::login::Login),
    /// Log out of a registry
    Logout(super::logout::Logout),
    /// Show how an image was made
    History(super::history::Args),
    /// Commands for images
    Image {
        /// Which.
        #[command(subcommand)]
        command: super::groups::Image,
    },
    /// `image prune`, which has no short form.
    #[command(skip)]
    ImagePrune(super::image_prune::Args),
    /// List images
    Images(images::Images),
    /// Show what the layers of an image add, change, remove and waste
    Layers(super::layers::Args),
    /// Build an image from a Dockerfile
    Build(super::build::Build),
    /// Commands for builds
    Builder {
        /// Which.
        #[command(subcommand)]
        command: super::groups::Builder,
    },
    /// `builder prune`, which has no short form.
    #[command(skip)]
    BuilderPrune(super::sweep::BuilderPrune),
    /// Make an image of a root filesystem's archive
    Import(super::import::Args),
    /// Remove images
    Rmi(super::rmi::Args),
    /// Show all that is known of containers, images and volumes, as JSON
    Inspect(super::inspect::Args),
    /// Commands for containers
    Container {
        /// Which.
        #[command(subcommand)]
        command: super::groups::Container,
    },
    /// See what a container writes, and type what it reads
    Attach(super::attach::Args),
    /// Make an image of what a container has changed
    Commit(super::commit::Args),
    /// Copy files from a container to here or the reverse
    Cp(super::cp::Args),
    /// Make a container without running it
    Create(super::create::Create),
    /// Show what a container has added, changed and deleted
    Diff(super::diff::Args),
    /// Run one more command in a container
    Exec(super::exec::Args),
    /// Write a container's files as a tar archive
    Export(super::export::Args),
    /// Send a signal to containers' commands
    Kill(super::kill::Args),
    /// Show what a container has written
    Logs(super::logs::Args),
    /// Show where the ports of a container are reached
    Port(super::port::Args),
    /// Give a container another name
    Rename(super::rename::Args),
    /// Stop containers and start them again
    Restart(super::stop::Args),
    /// Start containers again
    Start(super::start::Args),
    /// Ask containers' commands to end
    Stop(super::stop::Args),
    /// Wait for the end of containers' commands and print their exit codes
    Wait(Names),
    /// Write the manual pages
    #[command(hide = true)]
    Man(super::man::Args),
    /// Mount a container's root and print where
    Mount(Mount),
    /// Unmount a container's root
    #[command(alias = "unmount")]
    Umount(Names),
    /// Run a command in a new container
    Run(super::run::Args),
    /// List containers
    Ps(ps::Ps),
    /// Get an image from a registry
    Pull(super::pull::Pull),
    /// Send an image to a registry
    Push(super::push::Push),
    /// Remove containers
    Rm(Remove),
    /// Remove what can be made again
    Prune(super::prune::Args),
    /// Write images to an archive or an OCI directory
    Save(super::save::Args),
    /// Look for images in a registry
    Search(super::search::Search),
    /// Give an image one more name
    Tag(super::tag::Args),
    /// Commands for the whole store
    System {
        /// Which.
        #[command(subcommand)]
        command: super::groups::System,
    },
    /// `container prune`, which has no short form.
    #[command(skip)]
    ContainerPrune(super::sweep::ContainerPrune),
    /// `system df`, which has no short form.
    #[command(skip)]
    SystemDf(super::df::Df),
    /// `system prune`, which has no short form.
    #[command(skip)]
    SystemPrune(super::sweep::SystemPrune),
    /// Commands for volumes
    Volume {
        /// Which.
        #[command(subcommand)]
        command: super::volume::Command,
    },
    /// Show the version
    Version(super::version::Args),
}

impl Command {
    /// The same without the group that it may have been named in.
    pub fn short(self) -> Command {
        match self {
            Command::Image { command } => command.command(),
            Command::Container { command } => command.command(),
            Command::Builder { command } => command.command(),
            Command::System { command } => command.command(),
            other => other,
        }
    }

    /// Does it nothing but print what there is, and says nothing by its exit
    /// code.
    pub fn only_shows(&self) -> bool {
        match self {
            Command::Layers(args) => !args.check,
            Command::Volume { command } => command.only_shows(),
            Command::Completion(_)
            | Command::Diff(_)
            | Command::Doctor
            | Command::History(_)
            | Command::Images(_)
            | Command::Info(_)
            | Command::Inspect(_)
            | Command::Logs(_)
            | Command::Port(_)
            | Command::Ps(_)
            | Command::Search(_)
            | Command::SystemDf(_)
            | Command::Version(_) => true,
            _ => false,
        }
    }
}

/// Arguments of `load`.
#[derive(Debug, Args)]
pub struct Load {
    /// Read from this file or directory instead of standard input
    #[arg(short, long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,
    /// Of images for several platforms the one for this
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
}

/// Arguments of `rm`.
#[derive(Debug, Args)]
pub struct Remove {
    /// Also what is running
    #[arg(short, long)]
    pub force: bool,
    /// Also the volumes that were made for them and have no name
    #[arg(short, long)]
    pub volumes: bool,
    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
}

/// Arguments of `mount`.
#[derive(Debug, Args)]
pub struct Mount {
    /// Names or ids of containers; without any, list what is mounted
    #[arg(value_name = "CONTAINER")]
    pub names: Vec<String>,
}

/// Containers.
#[derive(Debug, Args)]
pub struct Names {
    /// Names or ids of containers
    #[arg(required = true, value_name = "CONTAINER")]
    pub names: Vec<String>,
}
