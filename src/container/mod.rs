//! Containers: a record, a writable layer, and a run through an OCI runtime.
//!
//! ```text
//! <root>/containers/<id>/
//!   config.json     the record; only the name in it changes
//!   state.json      what it is doing, replaced under the store's lock; not
//!                   synced, as nothing runs any more after a crash of the machine
//!   upper/, work/   the writable layer, and capasfs's work directory
//!   merged/         where it is mounted
//!   empty/          the lower layer of an image without layers
//!   bundle/         config.json and the files of /etc that the runtime binds;
//!                   `pid` and `log` of the runtime, `console` for the terminal
//!   output.log      what it has written, one JSON object a line
//!   attach          where its monitor listens, while it runs
//!   starting        locked by a runtime that starts the command
//!   still           locked by whoever wants the command to stand still
//!   network.*       of the program that connects its network
//! ```
//!
//! The directory itself is locked by whoever runs the container (its monitor,
//! see [`monitor`]) or changes its mount. A container is made in staging and renamed into place, and renamed
//! away to be removed, so it is there as a whole or not at all. A record pins
//! the image's layers as roots of the store's garbage collection.

pub mod attach;
pub mod bundle;
pub mod cgroup;
pub mod changes;
pub mod check;
pub mod commit;
pub mod copy;
pub mod create;
pub mod diff;
pub mod exec;
pub mod export;
pub mod fill;
pub mod find;
pub mod logs;
pub mod monitor;
pub mod name;
pub mod network;
pub mod pack;
pub mod pause;
pub mod place;
pub mod process;
pub mod record;
pub mod remove;
pub mod rename;
pub mod rootfs;
pub mod runtime;
pub mod settle;
pub mod signal;
pub mod size;
pub mod step;
pub mod stop;
pub mod user;
pub mod view;
pub mod volume;
pub mod volumes;
pub mod workdir;

pub use create::{Wish, now_ns};
pub use record::{Network, Record, State, Status};

use crate::store::error::{Context, Error, Result, invalid, show};
use crate::store::remove::User;
use crate::store::{Digest, Store, document, read_file, replace_volatile, to_json};
use process::Process;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Mutex;

/// No record is larger.
const MAX_RECORD: u64 = 16 << 20;

/// The containers of a store.
#[derive(Clone, Copy, Debug)]
pub struct Containers<'a> {
    store: &'a Store,
}

/// Is it what containers are called on the disk; all else there is not ours.
fn is_id(name: &str) -> bool {
    Digest::parse_hex(name).is_ok()
}

/// Locked while a runtime starts the command: a file, as the runtime inherits
/// it, and no directory of the machine may come that near to a container.
const STARTING: &str = "starting";

fn is_locked(path: &std::path::Path) -> bool {
    File::open(path).is_ok_and(|f| matches!(f.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
}

fn sorted(mut records: Vec<Record>) -> Vec<Record> {
    records.sort_by(|a, b| (b.created, &b.id).cmp(&(a.created, &a.id)));
    records
}

/// Commands look several times.
fn warn_once(id: &str, e: &Error) {
    static WARNED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if WARNED.lock().is_ok_and(|mut all| all.insert(id.to_owned())) {
        log::warn!("a container is left out: {e}");
    }
}

fn gone(name: &str) -> Error {
    Error::NotFound(format!("No such container: {}", show(name.as_bytes())))
}

/// A container's directory, held against others.
#[derive(Debug)]
pub struct Held(#[allow(dead_code, reason = "held for its lock")] File);

impl<'a> Containers<'a> {
    /// Those of `store`.
    pub fn new(store: &'a Store) -> Self {
        Containers { store }
    }

    /// The store.
    pub fn store(&self) -> &'a Store {
        self.store
    }

    /// Where a container is.
    pub fn dir(&self, id: &str) -> PathBuf {
        self.store.containers().join(id)
    }

    /// All containers, newest first; those that vanish meanwhile are left out,
    /// and with a warning those whose record is damaged.
    ///
    /// # Errors
    /// When their directory cannot be read.
    pub fn list(&self) -> Result<Vec<Record>> {
        let mut out = Vec::new();
        for (id, record) in self.read_all()? {
            match record {
                Ok(record) => out.push(record),
                Err(e) => warn_once(&id, &e),
            }
        }
        Ok(sorted(out))
    }

    /// As [`Containers::list`], for those who must not miss one.
    ///
    /// # Errors
    /// When a record is damaged: then nobody knows what it uses.
    pub fn list_whole(&self) -> Result<Vec<Record>> {
        let all = self.read_all()?.into_iter().map(|(_, record)| record);
        Ok(sorted(all.collect::<Result<_>>()?))
    }

    fn read_all(&self) -> Result<Vec<(String, Result<Record>)>> {
        let dir = self.store.containers();
        let entries = fs::read_dir(&dir).context(|| format!("cannot read {}", dir.display()))?;
        let names = entries.flatten().map(|entry| entry.file_name());
        let ids = names.filter_map(|name| name.into_string().ok().filter(|n| is_id(n)));
        let all = ids.map(|id| {
            let record = self.read(&id);
            (id, record)
        });
        Ok(all
            .filter(|(_, record)| !matches!(record, Err(Error::NotFound(_))))
            .collect())
    }

    fn read(&self, id: &str) -> Result<Record> {
        let data = match read_file(&self.dir(id).join("config.json"), MAX_RECORD) {
            Err(Error::NotFound(_)) => return Err(gone(id)),
            data => data?,
        };
        let what = format!("record of container {}", show(id.as_bytes()));
        let mut record: Record = document::parse(&data, &what)?;
        if record.id != id {
            return invalid(format!("bad {what}: it names another container"));
        }
        record.state = match read_file(&self.dir(id).join("state.json"), MAX_RECORD) {
            Ok(data) => document::parse(&data, &what).unwrap_or_else(|_| State::unknown()),
            Err(Error::NotFound(_)) => State::default(),
            Err(e) => return Err(e),
        };
        Ok(record)
    }

    /// The container of that name, or whose id begins with it.
    ///
    /// # Errors
    /// When there is none, or several.
    pub fn find(&self, text: &str) -> Result<Record> {
        let plain = text.strip_prefix('/').unwrap_or(text);
        let mut all = self.list()?;
        if let Some(at) = all.iter().position(|r| r.name == plain || r.id == plain) {
            return Ok(all.swap_remove(at));
        }
        let mut found = all
            .into_iter()
            .filter(|r| !plain.is_empty() && r.id.starts_with(plain));
        match (found.next(), found.next()) {
            (Some(record), None) => Ok(record),
            (Some(_), Some(_)) => invalid(format!(
                "several containers begin with {}: give more of the id",
                show(text.as_bytes())
            )),
            (None, _) => Err(gone(text)),
        }
    }

    /// The containers as the image store sees them.
    ///
    /// # Errors
    /// When a record is damaged: then nobody knows what it uses.
    pub fn users(&self) -> Result<Vec<User>> {
        let users = self.list_whole()?.into_iter().map(|r| User {
            running: self.status(&r).0 == Status::Running,
            container: r.id,
            image: r.image,
            called: r.image_name,
            layers: r.layers,
            chain: r.chain,
        });
        Ok(users.collect())
    }

    /// Hold a container against others.
    ///
    /// # Errors
    /// [`Error::Conflict`] when another process holds it, [`Error::NotFound`]
    /// when it is gone.
    pub fn hold(&self, record: &Record) -> Result<Held> {
        let dir = self.dir(&record.id);
        let file = match File::open(&dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Err(gone(&record.name)),
            file => file.context(|| format!("cannot open {}", dir.display()))?,
        };
        // Those who only look whether somebody has it are soon done.
        for _ in 0..10 {
            match file.try_lock() {
                Ok(()) if !self.is_starting(record) => return Ok(Held(file)),
                Ok(()) => file.unlock().context(|| "cannot unlock".to_owned())?,
                Err(fs::TryLockError::WouldBlock) => {}
                Err(fs::TryLockError::Error(e)) => {
                    return Err(Error::System(format!("cannot lock {}", dir.display()), e));
                }
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Err(Error::Conflict(format!(
            "container {} is in use by another process",
            record.name
        )))
    }

    /// Does somebody hold it, or start its command.
    fn is_held(&self, record: &Record) -> bool {
        is_locked(&self.dir(&record.id)) || self.is_starting(record)
    }

    /// Is it just being started, or its end being written down.
    fn is_busy(&self, record: &Record) -> bool {
        record.state.status == Status::Running && self.is_held(record)
    }

    fn is_starting(&self, record: &Record) -> bool {
        is_locked(&self.dir(&record.id).join(STARTING))
    }

    /// The lock for a runtime that starts the command.
    fn starting(&self, record: &Record) -> Result<File> {
        let path = self.dir(&record.id).join(STARTING);
        let say = || format!("cannot lock {}", path.display());
        let file = File::create(&path).context(say)?;
        file.lock().context(say)?;
        Ok(file)
    }

    /// Change a container's state.
    ///
    /// # Errors
    /// When it is gone, and those of `change`.
    pub fn update(
        &self,
        id: &str,
        change: impl FnOnce(&mut Record) -> Result<()>,
    ) -> Result<Record> {
        let _lock = self.store.lock()?;
        let mut record = self.read(id)?;
        change(&mut record)?;
        replace_volatile(&self.dir(id).join("state.json"), &to_json(&record.state)?)?;
        Ok(record)
    }

    /// What a container is doing, and its exit code. A record that says
    /// "running" is believed only while its command lives or somebody is about
    /// to write down how it ended: a monitor that was killed could not.
    pub fn status(&self, record: &Record) -> (Status, Option<u8>) {
        let told = |state: &State| (state.status, state.exit_code);
        if record.state.status != Status::Running {
            return told(&record.state);
        }
        if self.process(record).is_some() {
            return (Status::Running, None);
        }
        if self.is_busy(record) {
            return match record.state.process {
                Some(_) => (Status::Running, None),
                None => (Status::Created, None),
            };
        }
        // It may have been written down since the record was read.
        match self.read(&record.id) {
            Ok(now) if now.state != record.state => told(&now.state),
            _ => (Status::Exited, Some(process::UNKNOWN_EXIT)),
        }
    }

    /// The first process of a container, if it lives.
    pub fn process(&self, record: &Record) -> Option<Process> {
        match &record.state.process {
            _ if record.state.status != Status::Running => None,
            Some(process) => process.is_alive().then(|| process.clone()),
            // The monitor died before it could write it down.
            None => process::from_pid_file(&self.dir(&record.id).join("bundle").join(runtime::PID)),
        }
    }
}
