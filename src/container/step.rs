//! `RUN` of a build: a container on layers that no image has yet, whose writable
//! layer becomes the next. It ends with the build, whatever ends that.

use super::changes::Trees;
use super::commit::without_mount_points;
use super::create::{merge_env, root_without};
use super::monitor::launch::{Wanted, failed, lost};
use super::monitor::protocol::Event;
use super::pack::{self, LayerWish};
use super::process::Process;
use super::record::{Network, Settings, State};
use super::runtime::Runtime;
use super::volume::Mount;
use super::{Containers, Held, Record, now_ns};
use crate::store::error::{Error, Result, invalid};
use crate::store::layer::{LayerRecord, mounted};
use crate::store::staging::{Making, Staging, random_hex};
use crate::store::{Digest, Store};
use std::io::Write;
use std::path::PathBuf;

/// A command that changes a tree.
#[derive(Clone, Debug)]
pub struct Step<'a> {
    /// What the tree is made of, bottom first.
    pub layers: &'a [LayerRecord],
    /// Program and arguments.
    pub args: Vec<String>,
    /// `KEY=VALUE`.
    pub env: Vec<String>,
    /// Who runs it, perhaps empty.
    pub user: String,
    /// Where.
    pub working_dir: String,
    /// Its network.
    pub network: Network,
    /// What is mounted besides.
    pub mounts: Vec<Mount>,
}

/// What a step has left.
#[derive(Debug)]
pub struct Done {
    /// The exit code of its command.
    pub code: u8,
    /// Its writable layer, in the making.
    pub upper: PathBuf,
    /// As long as this lives.
    _kept: Making,
    /// Else others would take it for garbage.
    _held: Held,
}

impl Done {
    /// Write the layer that the step has made on `layers`, bottom first, without
    /// what was made to mount things at `targets`; no time is later than
    /// `latest`.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn write_layer(
        &self,
        store: &Store,
        layers: &[LayerRecord],
        targets: &[String],
        latest: Option<i64>,
        out: &mut dyn Write,
    ) -> Result<()> {
        let dirs: Vec<PathBuf> = mounted(layers).iter().map(|l| store.layer_dir(l)).collect();
        let trees = Trees::open(&self.upper, &dirs)?;
        // Everything on the way to what was mounted may have been made for it.
        let mut made = vec![b"etc".to_vec()];
        for target in targets {
            let path = target.trim_matches('/').as_bytes().to_vec();
            let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/');
            made.extend(ends.map(|(n, _)| path.get(..n).unwrap_or_default().to_vec()));
            made.push(path);
        }
        let changes = without_mount_points(trees.changes()?, &made);
        let root = root_without(store, layers)?;
        pack::write_layer(&trees, &changes, LayerWish { root, latest }, out).map(drop)
    }
}

/// What a step writes.
#[derive(Clone, Copy, Debug)]
pub enum Written<'a> {
    /// To its standard output.
    Output(&'a [u8]),
    /// To its standard error.
    Error(&'a [u8]),
}

impl Containers<'_> {
    /// Run a step to its end; what it writes goes to `hear`.
    ///
    /// # Errors
    /// When it cannot be started, and when its monitor or its root's driver
    /// dies; nothing is left then.
    pub fn run_step(
        &self,
        step: Step<'_>,
        runtime: &Runtime,
        hear: &mut dyn FnMut(Written<'_>) -> Result<()>,
    ) -> Result<Done> {
        let Some(builder) = Process::of(std::process::id()) else {
            return invalid("cannot find this process in /proc");
        };
        let layers = step.layers;
        let record = Record {
            id: random_hex(32)?,
            name: format!("build-{}", random_hex(6)?),
            image: Digest::of(b""),
            image_name: String::new(),
            image_size: 0,
            layers: mounted(layers),
            chain: None,
            created: now_ns(),
            entrypoint: 0,
            args: step.args,
            env: merge_env(step.env, Vec::new()),
            user: step.user,
            working_dir: match step.working_dir {
                dir if dir.is_empty() => "/".to_owned(),
                dir => dir,
            },
            network: step.network,
            auto_remove: false,
            builder: Some(builder),
            settings: Settings {
                mounts: step.mounts,
                hostname: Some("build".to_owned()),
                ..Settings::default()
            },
            state: State::default(),
        };
        {
            let staging = Staging::new(&self.store.tmp())?;
            let _lock = self.store.lock()?;
            self.place(&staging, &record, layers)?;
        }
        let ended = self.follow(&record, runtime, hear).and_then(|code| {
            let held = self.hold(&record)?;
            let kept = self.move_away(&record, true)?;
            Ok(Done {
                code,
                upper: kept.path().join("upper"),
                _kept: kept,
                _held: held,
            })
        });
        if ended.is_err()
            // What it is doing was written down by the monitor.
            && let Err(e) = self.read(&record.id).and_then(|r| self.remove(&r, true, true))
            && self.dir(&record.id).exists()
        {
            log::warn!("a step of the build is left: {e}");
        }
        ended
    }

    /// Start it and hear it until it has ended; its exit code.
    fn follow(
        &self,
        record: &Record,
        runtime: &Runtime,
        hear: &mut dyn FnMut(Written<'_>) -> Result<()>,
    ) -> Result<u8> {
        let wanted = Wanted {
            output: true,
            input: false,
        };
        let mut connection = self.launch(record, runtime, wanted)?;
        let code = loop {
            match connection.wait() {
                Ok(Event::Output(data)) => hear(Written::Output(data))?,
                Ok(Event::Error(data)) => hear(Written::Error(data))?,
                Ok(Event::Started | Event::Paused) => {}
                Ok(Event::Warning(text)) => log::warn!("{text}"),
                Ok(Event::Failed(code, why)) => return Err(failed(code, why)),
                Ok(Event::Exited(code)) => break code,
                Err(_) => return Err(lost()),
            }
        };
        // What ended it may have been us.
        let why = self.read(&record.id)?.state.error;
        match why.is_empty() {
            true => Ok(code),
            false => Err(Error::Conflict(why)),
        }
    }
}
