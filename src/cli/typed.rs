//! What `inspect` knows, as templates see it: with the types of docker's
//! structs, in which nothing is missing.

use super::template::{NO_LIST, NO_MAP, Template, to_value};
use crate::store::Error;
use gotmpl::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Lists in `Config`.
const LISTS: [&str; 5] = ["Cmd", "Entrypoint", "Env", "OnBuild", "Shell"];
/// Maps in `Config`.
const MAPS: [&str; 3] = ["ExposedPorts", "Labels", "Volumes"];
/// What the engine prints for all that is not there, and Go for a pointer. What a
/// map does not hold (a label) is to Go what it is to the engine.
const NOTHING: (&str, &str) = ("<no value>", "<nil>");

type Map = BTreeMap<Arc<str>, Value>;

/// A value by a template.
pub(super) fn render(template: &Template, value: &serde_json::Value) -> Result<String, Error> {
    let mut own = to_value(value)?;
    inner(&mut own, "Config", |config| {
        config.iter_mut().for_each(|(name, value)| {
            if matches!(value, Value::Nil)
                && let Some(empty) = nil(name)
            {
                *value = empty;
            }
        });
    });
    let (text, missing) = template.execute(&own).or_else(|e| {
        // What is not listed, since it is not there, can be asked for.
        complete(&mut own);
        // The error that is told knows nothing of that.
        template.execute(&own).map_err(|_| e)
    })?;
    let (engines, gos) = NOTHING;
    let foreign = template.text().contains(engines) || value.to_string().contains(engines);
    Ok(match missing || foreign {
        true => text,
        false => text.replace(engines, gos),
    })
}

/// Go's nil of the type that the field of a configuration has.
fn nil(name: &str) -> Option<Value> {
    if LISTS.contains(&name) {
        return Some(Value::List(NO_LIST.clone()));
    }
    let map = MAPS.contains(&name);
    map.then(|| Value::Map(NO_MAP.clone()))
}

/// Change a map within a map.
fn inner(value: &mut Value, name: &str, change: impl FnOnce(&mut Map)) {
    if let Value::Map(map) = value
        && let Some(Value::Map(inner)) = Arc::make_mut(map).get_mut(name)
    {
        change(Arc::make_mut(inner));
    }
}

/// Add the fields that docker's structs have and `value` does not.
fn complete(value: &mut Value) {
    inner(value, "Config", |config| {
        for name in LISTS.iter().chain(&MAPS) {
            if let Some(empty) = nil(name) {
                config.entry(Arc::from(*name)).or_insert(empty);
            }
        }
        add(config, "StopSignal", Value::String("".into()));
        add(config, "Healthcheck", Value::Nil);
    });
    inner(value, "State", |state| add(state, "Health", Value::Nil));
    inner(value, "NetworkSettings", |network| {
        for name in ["IPAddress", "Gateway", "MacAddress"] {
            add(network, name, Value::String("".into()));
        }
    });
    if let Value::Map(map) = value {
        let map = Arc::make_mut(map);
        if let Some(Value::List(mounts)) = map.get_mut("Mounts") {
            let whole = mounts.iter().cloned().map(|mut mount| {
                if let Value::Map(mount) = &mut mount {
                    for name in ["Name", "Driver", "Propagation"] {
                        add(Arc::make_mut(mount), name, Value::String("".into()));
                    }
                }
                mount
            });
            *mounts = whole.collect();
        }
        // As for docker `ID` is another word for `Id`.
        if let Some(id) = map.get("Id").cloned() {
            add(map, "ID", id);
        }
        if map.contains_key("RootFS") {
            add(map, "Manifests", Value::List(NO_LIST.clone()));
            add(map, "Identity", Value::Nil);
        }
    }
}

fn add(map: &mut Map, name: &str, value: Value) {
    map.entry(Arc::from(name)).or_insert(value);
}
