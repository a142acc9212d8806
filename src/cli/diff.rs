//! `diff`.

use super::format::{self, Format, Heading};
use super::{Outcome, Output};
use crate::container::Containers;
use crate::container::diff::Kind;
use serde::Serialize;
use std::io::IsTerminal;

/// Arguments of `diff`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    pub container: String,
    /// Print `json`, `table`, `table TEMPLATE`, or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}

const HEADINGS: &[Heading] = &[("Path", "PATH"), ("Type", "CHANGE TYPE")];

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    r#type: &'static str,
    path: String,
}

impl format::Row for Row {}

fn letter(kind: Kind) -> &'static str {
    match kind {
        Kind::Added => "A",
        Kind::Changed => "C",
        Kind::Deleted => "D",
    }
}

/// Print what a container has added, changed and deleted, a name a line.
///
/// # Errors
/// When there is no such container, or it cannot be read.
pub fn diff(containers: &Containers<'_>, args: &Args, output: &mut Output<'_>) -> Outcome {
    let terminal = std::io::stdout().is_terminal();
    let changes = containers.diff(&containers.find(&args.container)?)?;
    if let Some(given) = &args.format {
        let format = Format::parse(Some(given), r"{{.Type}}\t{{.Path}}")?;
        let row = |(kind, path): &(Kind, Vec<u8>)| Row {
            r#type: letter(*kind),
            path: format!("/{}", String::from_utf8_lossy(path)),
        };
        let rows: Vec<Row> = changes.iter().map(row).collect();
        return format.print(HEADINGS, &rows, output);
    }
    for (kind, path) in changes {
        // Names are the container's, and may hold what a terminal obeys.
        let path = match terminal {
            true => path
                .iter()
                .map(|b| if b.is_ascii_control() { b'?' } else { *b })
                .collect(),
            false => path,
        };
        let line = [letter(kind).as_bytes(), b" /", &path, b"\n"].concat();
        output.out.write_all(&line)?;
    }
    Ok(0)
}
