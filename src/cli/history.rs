//! `history`: what an image was made of, newest first.

use super::format::{self, Format, Heading};
use super::{Outcome, Output, table, units};
use crate::store::{Store, document};
use clap::ArgAction;
use serde::{Deserialize, Serialize};

/// Arguments of `history`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Sizes and ages as people read them
    #[arg(
        short = 'H',
        long,
        default_value_t = true,
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub human: bool,
    /// Print whole ids and commands
    #[arg(long)]
    pub no_trunc: bool,
    /// Print only ids
    #[arg(short, long)]
    pub quiet: bool,
    /// Print `json`, `table TEMPLATE`, or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Name or id of the image
    pub image: String,
}

const TABLE: &str = r"{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
const TABLE_EXACT: &str = r"{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";

const HEADINGS: &[Heading] = &[
    ("Comment", "COMMENT"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("CreatedSince", "CREATED"),
    ("ID", "IMAGE"),
    ("Size", "SIZE"),
];

/// Clocks that were never set, and builds that leave times out, give less.
const YEAR_2000: i64 = 946_684_800;

/// What a configuration says of its making.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    history: Option<Vec<Step>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Step {
    created: Option<String>,
    created_by: Option<String>,
    comment: Option<String>,
    empty_layer: Option<bool>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    #[serde(rename = "ID")]
    id: String,
    created_since: String,
    created_at: String,
    created_by: String,
    size: String,
    comment: String,
}

impl format::Row for Row {}

impl Row {
    fn new(step: Step, size: Option<u64>, args: &Args) -> Row {
        let created = step.created.as_deref().and_then(crate::store::time::parse);
        let unknown = || "N/A".to_owned();
        let by = plain(step.created_by.as_deref().unwrap_or_default());
        Row {
            id: "<missing>".to_owned(),
            created_since: created
                .filter(|t| *t >= YEAR_2000)
                .map_or_else(unknown, units::ago),
            created_at: created.map_or_else(unknown, |t| crate::store::time::format(t, 0)),
            created_by: match args.no_trunc {
                true => by,
                false => table::cut(&by, 45),
            },
            size: match size {
                Some(size) if args.human => units::size(size),
                Some(size) => size.to_string(),
                None => unknown(),
            },
            comment: plain(step.comment.as_deref().unwrap_or_default()),
        }
    }
}

/// On one line, and nothing that a terminal would obey.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => out.push(' '),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// List the steps by which an image was made.
///
/// # Errors
/// When there is no such image, or it is damaged.
pub fn history(store: &Store, args: &Args, output: &mut Output<'_>) -> Outcome {
    let default = if args.human { TABLE } else { TABLE_EXACT };
    let format = Format::of_list(args.format.as_deref(), default, args.quiet)?;
    let (image, _) = store.find_image(&args.image)?;
    let (config, data) = store.image_config(&image.id)?;
    let steps: Config = document::parse(&data, "image configuration")?;
    let mut sizes = store.image_layers(&config)?.into_iter().map(|l| l.size);
    let mut rows = Vec::new();
    for step in steps.history.unwrap_or_default() {
        let size = match step.empty_layer {
            Some(true) => Some(0),
            _ => sizes.next(),
        };
        rows.push(Row::new(step, size, args));
    }
    // Layers that the history does not speak of.
    rows.extend(sizes.map(|size| Row::new(Step::default(), Some(size), args)));
    rows.reverse();
    if let Some(top) = rows.first_mut() {
        top.id = match args.no_trunc {
            true => image.id.to_string(),
            false => image.id.short(),
        };
    }
    format.print(HEADINGS, &rows, output)
}
