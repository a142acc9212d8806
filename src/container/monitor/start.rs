//! From a record to a command that runs.

use super::{Containers, Record, now_ns, signal};
use crate::container::network::{Connecting, Publish};
use crate::container::process::Process;
use crate::container::record::Network;
use crate::container::runtime::{CONSOLE, PID, Runtime};
use crate::container::workdir;
use crate::store::error::{Context, Result};
use crate::store::remove_if_there;
use crate::sys::child::Handle;
use crate::sys::packets::Listener;
use crate::sys::stream;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// A command that runs, and our ends of its streams.
#[derive(Debug)]
pub struct Started {
    /// Its first process, a child of ours.
    pub pid: u32,
    /// What it reads, if it does.
    pub stdin: Option<OwnedFd>,
    /// What it writes.
    pub stdout: Option<OwnedFd>,
    /// What it writes besides.
    pub stderr: Option<OwnedFd>,
    /// The terminal in place of all three.
    pub terminal: Option<OwnedFd>,
}

/// Mount, connect, start.
pub fn start(containers: &Containers<'_>, record: &Record, runtime: &Runtime) -> Result<Started> {
    let dir = containers.dir(&record.id);
    let ports: Vec<Publish> = record
        .settings
        .ports
        .iter()
        .map(Publish::settled)
        .collect::<Result<_>>()?;
    // A run before may have ended without that, and what it left be forgotten.
    runtime.delete(&record.id)?;
    // From here on the next `capas` finds what this one may leave.
    containers.update(&record.id, |r| {
        r.start(now_ns() / 1_000_000_000, runtime.program().to_owned())?;
        r.state.ports.clone_from(&ports);
        Ok(())
    })?;
    // It takes its time, so the mount is made meanwhile.
    let connecting = match record.network {
        Network::Private => Some(Connecting::begin(&dir, &ports)?),
        Network::Host | Network::None => None,
    };
    // A driver that somebody else has started would die unseen.
    let root = containers
        .unmount(record)
        .and_then(|()| containers.mount(record));
    let connected = connecting.map(|c| c.finish(&dir)).transpose()?;
    if let Some(connected) = &connected {
        let helper = connected.helper.clone();
        containers.update(&record.id, |r| {
            r.state.helper = helper;
            Ok(())
        })?;
    }
    let root = root?;
    let opened = File::open(&root).context(|| format!("cannot open {}", root.display()))?;
    containers.fill_volumes(record, &opened)?;
    // It would keep the root mounted.
    drop(opened);
    let network = connected.as_ref().map(|c| {
        let fd = c.namespace.as_raw_fd();
        PathBuf::from(format!("/proc/{}/fd/{fd}", std::process::id()))
    });
    let bundle = containers.write_bundle(record, &root, network)?;
    let starting = containers.starting(record)?;
    let started = stream::lend(&starting, || call(record, runtime, &bundle))?;
    let process = Process::of_child(started.pid);
    containers.update(&record.id, |r| {
        r.state.process = process;
        Ok(())
    })?;
    if let Err(e) = workdir::verify(&root, started.pid) {
        // It is a child that was not waited for.
        let _ = Handle::open(started.pid).and_then(|command| command.signal(signal::KILL));
        return Err(e);
    }
    Ok(started)
}

/// Have the runtime start the command with new streams.
fn call(record: &Record, runtime: &Runtime, bundle: &Path) -> Result<Started> {
    let args = |more: &[&'static str]| -> Vec<String> {
        let all = ["run", "--detach", "--pid-file", PID].iter().chain(more);
        all.map(|a| (*a).to_owned())
            .chain([record.id.clone()])
            .collect()
    };
    if record.settings.tty {
        let listener = console(bundle)?;
        let args = args(&["--console-socket", CONSOLE]);
        let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        let pid = runtime.start(bundle, &args, |_| {})?;
        let terminal = listener
            .receive_descriptor()
            .context(|| "the runtime gave no terminal".to_owned())?;
        return Ok(Started {
            pid,
            stdin: None,
            stdout: None,
            stderr: None,
            terminal: Some(terminal),
        });
    }
    let say = || "cannot make pipes".to_owned();
    let (stdout, out) = std::io::pipe().context(say)?;
    let (stderr, err) = std::io::pipe().context(say)?;
    let input = match record.settings.stdin {
        true => Some(std::io::pipe().context(say)?),
        false => None,
    };
    let (theirs, ours) = match input {
        Some((read, write)) => (Stdio::from(read), Some(write.into())),
        None => (Stdio::null(), None),
    };
    let args = args(&[]);
    let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
    let pid = runtime.start(bundle, &args, |command| {
        command.stdin(theirs).stdout(out).stderr(err);
    })?;
    Ok(Started {
        pid,
        stdin: ours,
        stdout: Some(stdout.into()),
        stderr: Some(stderr.into()),
        terminal: None,
    })
}

/// Where the runtime hands the terminal over.
pub fn console(dir: &Path) -> Result<Listener> {
    let say = || format!("cannot listen in {}", dir.display());
    remove_if_there(&dir.join(CONSOLE)).context(say)?;
    Listener::descriptors(File::open(dir).context(say)?, CONSOLE).context(say)
}
