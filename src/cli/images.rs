//! `images` and `rmi`.

use super::args;
use super::{Failure, Outcome, Output, table, units};
use crate::container::Containers;
use crate::store::error::show;
use crate::store::image::{self, Image};
use crate::store::remove::Removed;
use crate::store::{Error, Name, Reference, Store};

/// List images, newest first, one line for each name.
///
/// # Errors
/// When the store is damaged.
pub fn images(store: &Store, args: &args::Images, output: &mut Output<'_>) -> Outcome {
    let wanted = match &args.name {
        Some(text) => Some(Name::parse(text)?),
        None => None,
    };
    let fits = |name: &Reference| match &wanted {
        None => true,
        Some(w) if w.tagged => *name == w.reference,
        Some(w) => name.same_repository(&w.reference),
    };
    let index = store.read_index()?;
    let mut all = image::images(&index);
    let created = |i: &Image| i.created.as_deref().and_then(units::parse_time);
    all.sort_by_key(|i| std::cmp::Reverse(created(i)));
    let mut heading = vec!["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"];
    if args.digests {
        heading.insert(2, "DIGEST");
    }
    let mut rows = vec![heading.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    for image in &all {
        let id = match args.no_trunc {
            true => image.id.to_string(),
            false => image.id.short(),
        };
        let names: Vec<_> = image.names.iter().filter(|n| fits(n)).map(Some).collect();
        let nameless = image.names.is_empty() && wanted.is_none();
        let lines = if nameless { vec![None] } else { names };
        if args.quiet {
            for _ in lines {
                writeln!(output.out, "{id}")?;
            }
            continue;
        }
        for name in lines {
            let none = || "<none>".to_owned();
            let mut row = vec![
                name.map_or_else(none, Reference::familiar),
                name.map_or_else(none, |n| n.tag().to_owned()),
                id.clone(),
                created(image).map_or_else(|| "N/A".to_owned(), units::ago),
                units::size(image.size),
            ];
            if args.digests {
                row.insert(2, image.manifest.digest.to_string());
            }
            rows.push(row);
        }
    }
    if !args.quiet {
        table::print(output.out, &rows)?;
    }
    for image in &all {
        if let Some(why) = image::damage(&index, &image.id) {
            let (title, why) = (image.title(), show(why.as_bytes()));
            writeln!(output.err, "warning: image {title} is damaged: {why}")?;
        }
    }
    Ok(0)
}

/// Remove names and images.
///
/// # Errors
/// When one of them is not there or in use; the others are removed.
pub fn rmi(containers: &Containers<'_>, args: &args::Remove, output: &mut Output<'_>) -> Outcome {
    let store = containers.store();
    let mut code = 0;
    let mut gone = false;
    for name in &args.names {
        match store.remove_image(name, args.force, || containers.users()) {
            Ok(removed) => {
                for what in removed {
                    match what {
                        Removed::Name(name) => {
                            writeln!(output.out, "Untagged: {}", name.familiar_tagged())?;
                        }
                        Removed::Image(id) => {
                            gone = true;
                            writeln!(output.out, "Deleted: {id}")?;
                        }
                    }
                }
            }
            // As `rm -f`, which is not surprised either.
            Err(Error::NotFound(text)) if args.force => writeln!(output.err, "Error: {text}")?,
            Err(e) => {
                code = 1;
                writeln!(output.err, "Error: {e}")?;
            }
        }
    }
    if gone {
        store.sweep(|| containers.users())?;
    }
    match code {
        0 => Ok(0),
        code => Err(Failure::Said(code)),
    }
}
