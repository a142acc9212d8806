//! One more command in a container that runs. It is a child of the process
//! that asked for it: no monitor knows of it, and it ends with the container.

use super::bundle::{self, Command};
use super::record::Status;
use super::runtime::{CONSOLE, PID, Runtime};
use super::{Containers, Record, cgroup, monitor, signal, user, workdir};
use crate::store::error::{Context, Error, Result};
use crate::store::staging::Staging;
use crate::sys::child::{self, Handle};
use crate::sys::process::{self, Signals};
use crate::sys::stream::{self, Interest};
use crate::sys::terminal::{self, Raw};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Write, stdin, stdout};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;

/// What is to be run.
#[derive(Clone, Debug, Default)]
pub struct Exec {
    /// Program and arguments.
    pub args: Vec<String>,
    /// Over the container's environment.
    pub env: Vec<String>,
    /// In place of the container's.
    pub user: Option<String>,
    /// In place of the container's.
    pub working_dir: Option<String>,
    /// On a terminal.
    pub tty: bool,
    /// What is typed goes there.
    pub input: bool,
    /// Nobody waits for it.
    pub detach: bool,
}

impl Containers<'_> {
    /// Run a command in a container with our own streams; its exit code.
    ///
    /// # Errors
    /// When the container does not run; [`Error::Start`] when the command
    /// cannot be started.
    pub fn exec(&self, record: &Record, wish: &Exec) -> Result<u8> {
        let runtime = match &record.state.runtime {
            Some(program) if self.status(record).0 == Status::Running => Runtime::at(program),
            _ => {
                return Err(Error::Conflict(format!(
                    "container {} is not running",
                    record.name
                )));
            }
        };
        let staging = Staging::new(&self.store.tmp())?;
        let dir = staging.path();
        let root = self.mount_point(record);
        let tree = File::open(&root).context(|| format!("cannot open {}", root.display()))?;
        let user = wish.user.as_deref().filter(|u| !u.is_empty());
        let ids = user::resolve(&tree, user.unwrap_or(&record.user))?;
        let working_dir = wish.working_dir.as_deref().unwrap_or(&record.working_dir);
        // Volumes are seen by the container alone.
        let within = self.process(record).map(|p| p.pid);
        let within = within.and_then(|pid| File::open(format!("/proc/{pid}/root")).ok());
        workdir::check(within.as_ref().unwrap_or(&tree), working_dir)?;
        let command = Command {
            args: &wish.args,
            env: &wish.env,
            working_dir,
            tty: wish.tty,
        };
        let process = bundle::process(record, &ids, &command, cgroup::devices_guarded()?);
        let json = serde_json::to_vec(&process)
            .map_err(|e| Error::Invalid(format!("cannot describe the command: {e}")))?;
        fs::write(dir.join("process.json"), json)
            .context(|| "cannot describe the command".to_owned())?;
        let mut args: Vec<&OsStr> = ["exec", "--detach", "--pid-file", PID]
            .into_iter()
            .chain(["--process", "process.json"])
            .map(OsStr::new)
            .collect();
        let console = match wish.tty {
            true => {
                args.extend(["--console-socket", CONSOLE].map(OsStr::new));
                Some(monitor::console(dir)?)
            }
            false => None,
        };
        args.push(OsStr::new(&record.id));
        let say = || "cannot wait for the command".to_owned();
        if wish.detach {
            let pid = runtime.start(dir, &args, |_| {})?;
            if let Some(console) = console {
                leave_terminal(console.receive_descriptor(), &record.id)?;
            }
            // One that is gone by now did nothing for long.
            if let Ok(process) = Handle::open(pid) {
                verify(&root, pid, &process)?;
            }
            return Ok(0);
        }
        // The runtime leaves, and the command becomes ours.
        child::adopt_orphans().context(say)?;
        let signals = Signals::hold(&signal::HANDED_ON).context(say)?;
        let pid = runtime.start(dir, &args, |command| {
            if wish.tty {
                return;
            }
            if wish.input {
                command.stdin(Stdio::inherit());
            }
            command.stdout(Stdio::inherit()).stderr(Stdio::inherit());
        })?;
        let process = Handle::open(pid).context(say)?;
        let followed = verify(&root, pid, &process).and_then(|()| match console {
            None => follow(&process, &signals),
            Some(console) => console
                .receive_descriptor()
                .context(|| "the runtime gave no terminal".to_owned())
                .and_then(|master| Relay::new(master, wish.input)?.run(&process, &signals)),
        });
        if followed.is_err() {
            // It would go on without anybody who knows of it.
            let _ = process.signal(signal::KILL);
        }
        let code = child::wait_for(pid).context(say);
        followed.and(code)
    }
}

/// The hidden command that keeps its standard input, our end of a terminal, as
/// long as somebody is at the other; what is written there is lost. The id of
/// the container comes after it, for those who see it in a list of processes.
pub const KEEP_TERMINAL: &str = "keep-terminal";

/// Be that command; the exit code.
pub fn keep_terminal() -> u8 {
    let Ok(master) = process::take_stdin() else {
        return 1;
    };
    process::set_name(c"capas-terminal");
    // It outlives who has asked for it.
    let _ = process::leave_session();
    let mut sink = std::io::sink();
    // It ends by an error once the last has closed the other end.
    let _ = std::io::copy(&mut File::from(master), &mut sink);
    0
}

/// Have somebody keep the terminal of a command that nobody waits for: without
/// our end it would be hung up.
fn leave_terminal(master: crate::sys::Result<OwnedFd>, id: &str) -> Result<()> {
    let master = master.context(|| "the runtime gave no terminal".to_owned())?;
    std::process::Command::new("/proc/self/exe")
        .args([KEEP_TERMINAL, id])
        .current_dir("/")
        .stdin(Stdio::from(master))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context(|| "cannot keep the terminal".to_owned())
        .map(drop)
}

/// End a command that works outside of the container.
fn verify(root: &Path, pid: u32, process: &Handle) -> Result<()> {
    let verified = workdir::verify(root, pid);
    if verified.is_err() {
        let _ = process.signal(signal::KILL);
    }
    verified
}

/// Hand signals on until the command has ended.
fn follow(process: &Handle, signals: &Signals) -> Result<()> {
    let say = || "cannot wait for the command".to_owned();
    loop {
        let fds: [(&dyn AsFd, Interest); 2] =
            [(process, Interest::Read), (signals, Interest::Read)];
        let ready = stream::wait(&fds, None).context(say)?;
        if ready.first().is_some_and(|r| r.any()) {
            return Ok(());
        }
        if ready.get(1).is_some_and(|r| r.any()) {
            pass(signals, process)?;
        }
    }
}

/// Hand a signal on; was it that our terminal has another size.
fn pass(signals: &Signals, process: &Handle) -> Result<bool> {
    let number = signals
        .wait()
        .context(|| "cannot read signals".to_owned())?;
    if number != signal::WINCH {
        // It may just have ended.
        let _ = process.signal(number);
    }
    Ok(number == signal::WINCH)
}

/// Our terminal, and the one that the command has.
struct Relay {
    master: OwnedFd,
    /// The command has closed its side.
    closed: bool,
    /// As before when this goes.
    _raw: Option<Raw<std::io::Stdin>>,
    input: bool,
    waiting: Vec<u8>,
}

impl Relay {
    fn new(master: OwnedFd, input: bool) -> Result<Relay> {
        let say = || "cannot set the terminal".to_owned();
        stream::never_wait(&master).context(say)?;
        let raw = match input && terminal::is_terminal(stdin()) {
            true => Some(Raw::new(stdin()).context(say)?),
            false => None,
        };
        let relay = Relay {
            master,
            closed: false,
            _raw: raw,
            input,
            waiting: Vec::new(),
        };
        relay.resize();
        Ok(relay)
    }

    fn resize(&self) {
        if let Ok(size) = terminal::size(stdin()).or_else(|_| terminal::size(stdout())) {
            let _ = terminal::set_size(&self.master, size);
        }
    }

    fn run(mut self, process: &Handle, signals: &Signals) -> Result<()> {
        let mut buf = vec![0; 16 << 10];
        loop {
            let stdin = stdin();
            let interest = match self.waiting.is_empty() {
                true => Interest::Read,
                false => Interest::Both,
            };
            let mut fds: Vec<(&dyn AsFd, Interest)> =
                vec![(process, Interest::Read), (signals, Interest::Read)];
            if !self.closed {
                fds.push((&self.master, interest));
                if self.input && self.waiting.is_empty() {
                    fds.push((&stdin, Interest::Read));
                }
            }
            let ready = stream::wait(&fds, None).context(|| "cannot wait".to_owned())?;
            let came = |n: usize| ready.get(n).is_some_and(|r| r.any());
            if came(2) {
                self.feed();
                self.show(&mut buf)?;
            }
            if came(1) && pass(signals, process)? {
                self.resize();
            }
            if came(3) {
                match stream::read(&stdin, &mut buf) {
                    Ok(None) => {}
                    Ok(Some(0)) | Err(_) => self.input = false,
                    Ok(Some(n)) => {
                        self.waiting
                            .extend_from_slice(buf.get(..n).unwrap_or_default());
                        self.feed();
                    }
                }
            }
            if came(0) {
                // What it wrote last.
                while self.show(&mut buf)? {}
                return Ok(());
            }
        }
    }

    /// Give the command what was typed.
    fn feed(&mut self) {
        while !self.waiting.is_empty() {
            match stream::write(&self.master, &self.waiting) {
                Ok(Some(n)) => drop(self.waiting.drain(..n)),
                Ok(None) => return,
                Err(_) => self.waiting.clear(),
            }
        }
    }

    /// Show what the command has written; was there anything.
    fn show(&mut self, buf: &mut [u8]) -> Result<bool> {
        match stream::read(&self.master, buf) {
            Ok(Some(n)) if n > 0 => {
                let mut out = stdout().lock();
                out.write_all(buf.get(..n).unwrap_or_default())
                    .and_then(|()| out.flush())
                    .context(|| "cannot write the command's output".to_owned())?;
                Ok(true)
            }
            Ok(None) => Ok(false),
            // Nobody is on its other side.
            Ok(Some(_)) | Err(_) => {
                self.closed = true;
                Ok(false)
            }
        }
    }
}
