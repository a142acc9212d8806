//! `exec`.

use super::create::Around;
use super::{Failure, Outcome, Output};
use crate::container::Containers;
use crate::container::attach::check_terminal;
use crate::container::exec::Exec;
use crate::store::Error;

/// Arguments of `exec`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Leave it running
    #[arg(short, long)]
    pub detach: bool,
    /// What the command finds.
    #[command(flatten)]
    pub around: Around,
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
    check_terminal(args.around.tty, args.around.interactive && !args.detach)?;
    let env = args.around.environment()?;
    output.out.flush()?;
    let own_streams = !args.around.tty && !args.detach;
    let wish = Exec {
        args: args.args,
        env,
        user: args.around.user,
        working_dir: args.around.workdir,
        tty: args.around.tty,
        input: args.around.interactive,
        detach: args.detach,
    };
    match containers.exec(&record, &wish) {
        // The runtime has said why, on the streams that were the command's.
        Err(Error::Start { code, .. }) if own_streams => Err(Failure::Said(match code {
            125 => 1,
            code => code,
        })),
        code => Ok(code?),
    }
}
