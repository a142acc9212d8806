//! The process that stays with a container: it mounts the root, has the
//! runtime start the command, keeps the streams, and writes down how it ended.
//!
//! There is one for each container that runs, and nothing else that stays. It
//! holds the lock of the container's directory all the time. When it dies, the
//! command goes on without anybody who reads what it writes; the next `capas`
//! sees that the lock is free and by the record whether the command still
//! runs, and cleans up once it does not ([`super::settle`]).
//!
//! The runtime inherits another lock, `starting`, while it starts the command, so that between
//! "is being started" and "its process is known" nobody takes the container
//! for a dead one, whoever dies meanwhile.

pub mod launch;
pub mod logfile;
pub mod protocol;
mod serve;
mod start;

pub use start::console;

use super::{Containers, Held, Record, cgroup, network, now_ns, record::Network, signal};
use crate::store::Store;
use crate::store::error::{Error, Result};
use crate::sys::child;
use crate::sys::packets::Packets;
use crate::sys::process::{self, Signals};
use protocol::Event;
use serve::{Client, Ears, Monitor};
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// The hidden command, which is followed by the store, the container's id and
/// the runtime; its standard input is the connection to who started it.
pub const COMMAND: &str = "monitor";
/// Where it listens, in the container's directory.
pub const SOCKET: &str = "attach";
/// What it logs to, there.
pub const LOG: &str = "output.log";

/// Its signals: a child has ended, or it is asked to end.
const SIGNALS: [i32; 5] = [
    child::ENDED,
    signal::TERM,
    signal::INT,
    signal::HUP,
    signal::QUIT,
];
/// How long the driver may take to end after it was unmounted.
const DRIVER_WAIT: Duration = Duration::from_secs(5);

/// Be the monitor that the arguments after the command name; the exit code.
pub fn main(args: &[OsString]) -> u8 {
    let [root, id, runtime] = args else { return 1 };
    let prepared = || -> crate::sys::Result<(Signals, Client)> {
        let first = Client::first(Packets::from_fd(process::take_stdin()?));
        process::set_name(c"capas-monitor");
        // It was started by whoever typed the command, and outlives that.
        process::leave_session()?;
        child::adopt_orphans()?;
        Ok((Signals::hold(&SIGNALS)?, first))
    };
    let Ok((signals, first)) = prepared() else {
        return 1;
    };
    let mut first = Some(first);
    let result = (|| {
        let store = Store::open(Path::new(root))?;
        let containers = Containers::new(&store);
        let id = id.to_str().unwrap_or_default();
        let held = containers.hold(&containers.read(id)?)?;
        // As it is now that nobody else changes it.
        let record = containers.read(id)?;
        run(
            &containers,
            (&record, held),
            Path::new(runtime),
            signals,
            &mut first,
        )
    })();
    match (result, first) {
        (Ok(()), _) => 0,
        (Err(e), Some(mut first)) => {
            let (code, why) = coded(&e);
            first.say(Event::Failed(code, &why).encode());
            serve::flush(vec![first]);
            1
        }
        (Err(_), None) => 1,
    }
}

/// The exit code that an error gives a container, and its words.
fn coded(error: &Error) -> (u8, String) {
    match error {
        Error::Start { code, why } => (*code, why.clone()),
        other => (125, other.to_string()),
    }
}

/// Start a container, which is held, and stay with it until it has ended. `first`
/// is taken once the command runs.
fn run(
    containers: &Containers<'_>,
    (record, held): (&Record, Held),
    runtime: &Path,
    signals: Signals,
    first: &mut Option<Client>,
) -> Result<()> {
    let runtime = super::runtime::Runtime::at(runtime);
    let started = Ears::new(&containers.dir(&record.id))
        .and_then(|ears| Ok((ears, start::start(containers, record, &runtime)?)));
    let (ears, started) = match started {
        Ok(started) => started,
        Err(e) => {
            // It must not stay behind half-started.
            if let (Err(e), Some(first)) = (abandon(containers, record, &e), first) {
                first.say(Event::Warning(&e.to_string()).encode());
            }
            return Err(e);
        }
    };
    let mut clients: Vec<Client> = first.take().into_iter().collect();
    for client in &mut clients {
        client.say(Event::Started.encode());
    }
    let root = containers.mount_point(record);
    let ended = Monitor::new(record, runtime, root, started, signals, ears, clients).run();
    let mut clients = ended.clients;
    let _ = fs::remove_file(containers.dir(&record.id).join(SOCKET));
    let oom_killed = cgroup::oom_killed(&record.id);
    let cleaned = containers.clean(&record.id);
    wait_for_driver();
    let (code, why) = (ended.code, ended.why);
    // A step without its build is of no use to anybody.
    let forsaken = record.builder.is_some() && clients.is_empty();
    let goes = match containers.read(&record.id) {
        Ok(now) => now.goes_when_it_ends(),
        Err(_) => record.auto_remove,
    };
    let written = match goes || forsaken {
        true => containers.remove_held(record, true),
        false => containers
            .update(&record.id, |r| {
                r.exit(Some(now_ns() / 1_000_000_000), code, why)?;
                r.state.oom_killed = oom_killed;
                Ok(())
            })
            .map(drop),
    };
    // The container is free, however long those who look take for the rest.
    drop(held);
    for e in [cleaned, written].into_iter().filter_map(Result::err) {
        for client in &mut clients {
            client.say(Event::Warning(&e.to_string()).encode());
        }
    }
    for client in &mut clients {
        client.say(Event::Exited(code).encode());
    }
    serve::flush(clients);
    Ok(())
}

/// Undo what was done to start a container, and write down why.
fn abandon(containers: &Containers<'_>, record: &Record, error: &Error) -> Result<()> {
    let (code, why) = coded(error);
    let cleaned = containers.clean(&record.id);
    match record.auto_remove {
        true => containers.remove_held(record, true)?,
        false => {
            containers.update(&record.id, |r| match r.state.runtime {
                Some(_) => r.fail(code, why),
                // It was not written down that it was being started.
                None => Ok(()),
            })?;
        }
    }
    cleaned
}

impl Containers<'_> {
    /// Remove all that a run of a container leaves besides its record: what the
    /// runtime knows, the network's program, the mount. The caller holds it.
    ///
    /// # Errors
    /// The first that did not work; the others are done.
    pub fn clean(&self, id: &str) -> Result<()> {
        let record = self.read(id)?;
        if record.network == Network::Private {
            let helper = record.state.helper.clone();
            if let Some(helper) = helper.or_else(|| network::helper(&self.dir(id))) {
                network::disconnect(&helper);
            }
        }
        let forgotten = match &record.state.runtime {
            Some(program) => super::runtime::Runtime::at(program).delete(&record.id),
            None => Ok(()),
        };
        let unmounted = self.unmount(&record);
        forgotten.and(unmounted)
    }
}

/// The driver is a child of this process by adoption. It ends when it was
/// unmounted, and only then has all that it held been given back.
fn wait_for_driver() {
    let begun = Instant::now();
    while begun.elapsed() < DRIVER_WAIT {
        match child::ended() {
            Err(_) => return,
            Ok(Some(_)) => {}
            Ok(None) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}
