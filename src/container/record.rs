//! What is written down about a container.

use super::process::UNKNOWN_EXIT;
use crate::store::Digest;
use crate::store::error::{Error, Result};
use serde::{Deserialize, Serialize};

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
    pub exit_code: Option<i32>,
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
    /// What it is doing; kept in a file of its own.
    #[serde(skip)]
    pub state: State,
}

impl Record {
    /// The first 12 digits of the id.
    pub fn short(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    /// The command has started.
    ///
    /// # Errors
    /// When it runs already.
    pub fn start(&mut self, now: i64) -> Result<()> {
        if self.state.status == Status::Running {
            return self.illegal("started");
        }
        self.state = State {
            status: Status::Running,
            started: Some(now),
            finished: None,
            exit_code: None,
        };
        Ok(())
    }

    /// The command has ended.
    ///
    /// # Errors
    /// When it was not running.
    pub fn exit(&mut self, now: Option<i64>, code: i32) -> Result<()> {
        if self.state.status != Status::Running {
            return self.illegal("ended");
        }
        self.state.status = Status::Exited;
        self.state.finished = now;
        self.state.exit_code = Some(code);
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
            state: State::default(),
        };
        assert!(r.exit(Some(1), 0).is_err());
        r.start(1).unwrap();
        assert!(r.start(2).is_err());
        r.exit(Some(3), 7).unwrap();
        assert_eq!(
            (r.state.status, r.state.exit_code),
            (Status::Exited, Some(7))
        );
        assert!(r.exit(Some(4), 0).is_err());
        r.start(5).unwrap();
        assert_eq!(r.state.exit_code, None);
    }
}
