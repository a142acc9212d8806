//! `exec`.

use super::create::environment;
use super::{Outcome, Output};
use crate::container::Containers;
use crate::container::attach::check_terminal;
use crate::container::exec::Exec;
use std::path::PathBuf;

/// Arguments of `exec`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Leave it running
    #[arg(short, long)]
    pub detach: bool,
    /// Hand our standard input on
    #[arg(short, long)]
    pub interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Set a variable, or hand ours on
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Set the variables of a file, a line each
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Where the command runs
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Who runs the command
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    pub name: String,
    /// The command
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    pub args: Vec<String>,
}

/// Run one more command in a container; its exit code is ours.
///
/// # Errors
/// When the container does not run, or the command cannot be started.
pub fn exec(containers: &Containers<'_>, args: Args, output: &mut Output<'_>) -> Outcome {
    let record = containers.find(&args.name)?;
    check_terminal(args.tty, args.interactive && !args.detach)?;
    let env = environment(&args.env_file, args.env)?;
    output.out.flush()?;
    let wish = Exec {
        args: args.args,
        env,
        user: args.user,
        working_dir: args.workdir,
        tty: args.tty,
        input: args.interactive,
        detach: args.detach,
    };
    Ok(containers.exec(&record, &wish)?)
}
