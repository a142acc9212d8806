//! Flags as Go's programs take them: `--quiet` and `--quiet=false`.

use super::args::Cli;
use clap::builder::TypedValueParser;
use clap::error::{Error, ErrorKind};
use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches, Parser};
use std::any::TypeId;
use std::ffi::{OsStr, OsString};

/// The command line, in which every flag may have a value.
///
/// # Errors
/// For one that cannot be understood, and where help is asked for.
pub(super) fn parse(args: &[OsString]) -> Result<Cli, Error> {
    let matches = with_values(Cli::command()).try_get_matches_from(args);
    matches
        .and_then(|matches| Cli::from_arg_matches(&matches))
        .map_err(|e| match Cli::try_parse_from(args) {
            // Help and usage show the flags without that.
            Err(plain) if plain.kind() == e.kind() => plain,
            _ => e,
        })
}

/// The command and those below it, whose flags take a value after `=`. Of what
/// is given twice and can be had once the last is meant.
fn with_values(command: Command) -> Command {
    command
        .args_override_self(true)
        .mut_args(with_value)
        .mut_subcommands(with_values)
}

fn with_value(arg: Arg) -> Arg {
    let of_bool = arg.get_value_parser().type_id() == TypeId::of::<bool>();
    match arg.get_action() {
        ArgAction::SetTrue => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .default_value("false")
            .value_parser(Bool),
        // Those that are on unless somebody says otherwise.
        ArgAction::Set if of_bool => arg.value_parser(Bool),
        // What stands behind an option is its value, also one like `-5` or `-x`.
        ArgAction::Set | ArgAction::Append if !arg.is_positional() => arg.allow_hyphen_values(true),
        _ => arg,
    }
}

/// Go's words for true and false.
#[derive(Clone)]
struct Bool;

impl TypedValueParser for Bool {
    type Value = bool;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<bool, Error> {
        let text = value.to_string_lossy();
        match &*text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => return Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => return Ok(false),
            _ => {}
        }
        let long = arg.and_then(Arg::get_long).unwrap_or_default();
        let flag = match arg.and_then(Arg::get_short) {
            Some(short) => format!("-{short}, --{long}"),
            None => format!("--{long}"),
        };
        let why = format!(
            "invalid argument {text:?} for \"{flag}\" flag: strconv.ParseBool: parsing {text:?}: invalid syntax"
        );
        Err(command.clone().error(ErrorKind::ValueValidation, why))
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]
mod tests {
    use super::*;

    /// Every flag of a command and of those below it, with the way there.
    fn flags(command: &Command, way: &[String], out: &mut Vec<(Vec<String>, String)>) {
        for arg in command.get_arguments() {
            if matches!(arg.get_action(), ArgAction::SetTrue) {
                out.push((way.to_vec(), arg.get_long().unwrap().to_owned()));
            }
        }
        for below in command.get_subcommands() {
            let mut way = way.to_vec();
            way.push(below.get_name().to_owned());
            flags(below, &way, out);
        }
    }

    fn error(args: &[&str]) -> (ErrorKind, String) {
        let args: Vec<OsString> = args.iter().map(Into::into).collect();
        let e = parse(&args).unwrap_err();
        (e.kind(), e.render().to_string())
    }

    #[test]
    fn every_flag_takes_a_value() {
        let mut all = Vec::new();
        flags(&Cli::command(), &["capas".to_owned()], &mut all);
        assert!(all.len() > 80, "{}", all.len());
        for (way, flag) in all {
            let with = |value: &str| -> Vec<OsString> {
                let flag = format!("--{flag}={value}");
                way.iter().chain([&flag]).map(OsString::from).collect()
            };
            for value in ["false", "F", "0", "true", "T", "1"] {
                // There may be names that are missing then.
                if let Err(e) = parse(&with(value)) {
                    let kinds = [
                        ErrorKind::MissingRequiredArgument,
                        ErrorKind::ArgumentConflict,
                    ];
                    assert!(kinds.contains(&e.kind()), "{:?}: {e}", with(value));
                }
            }
            let e = parse(&with("maybe")).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::ValueValidation, "{way:?} {flag}");
        }
    }

    #[test]
    fn what_comes_behind_an_option_is_its_value() {
        use crate::cli::args::Command;
        let given = ["capas", "commit", "-m", "-a message", "-c", "--x", "c"];
        let args: Vec<OsString> = given.iter().map(Into::into).collect();
        let Command::Commit(commit) = parse(&args).unwrap().command else {
            panic!("{given:?}")
        };
        assert_eq!(commit.message.unwrap(), "-a message");
        assert_eq!(
            (commit.change, commit.container.as_str()),
            (vec!["--x".to_owned()], "c")
        );
        let (kind, _) = error(&["capas", "commit", "-m"]);
        assert_eq!(kind, ErrorKind::InvalidValue);
        let (kind, _) = error(&["capas", "commit", "-x", "c"]);
        assert_eq!(kind, ErrorKind::UnknownArgument);
    }

    #[test]
    fn what_comes_behind_an_image_is_its_commands() {
        use crate::cli::args::Command;
        for (given, kept) in [
            (&["run", "i", "--", "-n"][..], &["--", "-n"][..]),
            (&["run", "-it", "i", "-it", "--rm"], &["-it", "--rm"]),
            (&["run", "i", "--help"], &["--help"]),
            (
                &["create", "i", "-v=false", "--odd", "--root", "/x"],
                &["-v=false", "--odd", "--root", "/x"],
            ),
            (&["create", "--rm", "i", "--"], &["--"]),
            (&["container", "run", "i", "--", "--"], &["--", "--"]),
            (&["run", "--", "i", "--", "x"], &["--", "x"]),
            (&["run", "--name", "i", "--", "i", "x"], &["x"]),
            (&["run", "i", "x", "--", "-e"], &["x", "--", "-e"]),
            (&["run", "i"], &[]),
        ] {
            let given: Vec<OsString> = ["capas"].iter().chain(given).map(Into::into).collect();
            let words = match parse(&given).unwrap().command.short() {
                Command::Run(run) => run.create.words,
                Command::Create(create) => create.words,
                other => panic!("{other:?}"),
            };
            assert_eq!(words.image, "i", "{given:?}");
            assert_eq!(words.args, kept, "{given:?}");
        }
        let (kind, _) = error(&["capas", "run", "--odd", "i"]);
        assert_eq!(kind, ErrorKind::UnknownArgument);
        let (kind, _) = error(&["capas", "run", "--rm"]);
        assert_eq!(kind, ErrorKind::MissingRequiredArgument);
    }

    #[test]
    fn wrong_values_are_told_in_gos_words() {
        let (_, text) = error(&["capas", "images", "-q=maybe"]);
        let first = "error: invalid argument \"maybe\" for \"-q, --quiet\" flag: strconv.ParseBool: \
                     parsing \"maybe\": invalid syntax";
        assert_eq!(text.lines().next().unwrap(), first);
        let (_, text) = error(&["capas", "history", "--human=no", "x"]);
        assert!(
            text.starts_with("error: invalid argument \"no\" for \""),
            "{text}"
        );
        assert!(
            text.contains("--human\" flag: strconv.ParseBool: "),
            "{text}"
        );
    }

    #[test]
    fn help_shows_flags_without_it() {
        for args in [
            &["capas", "images", "--help"][..],
            &["capas", "images", "-a", "-h"],
        ] {
            let (kind, text) = error(args);
            assert_eq!(kind, ErrorKind::DisplayHelp);
            assert!(
                text.contains("-q, --quiet\n") || text.contains("-q, --quiet  "),
                "{text}"
            );
        }
        for args in [
            &["capas", "rmi", "-f"][..],
            &["capas", "images", "--no-trunc", "--foo"],
        ] {
            let (_, text) = error(args);
            assert!(
                text.contains("\nUsage: ") && !text.contains("[=<"),
                "{text}"
            );
        }
        let (kind, _) = error(&["capas", "images", "-a=false", "--help"]);
        assert_eq!(kind, ErrorKind::DisplayHelp);
    }
}
