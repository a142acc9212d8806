//! `layers`: what each layer of an image adds, changes and removes.

mod browse;
mod draw;
mod json;
mod terminal;
#[cfg(test)]
mod tests;
mod text;

use super::{Outcome, Output, units};
use crate::layers::Analysis;
use crate::layers::view::{Scope, View};
use crate::store::error::{Context, invalid};
use crate::store::{Result, Store};
use clap::{Args, ValueEnum};
use std::io::IsTerminal;

/// The exit code of a check that found too much waste.
const TOO_MUCH: u8 = 2;
/// Where nothing is asked of a check, this efficiency is.
const MIN_EFFICIENCY: f64 = 0.9;

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables
    Table,
    /// One JSON document
    Json,
}

/// Arguments of `layers`.
#[derive(Debug, Args)]
pub struct Layers {
    /// Browse in the terminal, which is what happens where there is one
    #[arg(long, conflicts_with_all = ["format", "tree", "check"])]
    pub interactive: bool,
    /// Print tables, or everything as JSON
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// List the tree that all layers make, or what --layer does
    #[arg(long)]
    pub tree: bool,
    /// Only the layer of this number
    #[arg(long, value_name = "N", requires = "tree", value_parser = clap::value_parser!(u32).range(1..))]
    pub layer: Option<u32>,
    /// Exit with 2 if more is wasted than allowed
    #[arg(long, conflicts_with = "tree")]
    pub check: bool,
    /// Lowest efficiency that --check allows [default: 0.9, if nothing else is asked]
    #[arg(long, value_name = "0..1", requires = "check", value_parser = fraction)]
    pub min_efficiency: Option<f64>,
    /// Most bytes that --check allows to be wasted, for example 20MB
    #[arg(long, value_name = "SIZE", requires = "check", value_parser = size)]
    pub max_wasted: Option<u64>,
    /// Most that may be wasted of what lies above the lowest layer
    #[arg(long, value_name = "PERCENT", requires = "check", value_parser = percent)]
    pub max_wasted_percent: Option<f64>,
    /// Print whole ids and commands
    #[arg(long)]
    pub no_trunc: bool,
    /// Name or id of the image
    pub image: String,
}

fn within(text: &str, most: f64) -> std::result::Result<f64, String> {
    match text.parse() {
        Ok(n) if (0.0..=most).contains(&n) => Ok(n),
        _ => Err(format!("a number from 0 to {most} is needed")),
    }
}

fn fraction(text: &str) -> std::result::Result<f64, String> {
    within(text, 1.0)
}

fn percent(text: &str) -> std::result::Result<f64, String> {
    within(text, 100.0)
}

fn size(text: &str) -> std::result::Result<u64, String> {
    units::parse_size(text).ok_or_else(|| "a size such as 20MB or 5MiB is needed".to_owned())
}

/// Show the layers of an image, or hold their waste against limits.
///
/// # Errors
/// When there is no such image or it is damaged, and when the terminal cannot
/// be used.
pub fn layers(store: &Store, args: &Layers, output: &mut Output<'_>) -> Outcome {
    let (image, _) = store.find_image(&args.image)?;
    let plain = args.format.is_some() || args.tree || args.check;
    let terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    if args.interactive && !terminal {
        invalid("--interactive needs a terminal: use --format or --tree")?;
    }
    let analysis = Analysis::of(store, &image)?;
    if terminal && !plain {
        let signal = terminal::run(&analysis, &image.title())
            .context(|| "cannot use the terminal: try --format table".to_owned())?;
        // As the shell counts a program that was ended by it.
        return Ok(signal.map_or(0, |s| u8::try_from(128 + s).unwrap_or(1)));
    }
    let view = match args.tree {
        true => Some(view(&analysis, args.layer)?),
        false => None,
    };
    match (args.format, &view) {
        (Some(Format::Json), view) => json::print(output.out, &image, &analysis, view.as_ref())?,
        (_, Some(view)) => text::tree(output.out, &analysis, view)?,
        (Some(Format::Table), None) => text::summary(output.out, &analysis, args.no_trunc)?,
        (None, None) if args.check => {}
        (None, None) => text::summary(output.out, &analysis, args.no_trunc)?,
    }
    if !args.check {
        return Ok(0);
    }
    let missed = missed(&analysis, args);
    for line in &missed {
        writeln!(output.err, "{line}")?;
    }
    Ok(if missed.is_empty() { 0 } else { TOO_MUCH })
}

/// The tree with all layers, or what one of them does.
fn view(analysis: &Analysis, layer: Option<u32>) -> Result<View> {
    let Some(layer) = layer else {
        let top = analysis.layers.len();
        return Ok(View::new(analysis, top, Scope::Merged));
    };
    let number = layer as usize - 1;
    match analysis.layers.get(number) {
        Some(_) => Ok(View::new(analysis, number, Scope::Layer)),
        None => invalid(format!("the image has {} layers", analysis.layers.len())),
    }
}

/// One line for each limit that is not kept.
fn missed(analysis: &Analysis, args: &Layers) -> Vec<String> {
    let mut lines = Vec::new();
    let asked = args.max_wasted.is_some() || args.max_wasted_percent.is_some();
    let least = args
        .min_efficiency
        .or_else(|| (!asked).then_some(MIN_EFFICIENCY));
    let efficiency = analysis.efficiency();
    if let Some(least) = least.filter(|least| efficiency < *least) {
        lines.push(format!(
            "efficiency is {efficiency:.4}, less than {least}: {} of {} are wasted",
            units::size(analysis.wasted),
            units::size(analysis.total)
        ));
    }
    if let Some(most) = args.max_wasted.filter(|most| analysis.wasted > *most) {
        lines.push(format!(
            "{} are wasted, more than {}",
            units::size(analysis.wasted),
            units::size(most)
        ));
    }
    let percent = analysis.wasted_percent();
    if let Some(most) = args.max_wasted_percent.filter(|most| percent > *most) {
        lines.push(format!(
            "{percent:.2}% of what lies above the lowest layer are wasted, more than {most}%"
        ));
    }
    lines
}
