//! Tables and trees for people and pipes.

use super::super::{table, units};
use crate::layers::label::label;
use crate::layers::view::{Shown, View};
use crate::layers::{Analysis, Kind, ROOT, Status};
use std::io::{Result, Write};

/// As wide as `history` shows commands.
const COMMAND: usize = 45;
/// Paths in the list of what is wasted.
const PATHS: usize = 10;

/// A line a layer, the sums, and where most is wasted.
pub fn summary(out: &mut dyn Write, analysis: &Analysis, whole: bool) -> Result<()> {
    let heading = [
        "#", "LAYER", "SIZE", "ADDED", "CHANGED", "REMOVED", "COMMAND",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for (number, layer) in analysis.layers.iter().enumerate() {
        let count = |status| layer.count(status).entries;
        rows.push(vec![
            (number + 1).to_string(),
            match whole {
                true => layer.diff_id.to_string(),
                false => layer.diff_id.short(),
            },
            units::size(layer.size),
            format!("+{}", count(Status::Added)),
            format!("~{}", count(Status::Changed)),
            format!("-{}", count(Status::Removed)),
            match whole {
                true => layer.command.clone(),
                false => table::cut(&layer.command, COMMAND),
            },
        ]);
    }
    table::print(out, &rows)?;
    writeln!(out)?;
    writeln!(out, "Total:        {}", units::size(analysis.total))?;
    writeln!(
        out,
        "Wasted:       {} under {} paths, {:.2}% of what lies above the lowest layer",
        units::size(analysis.wasted),
        analysis.waste.len(),
        analysis.wasted_percent()
    )?;
    writeln!(out, "Duplicated:   {}", units::size(analysis.duplicated))?;
    writeln!(out, "Efficiency:   {:.4}", analysis.efficiency())?;
    if analysis.waste.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let mut rows = vec![["WASTED", "TIMES", "PATH"].map(str::to_owned).to_vec()];
    for waste in analysis.waste.iter().take(PATHS) {
        rows.push(vec![
            units::size(waste.bytes),
            waste.times.to_string(),
            analysis.shown_path(waste.node),
        ]);
    }
    table::print(out, &rows)
}

/// The letter of `diff` for what is done to a name.
pub fn letter(status: Option<Status>) -> char {
    match status {
        Some(Status::Added) => 'A',
        Some(Status::Changed) => 'C',
        Some(Status::Removed) => 'D',
        None => ' ',
    }
}

/// What stands behind a name, as `ls -F` has it.
pub fn suffix(kind: Kind) -> &'static str {
    match kind {
        Kind::Dir => "/",
        Kind::Symlink => "@",
        Kind::Special => "%",
        Kind::File => "",
    }
}

/// A line a name, directories before what is in them.
pub fn tree(out: &mut dyn Write, analysis: &Analysis, view: &View) -> Result<()> {
    let line = |out: &mut dyn Write, depth: usize, name: &str, shown: &Shown| {
        writeln!(
            out,
            "{} {:>7}  {:width$}{name}{}",
            letter(shown.status),
            units::size(shown.size),
            "",
            suffix(shown.kind),
            width = depth * 2,
        )
    };
    let mut todo: Vec<(u32, usize)> = vec![(ROOT, 0)];
    while let Some((node, depth)) = todo.pop() {
        if let (Some(shown), Some(n)) = (view.get(node), analysis.nodes.get(node as usize)) {
            line(out, depth, &label(&n.name), shown)?;
        }
        let children = view.children(analysis, node).rev();
        todo.extend(children.map(|(child, _)| (child, depth + 1)));
    }
    Ok(())
}
