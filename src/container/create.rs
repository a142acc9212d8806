//! A new container.

use super::network::Publish;
use super::record::{Network, Record, Settings, State};
use super::volume::{self, Mount};
use super::{Containers, name, network, signal, workdir};
use crate::store::document::RunConfig;
use crate::store::error::{Context, Error, Result, invalid};
use crate::store::layer::{LayerRecord, chain_ids, mounted};
use crate::store::staging::{Staging, random_hex};
use crate::store::{Store, sync_dir, to_json};
use crate::sys::fs::{self as sfs, SetTime, Stat};
use crate::sys::{At, tree};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// The image's search path, where it gives none.
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a container is to be.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Name or id of the image.
    pub image: String,
    /// Name of the container.
    pub name: Option<String>,
    /// In place of the image's command.
    pub args: Vec<String>,
    /// In place of the image's entry point; an empty one removes it.
    pub entrypoint: Option<String>,
    /// `KEY=VALUE`; over the image's.
    pub env: Vec<String>,
    /// In place of the image's.
    pub user: Option<String>,
    /// In place of the image's.
    pub working_dir: Option<String>,
    /// Its network.
    pub network: Network,
    /// Ports that it names are published at free ones.
    pub publish_all: bool,
    /// Removed when it has ended.
    pub auto_remove: bool,
    /// What else; what the image says is added.
    pub settings: Settings,
}

impl Containers<'_> {
    /// Make a container.
    ///
    /// # Errors
    /// When there is no such image, the name is taken, or nothing to run.
    pub fn create(&self, wish: Wish) -> Result<Record> {
        if let Some(name) = &wish.name {
            name::check(name)?;
        }
        if let Some(dir) = &wish.working_dir {
            workdir::must_be_absolute(dir)?;
        }
        let staging = Staging::new(&self.store.tmp())?;
        // The image must not go between the look at it and the record that
        // pins it.
        let _lock = self.store.lock()?;
        let (image, _) = self.store.find_image(&wish.image)?;
        self.store.refuse_damaged(&image)?;
        let (config, _) = self.store.image_config(&image.id)?;
        let layers = self.store.image_layers(&config)?;
        let all = self.list()?;
        let name = match wish.name {
            Some(name) => {
                refuse_taken(&all, &name)?;
                name
            }
            None => name::invent(|name| all.iter().any(|r| r.name == name))?,
        };
        let chain = chain_ids(config.diff_ids()).pop();
        let mut run = config.config.unwrap_or_default();
        let mut settings = settings(wish.settings, &mut run)?;
        if wish.publish_all {
            // What cannot be published is left out, as by docker.
            let named = settings.exposed.iter();
            let named = named.flat_map(|text| Publish::parse(text).unwrap_or_default());
            for port in named.collect::<Vec<_>>() {
                if !settings.ports.iter().any(|p| p.inside() == port.inside()) {
                    settings.ports.push(port);
                }
            }
        }
        // Another entry point comes without the image's arguments.
        let (entrypoint, cmd) = match wish.entrypoint {
            Some(path) if path.is_empty() => (Vec::new(), Vec::new()),
            Some(path) => (vec![path], Vec::new()),
            None => (
                run.entrypoint.unwrap_or_default(),
                run.cmd.unwrap_or_default(),
            ),
        };
        let cmd = if wish.args.is_empty() { cmd } else { wish.args };
        let record = Record {
            id: random_hex(32)?,
            name,
            image: image.id,
            image_name: wish.image,
            image_size: image.size,
            layers: mounted(&layers),
            chain,
            created: now_ns(),
            entrypoint: entrypoint.len(),
            args: [entrypoint, cmd].concat(),
            env: merge_env(run.env.unwrap_or_default(), wish.env),
            user: wish
                .user
                .filter(|u| !u.is_empty())
                .or(run.user)
                .unwrap_or_default(),
            working_dir: wish
                .working_dir
                .or(run.working_dir)
                .filter(|d| !d.is_empty())
                .unwrap_or_else(|| "/".to_owned()),
            network: wish.network,
            auto_remove: wish.auto_remove,
            builder: None,
            settings,
            state: State::default(),
        };
        if record.args.is_empty() {
            return invalid("no command specified");
        }
        self.make_volumes(&record)?;
        self.place(&staging, &record, &layers)?;
        Ok(record)
    }

    /// Put what a container begins with where it belongs.
    pub(super) fn place(
        &self,
        staging: &Staging,
        record: &Record,
        layers: &[LayerRecord],
    ) -> Result<()> {
        let made = staging.subdir(&record.id)?;
        let say = || "cannot make the container".to_owned();
        for dir in ["upper", "work", "merged", "empty", "bundle"] {
            let mode = if dir == "bundle" { 0o700 } else { 0o755 };
            fs::DirBuilder::new()
                .mode(mode)
                .create(made.join(dir))
                .context(say)?;
        }
        root_attributes(self.store, &made.join("upper"), layers)?;
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(made.join("config.json"))
            .context(say)?;
        file.write_all(&to_json(record)?).context(say)?;
        sfs::sync(&file, false).context(say)?;
        tree::rename(&made, &self.dir(&record.id)).context(say)?;
        // One that goes by itself may go with the machine's power too.
        match record.auto_remove || record.builder.is_some() {
            true => Ok(()),
            false => sync_dir(&self.store.containers()),
        }
    }
}

/// Refuse a name that another container has.
///
/// # Errors
/// In docker's words, when one has.
pub fn refuse_taken(all: &[Record], name: &str) -> Result<()> {
    match all.iter().find(|r| r.name == name) {
        None => Ok(()),
        Some(other) => Err(Error::Conflict(format!(
            "Conflict. The container name \"/{name}\" is already in use by container \"{}\". You have to remove (or rename) that container to be able to reuse that name.",
            other.id
        ))),
    }
}

/// What was asked for, and what the image adds to it.
fn settings(given: Settings, image: &mut RunConfig) -> Result<Settings> {
    let volumes = image.volumes.take().unwrap_or_default().into_keys();
    let volumes: Vec<Mount> = volumes
        .map(|path| Mount::of_image(&path))
        .collect::<Result<_>>()?;
    let mut labels = image.labels.take().unwrap_or_default();
    labels.extend(given.labels);
    let mut exposed = given.exposed;
    for port in image.exposed_ports.take().unwrap_or_default().into_keys() {
        let port = network::exposed(&port)?;
        if !exposed.contains(&port) {
            exposed.push(port);
        }
    }
    let stop_signal = given.stop_signal.or(image.stop_signal.take());
    let stop_signal = stop_signal.filter(|s| !s.is_empty());
    if let Some(text) = &stop_signal {
        signal::parse(text)?;
    }
    Ok(Settings {
        mounts: volume::settle(given.mounts, volumes)?,
        exposed,
        labels,
        stop_signal,
        ..given
    })
}

/// Nanoseconds since 1970.
pub fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}

/// The root of a union mount has the upper's attributes: those that the
/// topmost layer gives which gives any.
fn root_attributes(store: &Store, upper: &Path, layers: &[LayerRecord]) -> Result<()> {
    let say = || "cannot set the attributes of the container's root".to_owned();
    let upper = File::open(upper).context(say)?;
    let upper = At::Fd(upper.as_fd());
    let Some(stat) = root_of(store, layers)? else {
        return sfs::chmod(upper, ROOT_MODE).context(say);
    };
    if sfs::chown(upper, Some(stat.uid), Some(stat.gid)).is_err() {
        log::warn!("the owner of the container's root cannot be set");
    }
    sfs::chmod(upper, stat.mode & 0o7777).context(say)?;
    let time = SetTime::At(stat.mtime);
    sfs::utimens(upper, time, time).context(say)
}

/// Of a root whose attributes no layer gives.
const ROOT_MODE: u32 = 0o755;

/// The root of the topmost layer that gives its attributes.
///
/// # Errors
/// When it cannot be looked at.
fn root_of(store: &Store, layers: &[LayerRecord]) -> Result<Option<Stat>> {
    let say = || "cannot look at the image's root".to_owned();
    let Some(layer) = layers.iter().rev().find(|l| l.root_entry) else {
        return Ok(None);
    };
    let root = File::open(store.layer_dir(&layer.name())).context(say)?;
    sfs::stat_fd(&root).map(Some).context(say)
}

/// Mode, owner and group that a container's root on these layers begins with.
pub(super) fn root_without(store: &Store, layers: &[LayerRecord]) -> Result<(u32, u32, u32)> {
    let stat = root_of(store, layers)?;
    Ok(stat.map_or((ROOT_MODE, 0, 0), |s| (s.mode & 0o7777, s.uid, s.gid)))
}

/// Later settings replace earlier ones of the same name; a bare name that the
/// user gives takes the value from our own environment, or removes it. One of
/// the image sets nothing: it must not ask for what our environment holds.
pub fn merge_env(mut image: Vec<String>, wish: Vec<String>) -> Vec<String> {
    image.retain(|entry| entry.contains('='));
    let mut out: Vec<String> = Vec::new();
    let key = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let has_path = image.iter().chain(&wish).any(|e| e.starts_with("PATH="));
    if !has_path {
        out.push(DEFAULT_PATH.to_owned());
    }
    for entry in image.into_iter().chain(wish) {
        let name = key(&entry);
        let entry = match (entry.contains('='), std::env::var(&name)) {
            (true, _) => Some(entry),
            (false, Ok(value)) => Some(format!("{name}={value}")),
            (false, Err(_)) => None,
        };
        match (out.iter().position(|e| key(e) == name), entry) {
            (Some(at), Some(entry)) => {
                if let Some(old) = out.get_mut(at) {
                    *old = entry;
                }
            }
            (Some(at), None) => drop(out.remove(at)),
            (None, entry) => out.extend(entry),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_is_merged_by_name() {
        let merged = merge_env(
            vec!["A=1".into(), "PATH=/bin".into(), "C=3".into()],
            vec!["A=2".into(), "B==".into(), "PATH".into(), "C".into()],
        );
        let path = format!("PATH={}", std::env::var("PATH").unwrap());
        assert_eq!(merged, ["A=2".to_owned(), path, "B==".to_owned()]);
        // What is set where the tests run is not the image's to know.
        assert_eq!(merge_env(vec!["PATH".into()], vec![]), [DEFAULT_PATH]);
        assert_eq!(merge_env(vec![], vec![]), [DEFAULT_PATH]);
    }
}
