//! What `create` and `run` end with: an image, and a command of which each word is
//! its own, whatever it looks like.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

const WORDS: &str = "words";

/// An image, and the command in place of its own.
#[derive(Clone, Debug, Default)]
pub struct Words {
    /// Name or id of the image.
    pub image: String,
    /// The command.
    pub args: Vec<String>,
}

impl Args for Words {
    fn augment_args(command: Command) -> Command {
        // One argument: with its first value our options end, as docker's do.
        command.arg(
            Arg::new(WORDS)
                .value_names(["IMAGE", "COMMAND"])
                .help("Name or id of the image, and the command in place of its own")
                .required(true)
                .num_args(1..)
                .trailing_var_arg(true)
                .action(ArgAction::Append),
        )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Words::augment_args(command)
    }
}

impl FromArgMatches for Words {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Words, Error> {
        let mut out = Words::default();
        out.update_from_arg_matches(matches)?;
        Ok(out)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        let mut words = matches.get_many::<String>(WORDS).into_iter().flatten();
        self.image = words.next().cloned().unwrap_or_default();
        self.args = words.cloned().collect();
        Ok(())
    }
}
