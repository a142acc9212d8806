//! An image of what a container has changed.

use super::changes::{self, Change, Trees, What};
use super::create::{self, DEFAULT_PATH};
use super::pack::{self, LayerWish};
use super::record::Status;
use super::{Containers, Record};
use crate::store::change;
use crate::store::error::{Context, Error, Result};
use crate::store::load::{Loaded, MakingStep};
use crate::store::reference::Reference;
use crate::store::time;
use crate::sys::tree;
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::Write;

/// What is mounted in every container, and made by the runtime where the image
/// lacks it.
const MOUNT_POINTS: [&str; 6] = [
    "dev",
    "etc/hostname",
    "etc/hosts",
    "etc/resolv.conf",
    "proc",
    "sys",
];

/// How a container is to become an image.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// What it is to be called.
    pub name: Option<Reference>,
    /// Who made it.
    pub author: String,
    /// What is said of it.
    pub message: String,
    /// Instructions, see [`change`].
    pub changes: Vec<String>,
    /// Does it stand still meanwhile, if it runs; where nothing is said it does
    /// if that can be had.
    pub pause: Option<bool>,
}

impl Containers<'_> {
    /// Make an image of a container: its image's layers, and one with what it
    /// has changed.
    ///
    /// # Errors
    /// When its image is gone, an instruction is bad, something else holds the
    /// container, or the store cannot be written.
    pub fn commit(&self, record: &Record, wish: Wish) -> Result<Loaded> {
        let latest = time::source_date_epoch()?;
        let (image, _) = match self.store.find_image(&record.image.to_string()) {
            Err(Error::NotFound(_)) => {
                return Err(Error::NotFound(format!(
                    "the image of container {} is gone, and with it what an image of the container would be made on",
                    record.name
                )));
            }
            found => found?,
        };
        let mut new = self.store.new_image(Some(&image))?;
        let mut run = match new.config.remove("config") {
            Some(Value::Object(run)) => run,
            _ => Map::new(),
        };
        configure(&mut run, record);
        change::apply(&mut run, &wish.changes)?;
        new.config.insert("config".to_owned(), run.into());
        let layer = self.quietly(record, wish.pause, || {
            new.add_layer(|out| self.write_layer(record, latest, out))
        })?;
        let (seconds, nanos) = match latest {
            Some(latest) => (latest, 0),
            None => time::now(),
        };
        let step = MakingStep {
            created: time::format(seconds, nanos),
            created_by: record
                .args
                .get(record.entrypoint..)
                .unwrap_or_default()
                .join(" "),
            author: wish.author,
            comment: wish.message,
        };
        new.note(&step, layer);
        new.config.insert("created".to_owned(), step.created.into());
        match step.author.is_empty() {
            true => drop(new.config.remove("author")),
            false => drop(new.config.insert("author".to_owned(), step.author.into())),
        }
        new.finish(wish.name.into_iter().collect())
    }

    /// Do something while a container stands still, or, if it does not run, while
    /// nobody starts or removes it.
    fn quietly<T>(
        &self,
        record: &Record,
        pause: Option<bool>,
        act: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        self.settle(record)?;
        if self.status(record).0 != Status::Running {
            let _held = self.hold(record)?;
            return act();
        }
        let paused = match (pause, pause.unwrap_or(true).then(|| self.pause(record))) {
            (Some(_), Some(Err(e))) => return Err(e),
            (None, Some(Err(e))) => {
                log::warn!("the container is not paused: {e}");
                None
            }
            (_, paused) => paused,
        };
        let done = act();
        drop(paused);
        done
    }

    /// Write the layer of what a container has changed; no time in it is later
    /// than `latest`.
    ///
    /// # Errors
    /// When a tree cannot be read, or `out` not written.
    pub fn write_layer(
        &self,
        record: &Record,
        latest: Option<i64>,
        out: &mut dyn Write,
    ) -> Result<()> {
        let trees = self.trees(record)?;
        let changes = self.changes(record, &trees)?;
        let wish = LayerWish {
            root: self.root_of_image(record)?,
            latest,
        };
        pack::write_layer(&trees, &changes, wish, out).map(drop)
    }

    /// The trees that a container is made of.
    pub(super) fn trees(&self, record: &Record) -> Result<Trees> {
        let layers: Vec<_> = record
            .layers
            .iter()
            .map(|l| self.store.layer_dir(l))
            .collect();
        Trees::open(&self.dir(&record.id).join("upper"), &layers)
    }

    /// What a container has changed, without what the runtime made to mount
    /// things at.
    pub(super) fn changes(&self, record: &Record, trees: &Trees) -> Result<Vec<Change>> {
        if self.is_served(record)? {
            // What was stored to mappings is still the kernel's.
            let point = self.mount_point(record);
            File::open(&point)
                .context(|| format!("cannot open {}", point.display()))
                .and_then(|root| {
                    tree::sync_filesystem(root).context(|| "cannot sync it".to_owned())
                })?;
        }
        Ok(without_mount_points(trees.changes()?, &[]))
    }

    /// Mode, owner and group that a container's root begins with.
    fn root_of_image(&self, record: &Record) -> Result<(u32, u32, u32)> {
        let (config, _) = self.store.image_config(&record.image)?;
        create::root_without(self.store, &self.store.image_layers(&config)?)
    }
}

/// The container's way to be run becomes the image's.
fn configure(run: &mut Map<String, Value>, record: &Record) {
    let has_path = |env: Option<&Value>| {
        let all = env.and_then(Value::as_array).into_iter().flatten();
        all.filter_map(Value::as_str)
            .any(|e| e.starts_with("PATH="))
    };
    let own_path = has_path(run.get("Env"));
    let env = record.env.iter().filter(|e| own_path || *e != DEFAULT_PATH);
    let env: Vec<&String> = env.collect();
    let (entrypoint, cmd) = record
        .args
        .split_at(record.entrypoint.min(record.args.len()));
    let settings = &record.settings;
    let object = |keys: Vec<&str>| -> Map<String, Value> {
        keys.into_iter()
            .map(|key| (key.to_owned(), json!({})))
            .collect()
    };
    let exposed = object(settings.exposed.iter().map(String::as_str).collect());
    let volumes = settings.mounts.iter().filter(|m| m.anonymous);
    let mut volumes = object(volumes.map(|m| m.target.as_str()).collect());
    // One that something else is mounted over is one all the same.
    if let Some(Value::Object(of_image)) = run.remove("Volumes") {
        volumes.extend(of_image);
    }
    let in_root = !run.contains_key("WorkingDir") && record.working_dir == "/";
    let dir = if in_root { "" } else { &record.working_dir };
    for (key, value) in [
        ("Env", json!(env)),
        ("Cmd", json!(cmd)),
        ("Entrypoint", json!(entrypoint)),
        ("User", json!(record.user)),
        ("WorkingDir", json!(dir)),
        ("ExposedPorts", exposed.into()),
        ("Volumes", volumes.into()),
        ("Labels", json!(settings.labels)),
        ("StopSignal", json!(settings.stop_signal)),
        // Triggers were for whoever builds on the image itself.
        ("OnBuild", Value::Null),
    ] {
        let empty = match &value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(object) => object.is_empty(),
            _ => false,
        };
        match empty {
            true => drop(run.remove(key)),
            false => drop(run.insert(key.to_owned(), value)),
        }
    }
}

/// Leave out what the runtime made to mount things at, and the directories that
/// changed by that alone.
pub(super) fn without_mount_points(mut changes: Vec<Change>, more: &[Vec<u8>]) -> Vec<Change> {
    let made = |change: &Change| {
        let empty = match &change.what {
            What::Here { stat, .. } => stat.is_dir() || stat.is_file() && stat.size == 0,
            _ => false,
        };
        let known = MOUNT_POINTS.iter().any(|at| at.as_bytes() == change.path)
            || more.contains(&change.path);
        known && empty && change.before.is_none()
    };
    let mut touched: Vec<Vec<u8>> = Vec::new();
    for at in (0..changes.len()).rev() {
        let Some(change) = changes.get(at) else {
            continue;
        };
        let below = [change.path.as_slice(), b"/"].concat();
        let next = changes.get(at + 1);
        let has_more = change.is_dir() && next.is_some_and(|c| c.path.starts_with(&below));
        if has_more || change.path.is_empty() {
            continue;
        }
        if made(change) {
            touched.push(changes::split(&change.path).0.to_vec());
            changes.remove(at);
        } else if touched.contains(&change.path) && same_attributes(change) {
            changes.remove(at);
        }
    }
    changes
}

/// Is it a directory with the mode and owner that the image gives it.
fn same_attributes(change: &Change) -> bool {
    match (&change.what, &change.before) {
        (What::Here { stat, .. }, Some(before)) => {
            (stat.mode, stat.uid, stat.gid) == (before.mode, before.uid, before.gid)
        }
        (_, None) => true,
        _ => false,
    }
}
