//! Everything as one JSON document. Bytes are numbers; paths are as they are
//! shown, since JSON has no other form for names that are no text.

use crate::layers::analysis::Count;
use crate::layers::view::View;
use crate::layers::{Analysis, Kind, ROOT, Status};
use crate::store::Digest;
use crate::store::image::Image;
use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};
use std::io::{Result, Write};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    id: &'a Digest,
    names: Vec<String>,
    total: u64,
    wasted: u64,
    wasted_percent: f64,
    duplicated: u64,
    efficiency: f64,
    layers: Vec<Layer<'a>>,
    waste: Vec<Waste>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tree: Option<Tree<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Layer<'a> {
    number: usize,
    diff_id: &'a Digest,
    command: &'a str,
    size: u64,
    wastes: u64,
    added: Count,
    changed: Count,
    removed: Count,
}

#[derive(Serialize)]
struct Waste {
    path: String,
    bytes: u64,
    times: u32,
}

#[derive(Serialize)]
struct Entry {
    path: String,
    kind: Kind,
    size: u64,
    status: Option<Status>,
}

/// Written as it is walked: it may be long.
struct Tree<'a>(&'a Analysis, &'a View);

impl Serialize for Tree<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        let Tree(analysis, view) = self;
        let mut list = s.serialize_seq(None)?;
        let mut todo = vec![ROOT];
        while let Some(node) = todo.pop() {
            if let Some(shown) = view.get(node) {
                list.serialize_element(&Entry {
                    path: analysis.shown_path(node),
                    kind: shown.kind,
                    size: shown.size,
                    status: shown.status,
                })?;
            }
            todo.extend(view.children(analysis, node).rev().map(|(child, _)| child));
        }
        list.end()
    }
}

/// The document, and a newline.
pub fn print(
    out: &mut dyn Write,
    image: &Image,
    analysis: &Analysis,
    view: Option<&View>,
) -> Result<()> {
    let layers = analysis.layers.iter().enumerate().map(|(i, layer)| Layer {
        number: i + 1,
        diff_id: &layer.diff_id,
        command: &layer.command,
        size: layer.size,
        wastes: layer.wastes,
        added: layer.count(Status::Added),
        changed: layer.count(Status::Changed),
        removed: layer.count(Status::Removed),
    });
    let waste = analysis.waste.iter().map(|w| Waste {
        path: analysis.shown_path(w.node),
        bytes: w.bytes,
        times: w.times,
    });
    let document = Document {
        id: &image.id,
        names: image.names.iter().map(|n| n.familiar_tagged()).collect(),
        total: analysis.total,
        wasted: analysis.wasted,
        wasted_percent: analysis.wasted_percent(),
        duplicated: analysis.duplicated,
        efficiency: analysis.efficiency(),
        layers: layers.collect(),
        waste: waste.collect(),
        tree: view.map(|view| Tree(analysis, view)),
    };
    serde_json::to_writer(&mut *out, &document)?;
    writeln!(out)
}
