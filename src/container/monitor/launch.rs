//! Starting a container's monitor, or finding the one that is there.

use super::protocol::{Event, Request};
use super::{COMMAND, SOCKET};
use crate::container::record::{Network, Settings};
use crate::container::runtime::Runtime;
use crate::container::{Containers, Record, cgroup, network};
use crate::store::error::{Context, Error, Result};
use crate::sys::Errno;
use crate::sys::packets::{MAX_MESSAGE, Packets, Received};
use crate::sys::stream::{self, Interest};
use std::fs::File;
use std::process::{Command, Stdio};

/// Which streams somebody wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// What the container writes.
    pub output: bool,
    /// What it reads comes from here.
    pub input: bool,
}

/// A connection to a monitor.
#[derive(Debug)]
pub struct Connection {
    socket: Packets,
    buf: Vec<u8>,
}

impl Connection {
    fn new(socket: Packets, wanted: Wanted) -> Result<Connection> {
        let hello = Request::Attach {
            output: wanted.output,
            input: wanted.input,
        };
        socket
            .send(&hello.encode())
            .context(|| "cannot speak to the monitor".to_owned())?;
        let buf = vec![0; MAX_MESSAGE + 1];
        Ok(Connection { socket, buf })
    }

    /// The connection itself, to be waited for and written to.
    pub fn socket(&self) -> &Packets {
        &self.socket
    }

    /// What the monitor has said, if anything; [`Errno::PIPE`] when it is gone.
    ///
    /// # Errors
    /// As recv(2).
    pub fn event(&mut self) -> crate::sys::Result<Option<Event<'_>>> {
        match self.socket.receive(&mut self.buf)? {
            Received::End => Err(Errno::PIPE),
            Received::Nothing => Ok(None),
            Received::Message(n) => Ok(Event::decode(self.buf.get(..n).unwrap_or_default())),
        }
    }

    /// Wait for what the monitor says.
    ///
    /// # Errors
    /// When the monitor is gone.
    pub fn wait(&mut self) -> crate::sys::Result<Event<'_>> {
        loop {
            stream::wait(&[(&self.socket, Interest::Read)], None)?;
            let n = match self.socket.receive(&mut self.buf)? {
                Received::End => return Err(Errno::PIPE),
                Received::Nothing => continue,
                Received::Message(n) => n,
            };
            // Borrowed again, so that the loop may go on.
            if Event::decode(self.buf.get(..n).unwrap_or_default()).is_some() {
                let message = self.buf.get(..n).unwrap_or_default();
                return Event::decode(message).ok_or(Errno::BADMSG);
            }
        }
    }

    /// Have the command stand still until the connection ends.
    ///
    /// # Errors
    /// When it cannot be stopped, or the monitor is gone.
    pub fn pause(&mut self) -> Result<()> {
        self.socket
            .send(&Request::Pause.encode())
            .context(|| "cannot speak to the monitor".to_owned())?;
        loop {
            match self.wait() {
                Ok(Event::Paused) => return Ok(()),
                Ok(Event::Warning(why)) => return Err(Error::Conflict(why.to_owned())),
                Ok(Event::Exited(_)) | Err(_) => return Err(lost()),
                Ok(_) => {}
            }
        }
    }

    /// Wait until the command runs.
    ///
    /// # Errors
    /// [`Error::Start`] when it could not be started.
    pub fn started(&mut self) -> Result<()> {
        loop {
            match self.wait() {
                Ok(Event::Started) => return Ok(()),
                Ok(Event::Failed(code, why)) => return Err(failed(code, why)),
                Ok(Event::Warning(text)) => log::warn!("{text}"),
                Ok(_) => {}
                Err(_) => return Err(lost()),
            }
        }
    }
}

/// What a monitor could not do.
pub fn failed(code: u8, why: &str) -> Error {
    Error::Start {
        code,
        why: why.to_owned(),
    }
}

/// The monitor is gone without a word.
pub fn lost() -> Error {
    Error::Start {
        code: 125,
        why: "the container's monitor ended unexpectedly".to_owned(),
    }
}

/// Refuse settings that cannot be had here.
///
/// # Errors
/// For limits that nothing enforces, or a network that nothing connects.
pub fn can_be_had(settings: &Settings, network: Network) -> Result<()> {
    settings.limits.check()?;
    match network {
        Network::Private => network::program().map(drop),
        Network::Host | Network::None => Ok(()),
    }
}

impl Containers<'_> {
    /// Start a container: a monitor that does, and a connection to it.
    ///
    /// # Errors
    /// When it cannot be started here.
    pub fn launch(&self, record: &Record, runtime: &Runtime, wanted: Wanted) -> Result<Connection> {
        can_be_had(&record.settings, record.network)?;
        if !cgroup::usable()? {
            log::warn!("cgroups cannot be used here: the container runs without limits");
        }
        let say = || "cannot start the container's monitor".to_owned();
        let (ours, theirs) = Packets::pair().context(say)?;
        let connection = Connection::new(ours, wanted)?;
        // This very program, even where another one has taken its place.
        Command::new("/proc/self/exe")
            .arg(COMMAND)
            .arg(self.store().root())
            .arg(&record.id)
            .arg(runtime.program())
            .current_dir("/")
            .stdin(Stdio::from(theirs.into_fd()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context(say)?;
        Ok(connection)
    }

    /// The monitor of a container that runs.
    ///
    /// # Errors
    /// When it has died.
    pub fn connect(&self, record: &Record, wanted: Wanted) -> Result<Connection> {
        let dir = self.dir(&record.id);
        let opened = File::open(&dir).context(|| format!("cannot open {}", dir.display()))?;
        match Packets::connect(&opened, SOCKET) {
            Ok(socket) => Connection::new(socket, wanted),
            Err(Errno::NOENT | Errno::CONNREFUSED) => Err(Error::Conflict(format!(
                "the monitor of container {} has died, and its streams with it: stop or kill the container",
                record.name
            ))),
            Err(e) => Err(e).context(|| "cannot reach the container's monitor".to_owned()),
        }
    }
}
