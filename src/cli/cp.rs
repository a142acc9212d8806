//! `cp`.

use super::{Outcome, Output, outfile, units};
use crate::container::{Containers, copy::How};
use crate::store::Error;
use std::io::IsTerminal;
use std::path::Path;

/// Arguments of `cp`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Keep the owners' numbers
    #[arg(short, long)]
    pub archive: bool,
    /// Copy what a symlink leads to that is given as the source
    #[arg(short = 'L', long)]
    pub follow_link: bool,
    /// Do not say what was copied
    #[arg(short, long)]
    pub quiet: bool,
    /// CONTAINER:PATH, a path, or `-` for an archive from standard input
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// CONTAINER:PATH, a path, or `-` for an archive to standard output
    #[arg(value_name = "TARGET")]
    pub target: String,
}

/// Copy files from a container to here or the reverse.
///
/// # Errors
/// When there is no such container or file, or the copy cannot be made.
pub fn cp(containers: &Containers<'_>, args: &Args, output: &mut Output<'_>) -> Outcome {
    let how = How {
        archive: args.archive,
        follow: args.follow_link,
    };
    let refuse = |why: &str| Err(Error::Invalid(why.to_owned()).into());
    let copied = match (split(&args.source), split(&args.target)) {
        (Some(_), Some(_)) => return refuse("copying between containers is not supported"),
        (None, None) => return refuse("must specify at least one container source"),
        (Some((name, path)), None) => {
            let record = containers.find(name)?;
            if args.target == "-" {
                outfile::refuse_terminal()?;
                containers.copy_to_archive(&record, path, &mut *output.out, how)?;
                return Ok(0);
            }
            containers.copy_out(&record, path, Path::new(&args.target), how)?
        }
        (None, Some((name, path))) => {
            let record = containers.find(name)?;
            if args.source == "-" {
                containers.copy_from_archive(&record, std::io::stdin().lock(), path, how)?;
                return Ok(0);
            }
            containers.copy_in(&record, Path::new(&args.source), path, how)?
        }
    };
    if !args.quiet && std::io::stdout().is_terminal() {
        let size = units::size(copied);
        writeln!(output.err, "Successfully copied {size} to {}", args.target)?;
    }
    Ok(0)
}

/// Container and path; none for a path here, as every one is that begins with a
/// dot or a slash.
fn split(text: &str) -> Option<(&str, &str)> {
    match text.starts_with(['.', '/']) {
        true => None,
        false => text.split_once(':'),
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_colon_is_a_containers_unless_the_path_says_where_it_is() {
        assert_eq!(split("c:/a:b"), Some(("c", "/a:b")));
        for path in ["-", "file", "/a:b", "./a:b"] {
            assert_eq!(split(path), None, "{path}");
        }
    }
}
