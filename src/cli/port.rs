//! `port`.

use super::{Outcome, Output};
use crate::container::{Containers, Status};
use crate::store::error::{Error, show};

/// Arguments of `port`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    pub container: String,
    /// Only where this one of its ports is reached
    #[arg(value_name = "PORT[/PROTOCOL]")]
    pub port: Option<String>,
}

/// Print where the ports of a container that runs are reached.
///
/// # Errors
/// When there is no such container, or the port is not published.
pub fn port(containers: &Containers<'_>, args: &Args, output: &mut Output<'_>) -> Outcome {
    let record = containers.find(&args.container)?;
    let published = match containers.status(&record).0 {
        Status::Running => record.state.ports.as_slice(),
        Status::Created | Status::Exited => &[],
    };
    let Some(asked) = &args.port else {
        for port in published {
            writeln!(output.out, "{} -> {}", port.inside(), port.address())?;
        }
        return Ok(0);
    };
    let asked = match asked.split_once('/') {
        Some((_, "tcp" | "udp")) => asked.clone(),
        Some((_, other)) => {
            let other = show(other.as_bytes());
            return Err(
                Error::Invalid(format!("invalid protocol '{other}': it is tcp or udp")).into(),
            );
        }
        None => format!("{asked}/tcp"),
    };
    let mut found = published.iter().filter(|p| p.inside() == asked).peekable();
    if found.peek().is_none() {
        let asked = show(asked.as_bytes());
        let why = format!("no public port '{asked}' published for {}", record.name);
        return Err(Error::NotFound(why).into());
    }
    for port in found {
        writeln!(output.out, "{}", port.address())?;
    }
    Ok(0)
}
