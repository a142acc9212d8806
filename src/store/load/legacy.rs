//! Docker archives from before version 1.10: `repositories` says which id has
//! which name, `ID/json` describes one layer and names the one below it,
//! `ID/layer.tar` is its content, not compressed. The image's configuration is
//! made of them.

use super::plan::{Documents, Plan, PlannedLayer};
use crate::store::archive::Archive;
use crate::store::digest::{Digest, Hasher};
use crate::store::document::{ImageConfig, MAX_CONFIG, MAX_MANIFEST, check_layers, parse};
use crate::store::error::{Context, Result, invalid, show};
use crate::store::reference::Reference;
use crate::store::to_json;
use serde_json::{Map, Value, json};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

/// The file that has the names.
pub(super) const REPOSITORIES: &str = "repositories";

/// What such an archive says of a layer and of the image that ends with it, and
/// what does not belong to a configuration.
const DROPPED: [&str; 6] = ["id", "parent", "Size", "parent_id", "layer_id", "throwaway"];

/// One layer.
struct Old {
    json: Map<String, Value>,
    diff_id: Digest,
}

impl Old {
    fn text(&self, key: &str) -> Option<&str> {
        self.json.get(key)?.as_str().filter(|text| !text.is_empty())
    }

    /// Its part of an image's history.
    fn history(&self) -> Value {
        let mut entry = Map::new();
        let mut add = |key: &str, value: Option<&str>| {
            if let Some(value) = value {
                entry.insert(key.to_owned(), value.into());
            }
        };
        add("created", self.text("created"));
        add("author", self.text("author"));
        let command = self.json.get("container_config").and_then(|c| c.get("Cmd"));
        let words = command.and_then(Value::as_array).into_iter().flatten();
        let command: Vec<&str> = words.filter_map(Value::as_str).collect();
        let command = command.join(" ");
        add(
            "created_by",
            Some(command.as_str()).filter(|c| !c.is_empty()),
        );
        add("comment", self.text("comment"));
        entry.into()
    }
}

/// The images of such an archive that have names.
pub(super) fn plan_legacy(archive: &Archive) -> Result<Vec<Plan>> {
    let data = archive.read(REPOSITORIES, MAX_MANIFEST)?;
    let names: BTreeMap<String, BTreeMap<String, String>> = parse(&data, REPOSITORIES)?;
    let mut by_id: BTreeMap<String, Vec<Reference>> = BTreeMap::new();
    for (repository, tags) in names {
        for (tag, id) in tags {
            let name = Reference::parse(&format!("{repository}:{tag}"))?;
            by_id.entry(id).or_default().push(name);
        }
    }
    let mut documents = Documents::default();
    let mut known = HashMap::new();
    let plan = |(id, names)| image(archive, id, names, &mut known, &mut documents);
    by_id.into_iter().map(plan).collect()
}

fn image(
    archive: &Archive,
    id: String,
    names: Vec<Reference>,
    known: &mut HashMap<String, Old>,
    documents: &mut Documents,
) -> Result<Plan> {
    // The topmost first.
    let mut chain: Vec<String> = Vec::new();
    let mut next = Some(id);
    while let Some(id) = next {
        if chain.contains(&id) {
            return invalid(format!("layer {} is its own parent", show(id.as_bytes())));
        }
        let old = match known.entry(id.clone()) {
            Entry::Occupied(old) => old.into_mut(),
            Entry::Vacant(place) => place.insert(read(archive, &id, documents)?),
        };
        next = old.text("parent").map(str::to_owned);
        chain.push(id);
        check_layers(chain.len())?;
    }
    let top = chain.first().and_then(|id| known.get(id));
    let mut config = top.map(|old| old.json.clone()).unwrap_or_default();
    let (mut diff_ids, mut history, mut layers) = (Vec::new(), Vec::new(), Vec::new());
    for id in chain.iter().rev() {
        let Some(old) = known.get(id) else { continue };
        diff_ids.push(old.diff_id);
        history.push(old.history());
        layers.push(PlannedLayer {
            diff_id: old.diff_id,
            described: None,
            member: format!("{id}/layer.tar"),
        });
    }
    config.retain(|key, _| !DROPPED.contains(&key.as_str()));
    let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
    config.insert("rootfs".to_owned(), rootfs);
    config.insert("history".to_owned(), history.into());
    let config_data = to_json(&config)?;
    documents.count(config_data.len())?;
    Ok(Plan {
        config: ImageConfig::parse(&config_data)?,
        config_data,
        manifest: None,
        layers,
        names,
        origin: None,
    })
}

fn read(archive: &Archive, id: &str, documents: &mut Documents) -> Result<Old> {
    let data = archive.read(&format!("{id}/json"), MAX_CONFIG)?;
    documents.count(data.len())?;
    let json: Map<String, Value> = parse(&data, "the description of a layer")?;
    let mut hasher = Hasher::default();
    let mut layer = archive.find(&format!("{id}/layer.tar"))?;
    std::io::copy(&mut layer, &mut hasher)
        .context(|| format!("cannot read layer {}", show(id.as_bytes())))?;
    Ok(Old {
        json,
        diff_id: hasher.finish().0,
    })
}
