//! `logs`.

use super::filter::precise_moment;
use super::{Failure, Outcome, Output};
use crate::container::logs::{Choice, is_error};
use crate::container::{Containers, now_ns};
use crate::store::error::{invalid, show};

/// Arguments of `logs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Go on until the container ends
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last lines
    #[arg(
        short = 'n',
        long,
        default_value = "all",
        value_name = "NUMBER",
        allow_negative_numbers = true
    )]
    pub tail: String,
    /// Only from this time on, or since so long ago: 2024-05-01T10:00:00, 10m
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only up to this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Show when each line was written
    #[arg(short, long)]
    pub timestamps: bool,
    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    pub name: String,
}

/// Show what a container has written, each stream where it belongs.
///
/// # Errors
/// When the log cannot be read.
pub fn logs(containers: &Containers<'_>, args: &Args, output: &mut Output<'_>) -> Outcome {
    let tail = match args.tail.as_str() {
        "all" => None,
        text => match text.parse::<i64>() {
            // As for docker less than none is all.
            Ok(lines) => usize::try_from(lines).ok(),
            Err(_) => invalid(format!(
                "invalid value for \"tail\": {}",
                show(text.as_bytes())
            ))?,
        },
    };
    let now = now_ns();
    let time = |key, text: &Option<String>| {
        let what = |text: &str| format!("{key} '{}'", show(text.as_bytes()));
        let read = |text: &str| precise_moment(&what(text), text, now);
        text.as_deref().map(read).transpose()
    };
    let choice = Choice {
        follow: args.follow,
        tail,
        since: time("--since", &args.since)?,
        until: time("--until", &args.until)?,
    };
    let record = containers.find(&args.name)?;
    containers.logs(&record, choice, |entry| -> Result<(), Failure> {
        let to = match is_error(entry) {
            true => {
                // What was written before is to be seen before.
                output.out.flush()?;
                &mut output.err
            }
            false => &mut output.out,
        };
        if args.timestamps {
            write!(to, "{} ", whole(&entry.time))?;
        }
        to.write_all(entry.log.as_bytes())?;
        // Who follows sees it now.
        match args.follow {
            true => Ok(to.flush()?),
            false => Ok(()),
        }
    })?;
    Ok(0)
}

/// A time with all nine digits of its fraction, so that they stand in columns.
fn whole(time: &str) -> String {
    let time = time.strip_suffix('Z').unwrap_or(time);
    let (seconds, part) = time.split_once('.').unwrap_or((time, ""));
    format!("{seconds}.{part:0<9}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stand_in_columns() {
        assert_eq!(
            whole("2024-05-01T10:00:00Z"),
            "2024-05-01T10:00:00.000000000Z"
        );
        assert_eq!(
            whole("2024-05-01T10:00:00.25Z"),
            "2024-05-01T10:00:00.250000000Z"
        );
    }
}
