//! What is written down about a container.

use super::cgroup::Limits;
use super::network::Publish;
use super::process::{Process, UNKNOWN_EXIT};
use super::volume::Mount;
use crate::store::Digest;
use crate::store::error::{Error, Result};
use oci_spec::runtime::PosixRlimitType;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// What a container is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Never run.
    #[default]
    Created,
    /// Running.
    Running,
    /// Its command has ended.
    Exited,
}

/// Its network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// The machine's.
    Host,
    /// Loopback alone.
    #[default]
    None,
    /// Its own, from which the machine's is reached through another program.
    Private,
}

impl Network {
    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Network::Host => "host",
            Network::None => "none",
            Network::Private => "private",
        }
    }
}

/// The part of a record that changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// As written; see [`super::Containers::status`] for what is true now.
    pub status: Status,
    /// Seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<i64>,
    /// Seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<i64>,
    /// Of the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// The first process, once it is known; only while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// The runtime that started it; until all that it left was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<PathBuf>,
    /// What connects its network; only while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helper: Option<Process>,
    /// Ports as they are published while it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Publish>,
    /// It is stopped to be started again: so it stays, though it would go.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restarting: bool,
    /// Something in it was killed for want of memory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub oom_killed: bool,
    /// Why it could not be started, or was ended by us.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

impl State {
    /// Of a container whose state was lost with the machine's power.
    pub fn unknown() -> State {
        State {
            status: Status::Exited,
            exit_code: Some(UNKNOWN_EXIT),
            ..State::default()
        }
    }
}

/// A name and its address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The name.
    pub name: String,
    /// The address.
    pub ip: IpAddr,
}

/// A limit of each process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// As the shell's `ulimit` and docker call it: `nofile`.
    pub name: String,
    /// What counts.
    pub soft: u64,
    /// How far a process may raise that itself.
    pub hard: u64,
}

impl Ulimit {
    /// What runtimes call it; nothing if there is no such limit.
    pub fn kind(&self) -> Option<PosixRlimitType> {
        let lower = self.name.bytes().all(|b| b.is_ascii_lowercase());
        let name = format!("RLIMIT_{}", self.name.to_ascii_uppercase());
        serde_json::from_value(name.into()).ok().filter(|_| lower)
    }
}

/// What was asked for besides the command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// It has a terminal.
    pub tty: bool,
    /// Its standard input is there, and open without anybody attached.
    pub stdin: bool,
    /// It ends with the first who was attached to it.
    pub stdin_once: bool,
    /// In place of the short id.
    pub hostname: Option<String>,
    /// Its root is not written.
    pub read_only: bool,
    /// What is mounted in it.
    pub mounts: Vec<Mount>,
    /// Ports to be published.
    pub ports: Vec<Publish>,
    /// `PORT/PROTOCOL` that the image names.
    pub exposed: Vec<String>,
    /// Names that it finds addresses for.
    pub hosts: Vec<Host>,
    /// What it may use.
    pub limits: Limits,
    /// What each of its processes may use.
    pub ulimits: Vec<Ulimit>,
    /// Bytes of /dev/shm.
    pub shared_memory: Option<i64>,
    /// What asks its command to end.
    pub stop_signal: Option<String>,
    /// Seconds until it is killed then.
    pub stop_timeout: Option<u64>,
    /// The image's, and those that were given.
    pub labels: BTreeMap<String, String>,
}

/// A container. Everything that running it takes is here, so that it does not
/// depend on the image's documents later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// 64 hex digits.
    pub id: String,
    /// Unique in the store.
    pub name: String,
    /// Its image.
    pub image: Digest,
    /// How the image was asked for.
    pub image_name: String,
    /// Bytes of the image's layers.
    pub image_size: u64,
    /// The layers it is mounted from, top first, by their directories' names.
    pub layers: Vec<Digest>,
    /// The chain that they are, which names their catalog.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<Digest>,
    /// Nanoseconds since 1970.
    pub created: i64,
    /// The command.
    pub args: Vec<String>,
    /// How many of them are the entry point.
    pub entrypoint: usize,
    /// `KEY=VALUE`.
    pub env: Vec<String>,
    /// `user[:group]`, perhaps empty.
    pub user: String,
    /// Where the command runs.
    pub working_dir: String,
    /// Its network.
    pub network: Network,
    /// Removed when it has ended.
    pub auto_remove: bool,
    /// The build that it is a step of: nothing is left of one whose build has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builder: Option<Process>,
    /// What else was asked for.
    #[serde(default)]
    pub settings: Settings,
    /// What it is doing; kept in a file of its own.
    #[serde(skip)]
    pub state: State,
}

impl Record {
    /// The first 12 digits of the id.
    pub fn short(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    /// Is it removed when its command ends.
    pub fn goes_when_it_ends(&self) -> bool {
        self.auto_remove && !self.state.restarting
    }

    /// Is it a step of a build that has ended.
    pub fn is_abandoned(&self) -> bool {
        self.builder.as_ref().is_some_and(|b| !b.is_alive())
    }

    /// What its host is called.
    pub fn hostname(&self) -> &str {
        self.settings
            .hostname
            .as_deref()
            .unwrap_or_else(|| self.short())
    }

    /// `runtime` starts the command.
    ///
    /// # Errors
    /// When it runs already.
    pub fn start(&mut self, now: i64, runtime: PathBuf) -> Result<()> {
        if self.state.status == Status::Running {
            return self.illegal("started");
        }
        self.state = State {
            status: Status::Running,
            started: Some(now),
            runtime: Some(runtime),
            ..State::default()
        };
        Ok(())
    }

    /// The command could not be started; the exit code says why as docker's do.
    ///
    /// # Errors
    /// When it was not being started.
    pub fn fail(&mut self, code: u8, why: String) -> Result<()> {
        if self.state.status != Status::Running {
            return self.illegal("refused");
        }
        self.state = State {
            exit_code: Some(code),
            error: why,
            ..State::default()
        };
        Ok(())
    }

    /// The command has ended.
    ///
    /// # Errors
    /// When it was not running.
    pub fn exit(&mut self, now: Option<i64>, code: u8, error: String) -> Result<()> {
        if self.state.status != Status::Running {
            return self.illegal("ended");
        }
        self.state = State {
            status: Status::Exited,
            started: self.state.started,
            finished: now,
            exit_code: Some(code),
            error,
            ..State::default()
        };
        Ok(())
    }

    fn illegal(&self, what: &str) -> Result<()> {
        let is = match self.state.status {
            Status::Created => "was never started",
            Status::Running => "is running",
            Status::Exited => "has exited",
        };
        Err(Error::Conflict(format!(
            "container {} cannot be {what}: it {is}",
            self.name
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_legal_transitions_are_made() {
        let mut r = Record {
            id: "0".repeat(64),
            name: "n".into(),
            image: Digest::of(b""),
            image_name: "i".into(),
            image_size: 0,
            layers: vec![],
            chain: None,
            created: 0,
            args: vec![],
            entrypoint: 0,
            env: vec![],
            user: String::new(),
            working_dir: "/".into(),
            network: Network::None,
            auto_remove: false,
            builder: None,
            settings: Settings::default(),
            state: State::default(),
        };
        assert!(r.exit(Some(1), 0, String::new()).is_err());
        assert!(r.fail(127, String::new()).is_err());
        r.start(1, "runc".into()).unwrap();
        assert!(r.start(2, "runc".into()).is_err());
        r.exit(Some(3), 7, String::new()).unwrap();
        assert_eq!(
            (r.state.status, r.state.exit_code),
            (Status::Exited, Some(7))
        );
        assert_eq!((r.state.started, &r.state.runtime), (Some(1), &None));
        assert!(r.exit(Some(4), 0, String::new()).is_err());
        r.start(5, "runc".into()).unwrap();
        assert_eq!(r.state.exit_code, None);
        r.fail(127, "not there".into()).unwrap();
        assert_eq!(
            (r.state.status, r.state.exit_code),
            (Status::Created, Some(127))
        );
    }
}
