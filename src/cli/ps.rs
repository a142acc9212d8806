//! `ps`.

use super::args;
use super::{Outcome, Output, table, units};
use crate::container::{Containers, Record, Status, size};

/// List containers, newest first.
///
/// # Errors
/// When a record is damaged or an upper layer cannot be read.
pub fn ps(containers: &Containers<'_>, args: &args::Ps, output: &mut Output<'_>) -> Outcome {
    let mut heading = vec![
        "CONTAINER ID",
        "IMAGE",
        "COMMAND",
        "CREATED",
        "STATUS",
        "PORTS",
        "NAMES",
    ];
    if args.size {
        heading.push("SIZE");
    }
    let mut rows = vec![heading.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    for record in containers.list()? {
        let (status, exit_code) = containers.status(&record);
        if status != Status::Running && !args.all {
            continue;
        }
        let id = if args.no_trunc {
            record.id.as_str()
        } else {
            record.short()
        };
        if args.quiet {
            writeln!(output.out, "{id}")?;
            continue;
        }
        let command = record.args.join(" ");
        let command = match args.no_trunc {
            true => command,
            false => table::cut(&command, 20),
        };
        let mut row = vec![
            id.to_owned(),
            record.image_name.clone(),
            format!("{command:?}"),
            units::ago(record.created / 1_000_000_000),
            status_text(&record, status, exit_code),
            String::new(),
            record.name.clone(),
        ];
        if args.size {
            let written = size::written(&containers.dir(&record.id).join("upper"))?;
            row.push(format!(
                "{} (virtual {})",
                units::size(written),
                units::size(written + record.image_size)
            ));
        }
        rows.push(row);
    }
    if !args.quiet {
        table::print(output.out, &rows)?;
    }
    Ok(0)
}

fn status_text(record: &Record, status: Status, exit_code: Option<i32>) -> String {
    let state = &record.state;
    match status {
        Status::Created => "Created".to_owned(),
        Status::Running => {
            let since = units::now().saturating_sub(state.started.unwrap_or_default());
            format!("Up {}", units::duration(since))
        }
        Status::Exited => {
            let then = state.finished.or(state.started).unwrap_or_default();
            format!(
                "Exited ({}) {}",
                exit_code.unwrap_or_default(),
                units::ago(then)
            )
        }
    }
}
