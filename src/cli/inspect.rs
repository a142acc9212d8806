//! `inspect`: containers and images in docker's shape.

use super::args;
use super::{Failure, Outcome, Output, units};
use crate::container::{Containers, Network, Record, Status, process, size};
use crate::store::image::{Image, raw_config};
use crate::store::{Digest, Error, Store};
use serde::Serialize;
use serde_json::{Value, json};
use std::io::Write;

/// Docker's word for a time that is not known.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Show containers and images; a container's name goes first.
///
/// # Errors
/// When one is not there; the others are shown.
pub fn inspect(
    containers: &Containers<'_>,
    args: &args::Inspect,
    output: &mut Output<'_>,
) -> Outcome {
    let mut found: Vec<Value> = Vec::new();
    let mut missing = Vec::new();
    for name in &args.names {
        match one(containers, name, args.size) {
            Ok(value) => found.push(value),
            Err(Error::NotFound(_)) => missing.push(format!("No such object: {name}")),
            Err(e) => missing.push(e.to_string()),
        }
    }
    print(output.out, &found)?;
    for text in &missing {
        writeln!(output.err, "Error: {text}")?;
    }
    match missing.is_empty() {
        true => Ok(0),
        false => Err(Failure::Said(1)),
    }
}

fn one(containers: &Containers<'_>, name: &str, sizes: bool) -> Result<Value, Error> {
    match containers.find(name) {
        Ok(record) => container(containers, &record, sizes),
        Err(Error::NotFound(_)) => {
            image(containers.store(), &containers.store().find_image(name)?.0)
        }
        Err(e) => Err(e),
    }
}

/// An array indented by four blanks; an empty one as `[]`.
fn print(out: &mut dyn Write, values: &[Value]) -> std::io::Result<()> {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    values.serialize(&mut serializer)?;
    text.push(b'\n');
    out.write_all(&text)
}

fn image(store: &Store, image: &Image) -> Result<Value, Error> {
    let (config, data) = store.image_config(&image.id)?;
    let raw = raw_config(&data)?;
    let text = |key: &str| raw.get(key).and_then(Value::as_str).unwrap_or_default();
    let layers = store.image_layers(&config)?;
    let names: Vec<Digest> = layers.iter().rev().map(|l| l.name()).collect();
    let tags: Vec<String> = image.names.iter().map(|n| n.familiar_tagged()).collect();
    let digests: Vec<String> = image.digests.iter().map(|d| d.familiar()).collect();
    Ok(json!({
        "Id": image.id,
        "RepoTags": tags,
        "RepoDigests": digests,
        "Comment": text("comment"),
        "Created": image.created.as_deref().unwrap_or(NEVER),
        "Author": text("author"),
        "Config": raw.get("config").cloned().unwrap_or_else(|| json!({})),
        "Architecture": text("architecture"),
        "Variant": text("variant"),
        "Os": text("os"),
        "Size": image.size,
        "GraphDriver": {
            "Name": "capasfs",
            "Data": { "LowerDir": lower_dirs(store, &names) },
        },
        "RootFS": { "Type": "layers", "Layers": config.diff_ids() },
        "Descriptor": image.manifest,
    }))
}

fn lower_dirs(store: &Store, names: &[Digest]) -> String {
    let dirs = names
        .iter()
        .map(|n| store.layer_dir(n).display().to_string());
    dirs.collect::<Vec<_>>().join(":")
}

fn container(containers: &Containers<'_>, record: &Record, sizes: bool) -> Result<Value, Error> {
    let dir = containers.dir(&record.id);
    let at = |name: &str| dir.join(name).display().to_string();
    let (status, exit_code) = containers.status(record);
    let time = |t: Option<i64>| t.map_or_else(|| NEVER.to_owned(), |t| units::format_time(t, 0));
    let pid = match status {
        Status::Running => process::from_pid_file(&dir.join("pid")).unwrap_or(0),
        Status::Created | Status::Exited => 0,
    };
    let nanos = record.created.rem_euclid(1_000_000_000);
    let created = units::format_time(
        record.created.div_euclid(1_000_000_000),
        u32::try_from(nanos).unwrap_or(0),
    );
    let (entrypoint, cmd) = record
        .args
        .split_at_checked(record.entrypoint)
        .unwrap_or((&[], &record.args));
    let network = match record.network {
        Network::Host => "host",
        Network::None => "none",
    };
    let mut value = json!({
        "Id": record.id,
        "Created": created,
        "Path": record.args.first(),
        "Args": record.args.get(1..).unwrap_or_default(),
        "State": {
            "Status": status,
            "Running": status == Status::Running,
            "Pid": pid,
            "ExitCode": exit_code.unwrap_or(0),
            "StartedAt": time(record.state.started),
            "FinishedAt": time(record.state.finished),
        },
        "Image": record.image,
        "Name": format!("/{}", record.name),
        "Driver": "capasfs",
        "HostConfig": { "NetworkMode": network, "AutoRemove": record.auto_remove },
        "GraphDriver": {
            "Name": "capasfs",
            "Data": {
                "LowerDir": lower_dirs(containers.store(), &record.layers),
                "MergedDir": at("merged"),
                "UpperDir": at("upper"),
                "WorkDir": at("work"),
            },
        },
        "Mounts": [],
        "Config": {
            "Hostname": record.short(),
            "User": record.user,
            "Env": record.env,
            "Entrypoint": (!entrypoint.is_empty()).then_some(entrypoint),
            "Cmd": cmd,
            "Image": record.image_name,
            "WorkingDir": record.working_dir,
        },
    });
    if sizes && let Some(map) = value.as_object_mut() {
        let written = size::written(&dir.join("upper"))?;
        map.insert("SizeRw".to_owned(), json!(written));
        map.insert("SizeRootFs".to_owned(), json!(written + record.image_size));
    }
    Ok(value)
}
