//! `inspect`: containers, images and volumes in docker's shape.

use super::template::Template;
use super::{Failure, Outcome, Output};
use super::{typed, volume};
use crate::container::network::Publish;
use crate::container::volume::{Kind, Mount};
use crate::container::{Containers, Record, Status, monitor, size};
use crate::store::document::Index;
use crate::store::error::show;
use crate::store::image::{Image, find, raw_config};
use crate::store::tag::last_tagged;
use crate::store::{Digest, Error, Store};
use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::io::Write;

/// Docker's word for a time that is not known.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Arguments of `inspect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print `json`, or a Go template, for each
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Show how much containers have written
    #[arg(short, long)]
    pub size: bool,
    /// Look only among these
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    pub kind: Option<Type>,
    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
}

/// What can be inspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Type {
    /// A container
    Container,
    /// An image
    Image,
    /// A volume
    Volume,
}

/// Show containers, images and volumes; a container's name goes first, an
/// image's next.
///
/// # Errors
/// When one is not there; the others are shown.
pub fn inspect(containers: &Containers<'_>, args: &Args, output: &mut Output<'_>) -> Outcome {
    let shape = Shape::parse(args.format.as_deref())?;
    let mut found: Vec<Value> = Vec::new();
    let mut failed = Vec::new();
    let index = OnceCell::new();
    for name in &args.names {
        match one(containers, &index, name, args) {
            Ok(value) => {
                // What has no state has nothing that was written.
                if args.size && value.get("State").is_none() {
                    let kind = match value.get("RootFS") {
                        Some(_) => "image",
                        None => "volume",
                    };
                    writeln!(output.err, "WARNING: --size ignored for {kind}")?;
                }
                found.push(value);
            }
            Err(Error::NotFound(_)) if args.kind.is_none() => {
                failed.push(format!("No such object: {}", show(name.as_bytes())));
            }
            Err(e) => failed.push(e.to_string()),
        }
    }
    shape.tell(found, failed, output)
}

/// How values are shown.
pub(super) enum Shape {
    /// An array, for people.
    Lines,
    /// An array on one line.
    Line,
    /// Each as the template has it.
    Template(Box<Template>),
}

impl Shape {
    /// What `--format` says.
    ///
    /// # Errors
    /// For a template that is not well formed.
    pub(super) fn parse(format: Option<&str>) -> Result<Shape, Error> {
        Ok(match format {
            None | Some("") => Shape::Lines,
            Some("json") => Shape::Line,
            Some(text) => Shape::Template(Box::new(Template::parse(text)?)),
        })
    }

    /// Show what was found, and say then what failed.
    ///
    /// # Errors
    /// When something failed.
    pub(super) fn tell(
        &self,
        found: Vec<Value>,
        mut failed: Vec<String>,
        output: &mut Output<'_>,
    ) -> Outcome {
        match self {
            Shape::Template(template) => {
                for value in &found {
                    match typed::render(template, value) {
                        Ok(text) => writeln!(output.out, "{text}")?,
                        Err(e) => failed.push(e.to_string()),
                    }
                }
            }
            Shape::Line => writeln!(output.out, "{}", Value::from(found))?,
            Shape::Lines => print(output.out, &found)?,
        }
        output.out.flush()?;
        for text in &failed {
            writeln!(output.err, "Error: {text}")?;
        }
        match failed.is_empty() {
            true => Ok(0),
            false => Err(Failure::Said(1)),
        }
    }
}

/// The index is read for the first name that needs it.
fn one(
    containers: &Containers<'_>,
    index: &OnceCell<Index>,
    name: &str,
    args: &Args,
) -> Result<Value, Error> {
    let find_image = || {
        let store = containers.store();
        if index.get().is_none() {
            let _ = index.set(store.read_index()?);
        }
        let index = index.get_or_init(Index::default);
        image(store, index, &find(index, name)?.0)
    };
    let find_volume = || Ok(volume::describe(containers, &containers.volume(name)?));
    match args.kind {
        Some(Type::Image) => return find_image(),
        Some(Type::Volume) => return find_volume(),
        Some(Type::Container) | None => {}
    }
    match containers.find(name) {
        Ok(record) => container(containers, &record, args.size),
        Err(Error::NotFound(_)) if args.kind.is_none() => match find_image() {
            Err(Error::NotFound(_)) => find_volume(),
            found => found,
        },
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

/// How an image is run, with all that templates may ask for.
fn run_config(raw: &Value) -> Value {
    let mut config = json!({
        "User": "",
        "ExposedPorts": null,
        "Env": null,
        "Entrypoint": null,
        "Cmd": null,
        "Volumes": null,
        "WorkingDir": "",
        "Labels": null,
        "OnBuild": null,
    });
    if let (Some(out), Some(known)) = (
        config.as_object_mut(),
        raw.get("config").and_then(Value::as_object),
    ) {
        out.extend(known.clone());
    }
    config
}

fn image(store: &Store, index: &Index, image: &Image) -> Result<Value, Error> {
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
        "Comment": match text("comment") {
            "" => last_comment(&raw),
            own => own,
        },
        "Created": image.created.as_deref().unwrap_or(NEVER),
        "Author": text("author"),
        "Config": run_config(&raw),
        "Architecture": text("architecture"),
        "Variant": text("variant"),
        "Os": text("os"),
        "OsVersion": text("os.version"),
        "Size": image.size,
        "GraphDriver": {
            "Name": "capasfs",
            // As of a container of which the topmost layer is the upper one, as
            // docker has it. Nobody mounts it so.
            "Data": {
                "LowerDir": lower_dirs(store, names.get(1..).unwrap_or_default()),
                "MergedDir": "",
                "UpperDir": lower_dirs(store, names.get(..1).unwrap_or_default()),
                "WorkDir": "",
            },
        },
        "RootFS": { "Type": "layers", "Layers": config.diff_ids() },
        "Descriptor": image.manifest,
        "Metadata": { "LastTagTime": last_tagged(index, &image.id).unwrap_or(NEVER) },
    }))
}

/// What the history says of the last step.
fn last_comment(raw: &Value) -> &str {
    let history = raw.get("history").and_then(Value::as_array);
    let last = history.and_then(|steps| steps.last()?.get("comment")?.as_str());
    last.unwrap_or_default()
}

fn lower_dirs(store: &Store, names: &[Digest]) -> String {
    let dirs = names
        .iter()
        .map(|n| store.layer_dir(n).display().to_string());
    dirs.collect::<Vec<_>>().join(":")
}

/// Names as the keys of empty objects, which is how Go writes sets.
fn keys(names: &[String]) -> Value {
    names.iter().map(|n| (n.clone(), json!({}))).collect()
}

/// By port of the container, where it is published.
fn bindings(ports: &[Publish]) -> Value {
    let mut map: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for port in ports {
        let ip = port
            .ip
            .map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string());
        let host = json!({ "HostIp": ip, "HostPort": port.host.to_string() });
        let key = format!("{}/{}", port.container, port.protocol);
        map.entry(key).or_default().push(host);
    }
    json!(map)
}

fn mounts(containers: &Containers<'_>, record: &Record) -> Vec<Value> {
    let mount = |m: &Mount| {
        let source = match m.kind {
            Kind::Volume => containers.volume_data(&m.source).display().to_string(),
            Kind::Bind | Kind::Tmpfs => m.source.clone(),
        };
        let mut told = json!({
            "Type": m.kind,
            "Source": source,
            "Destination": m.target,
            "Mode": m.options.join(","),
            "RW": !m.read_only,
        });
        if m.kind == Kind::Volume
            && let Some(told) = told.as_object_mut()
        {
            told.insert("Name".to_owned(), m.source.as_str().into());
            told.insert("Driver".to_owned(), "local".into());
        }
        told
    };
    record.settings.mounts.iter().map(mount).collect()
}

fn container(containers: &Containers<'_>, record: &Record, sizes: bool) -> Result<Value, Error> {
    let dir = containers.dir(&record.id);
    let at = |name: &str| dir.join(name).display().to_string();
    let (status, exit_code) = containers.status(record);
    let time =
        |t: Option<i64>| t.map_or_else(|| NEVER.to_owned(), |t| crate::store::time::format(t, 0));
    let pid = containers.process(record).map_or(0, |p| p.pid);
    let nanos = record.created.rem_euclid(1_000_000_000);
    let created = crate::store::time::format(
        record.created.div_euclid(1_000_000_000),
        u32::try_from(nanos).unwrap_or(0),
    );
    let (entrypoint, cmd) = record
        .args
        .split_at_checked(record.entrypoint)
        .unwrap_or((&[], &record.args));
    let settings = &record.settings;
    let network = record.network.name();
    let mut value = json!({
        "Id": record.id,
        "Created": created,
        "Path": record.args.first(),
        "Args": record.args.get(1..).unwrap_or_default(),
        "State": {
            "Status": status,
            "Running": status == Status::Running,
            "Paused": false,
            "Restarting": false,
            "Dead": false,
            "Pid": pid,
            "ExitCode": exit_code.unwrap_or(0),
            "Error": record.state.error,
            "OOMKilled": record.state.oom_killed,
            "StartedAt": time(record.state.started),
            "FinishedAt": time(record.state.finished),
        },
        "Image": record.image,
        "Name": format!("/{}", record.name),
        "RestartCount": 0,
        "Driver": "capasfs",
        "Platform": "linux",
        "LogPath": at(monitor::LOG),
        "HostConfig": {
            "LogConfig": { "Type": "json-file", "Config": {} },
            "RestartPolicy": { "Name": "no", "MaximumRetryCount": 0 },
            "Privileged": false,
            "NetworkMode": network,
            "AutoRemove": record.auto_remove,
            "ReadonlyRootfs": settings.read_only,
            "Binds": settings.mounts.iter().filter_map(Mount::bind_text).collect::<Vec<_>>(),
            "PortBindings": bindings(&settings.ports),
            "ExtraHosts": settings.hosts.iter().map(|h| format!("{}:{}", h.name, h.ip)).collect::<Vec<_>>(),
            "Memory": settings.limits.memory.unwrap_or(0),
            "NanoCpus": settings.limits.nano_cpus.unwrap_or(0),
            "PidsLimit": settings.limits.pids,
            "ShmSize": settings.shared_memory.unwrap_or(64 << 20),
            "Ulimits": settings.ulimits.iter().map(|u| json!({ "Name": u.name, "Soft": u.soft, "Hard": u.hard })).collect::<Vec<_>>(),
        },
        "NetworkSettings": {
            "Ports": bindings(&record.state.ports),
            // It has no address that others could reach it at.
            "Networks": { network: { "IPAddress": "", "Gateway": "", "MacAddress": "" } },
        },
        "GraphDriver": {
            "Name": "capasfs",
            "Data": {
                "LowerDir": lower_dirs(containers.store(), &record.layers),
                "MergedDir": at("merged"),
                "UpperDir": at("upper"),
                "WorkDir": at("work"),
            },
        },
        "Mounts": mounts(containers, record),
        "Config": {
            "Hostname": record.hostname(),
            "Tty": settings.tty,
            "OpenStdin": settings.stdin,
            "StdinOnce": settings.stdin_once,
            "ExposedPorts": keys(&settings.exposed),
            "Labels": settings.labels,
            "StopSignal": settings.stop_signal.as_deref().unwrap_or("SIGTERM"),
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
