//! `images`.

use super::filter::{Called, Filters, ImageFilter, created};
use super::format::{self, Format, Heading};
use super::{Outcome, Output, units};
use crate::store::Store;
use crate::store::error::show;
use crate::store::image::{self, Image};
use clap::Args;
use serde::{Serialize, Serializer};

/// Arguments of `images`.
#[derive(Debug, Args)]
pub struct Images {
    /// Only this repository, or this name; with wildcards
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub name: Option<String>,
    /// Accepted for compatibility: all images are always shown
    #[arg(short, long)]
    pub all: bool,
    /// Only those that fit: before=IMAGE, dangling=BOOL, label=KEY[=VALUE],
    /// reference=PATTERN, since=IMAGE, until=TIME
    #[arg(short, long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// Print only ids
    #[arg(short, long)]
    pub quiet: bool,
    /// Print whole ids
    #[arg(long)]
    pub no_trunc: bool,
    /// Show the digests of manifests
    #[arg(long)]
    pub digests: bool,
    /// Print `json`, `table TEMPLATE`, or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}

const TABLE: &str = r"{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const TABLE_WITH_DIGESTS: &str =
    r"{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";

const HEADINGS: &[Heading] = &[
    ("Containers", "CONTAINERS"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedSince", "CREATED"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("SharedSize", "SHARED SIZE"),
    ("Size", "SIZE"),
    ("Tag", "TAG"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("VirtualSize", "SIZE"),
];

/// An image by one of the things it is called.
struct Row<'a> {
    image: &'a Image,
    called: Called<'a>,
    no_trunc: bool,
}

impl format::Row for Row<'_> {
    fn text(&self, field: &str) -> Option<String> {
        let image = self.image;
        let none = || "<none>".to_owned();
        let time = |show: fn(i64) -> String| match created(image) {
            Some(created) => show(created),
            None => "N/A".to_owned(),
        };
        Some(match field {
            "ID" if self.no_trunc => image.id.to_string(),
            "ID" => image.id.short(),
            "Repository" => match self.called {
                Called::Name(name) => name.familiar(),
                Called::Digest(digest) => digest.repository().familiar(),
                Called::Nothing => none(),
            },
            "Tag" => match self.called {
                Called::Name(name) => name.tag().to_owned(),
                Called::Digest(_) | Called::Nothing => none(),
            },
            "Digest" => match self.called {
                Called::Name(name) => image.digest_in(name),
                Called::Digest(digest) => Some(digest),
                Called::Nothing => None,
            }
            .map_or(image.manifest.digest, |d| d.digest)
            .to_string(),
            "CreatedSince" => time(units::ago),
            "CreatedAt" => time(units::date),
            "Size" | "VirtualSize" => units::size(image.size),
            // As for docker, the rest is `system df -v`'s to say.
            "Containers" | "SharedSize" | "UniqueSize" => "N/A".to_owned(),
            _ => return None,
        })
    }
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let text = |field: &'static str| Some((field, format::Row::text(self, field)?));
        s.collect_map(HEADINGS.iter().filter_map(|(field, _)| text(field)))
    }
}

/// List images, newest first, one line for each name, and for each repository
/// that calls it by a digest alone (for each such digest where they are shown).
///
/// # Errors
/// When the store is damaged.
pub fn images(store: &Store, args: &Images, output: &mut Output<'_>) -> Outcome {
    let table = match args.digests {
        true => TABLE_WITH_DIGESTS,
        false => TABLE,
    };
    let format = Format::of_user(args.format.as_deref(), "imagesFormat", table, args.quiet)?;
    let filters = Filters::parse(&args.filter, ImageFilter::KEYS)?;
    let filter = ImageFilter::new(filters, args.name.as_deref(), store)?;
    let index = store.read_index()?;
    let mut all = image::images(&index);
    all.sort_by_cached_key(|image| std::cmp::Reverse(created(image)));
    let shows_digests = format.uses("Digest");
    let mut rows = Vec::new();
    for image in &all {
        let mut lines = filter.lines(image, store)?;
        if !shows_digests {
            let mut seen = Vec::new();
            lines.retain(|called| match called {
                Called::Digest(d) if seen.contains(&d.repository()) => false,
                Called::Digest(d) => {
                    seen.push(d.repository());
                    true
                }
                Called::Name(_) | Called::Nothing => true,
            });
        }
        rows.extend(lines.into_iter().map(|called| Row {
            image,
            called,
            no_trunc: args.no_trunc,
        }));
    }
    let outcome = format.print(HEADINGS, &rows, output);
    let damages = image::damages(&index);
    for image in &all {
        if let Some(why) = damages.get(&image.id) {
            let (title, why) = (image.title(), show(why.as_bytes()));
            writeln!(output.err, "warning: image {title} is damaged: {why}")?;
        }
    }
    outcome
}
