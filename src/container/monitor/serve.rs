//! The loop of a monitor: what the command writes goes to the log and to those
//! who are attached, what these type goes to the command.

use super::logfile::{LogFile, Stream};
use super::protocol::{CHUNK, Event, Request};
use super::start::Started;
use super::{LOG, Record, SOCKET};
use crate::container::cgroup;
use crate::container::process::UNKNOWN_EXIT;
use crate::container::runtime::Runtime;
use crate::container::signal;
use crate::store::error::{Context, Result};
use crate::store::remove_if_there;
use crate::sys::child::{self, Handle};
use crate::sys::packets::{Listener, MAX_MESSAGE, Packets, Received};
use crate::sys::process::Signals;
use crate::sys::{stream, terminal};
use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;
use stream::{Event as Ready, Interest};

/// No more is kept of what the command is behind with reading.
const MAX_INPUT: usize = 64 << 10;
/// How long those who are attached may take for the last of it.
const FLUSH: Duration = Duration::from_secs(10);

/// One who is attached.
#[derive(Debug)]
pub struct Client {
    socket: Packets,
    output: bool,
    input: bool,
    /// Wants the command to stand still.
    pauses: bool,
    waiting: VecDeque<Vec<u8>>,
    gone: bool,
}

impl Client {
    fn new(socket: Packets) -> Client {
        Client {
            socket,
            output: false,
            input: false,
            pauses: false,
            waiting: VecDeque::new(),
            gone: false,
        }
    }

    /// Who started the monitor, and has said already what it wants to see.
    pub fn first(socket: Packets) -> Client {
        let mut client = Client::new(socket);
        let mut buf = [0; 16];
        if let Ok(Received::Message(n)) = client.socket.receive(&mut buf)
            && let Some(Request::Attach { output, input }) =
                Request::decode(buf.get(..n).unwrap_or_default())
        {
            client.output = output;
            client.input = input;
        }
        client
    }

    /// Send a message, or keep it until there is room.
    pub fn say(&mut self, message: Vec<u8>) {
        self.waiting.push_back(message);
        self.flush();
    }

    fn flush(&mut self) {
        while let Some(message) = self.waiting.front() {
            match self.socket.send(message) {
                Ok(true) => drop(self.waiting.pop_front()),
                Ok(false) => return,
                // It hears no more; what it said before is still read.
                Err(_) => {
                    self.output = false;
                    self.waiting.clear();
                }
            }
        }
    }
}

/// Give those who are attached the last of it.
pub fn flush(mut clients: Vec<Client>) {
    let begun = std::time::Instant::now();
    while begun.elapsed() < FLUSH {
        clients.retain(|c| !c.waiting.is_empty());
        if clients.is_empty() {
            return;
        }
        let fds: Vec<_> = clients
            .iter()
            .map(|c| (&c.socket as &dyn AsFd, Interest::Write))
            .collect();
        let _ = stream::wait(&fds, Some(Duration::from_secs(1)));
        clients.iter_mut().for_each(Client::flush);
    }
}

/// What the command writes, until its end.
#[derive(Debug)]
struct Output {
    stream: Stream,
    fd: Option<OwnedFd>,
}

impl Output {
    fn new(stream: Stream, fd: OwnedFd) -> Output {
        let fd = Some(fd);
        Output { stream, fd }
    }
}

/// What the command reads.
#[derive(Debug)]
struct Input {
    fd: OwnedFd,
    waiting: Vec<u8>,
    /// Closed when all that waits is written.
    ending: bool,
}

/// What must be there before the command runs.
#[derive(Debug)]
pub struct Ears {
    listener: Listener,
    log: LogFile,
}

impl Ears {
    /// Listen for those who want to attach, in the container's directory, and
    /// go on with its log.
    pub fn new(dir: &Path) -> Result<Ears> {
        let say = || format!("cannot listen in {}", dir.display());
        remove_if_there(&dir.join(SOCKET)).context(say)?;
        let opened = File::open(dir).context(say)?;
        Ok(Ears {
            listener: Listener::packets(&opened, SOCKET).context(say)?,
            log: LogFile::open(&dir.join(LOG)).context(|| "cannot open the log".to_owned())?,
        })
    }
}

/// A monitor at work.
#[derive(Debug)]
pub struct Monitor {
    id: String,
    runtime: Runtime,
    pid: u32,
    signals: Signals,
    ears: Ears,
    clients: Vec<Client>,
    outputs: Vec<Output>,
    input: Option<Input>,
    terminal: bool,
    stdin_once: bool,
    stop_signal: i32,
    log_fails: bool,
    /// It is a step of a build, and ends with it.
    step: bool,
    root: PathBuf,
    why: String,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code.
    pub code: u8,
    /// Why, if it was ended by the monitor.
    pub why: String,
    /// Those who are still attached.
    pub clients: Vec<Client>,
}

/// Whose turn it is.
enum Source {
    Signals,
    Listener,
    Output(usize),
    Input,
    Client(usize),
}

impl Monitor {
    /// Take over a command that was started, whose root is mounted at `root`.
    pub fn new(
        record: &Record,
        runtime: Runtime,
        root: PathBuf,
        started: Started,
        signals: Signals,
        ears: Ears,
        clients: Vec<Client>,
    ) -> Monitor {
        let tty = started.terminal.is_some();
        let mut outputs = Vec::new();
        let mut input = started.stdin;
        if let Some(terminal) = started.terminal {
            input = terminal.try_clone().ok();
            outputs.push(Output::new(Stream::Stdout, terminal));
        }
        outputs.extend(started.stdout.map(|fd| Output::new(Stream::Stdout, fd)));
        outputs.extend(started.stderr.map(|fd| Output::new(Stream::Stderr, fd)));
        let stop_signal = record.settings.stop_signal.as_deref();
        Monitor {
            id: record.id.clone(),
            runtime,
            pid: started.pid,
            signals,
            ears,
            clients,
            outputs,
            input: input.map(|fd| Input {
                fd,
                waiting: Vec::new(),
                ending: false,
            }),
            terminal: tty,
            stdin_once: record.settings.stdin_once && !tty,
            stop_signal: stop_signal
                .and_then(|s| signal::parse(s).ok())
                .unwrap_or(signal::TERM),
            log_fails: false,
            step: record.builder.is_some(),
            root,
            why: String::new(),
        }
    }

    /// Serve until the command has ended.
    pub fn run(mut self) -> Ended {
        let mut buf = vec![0; MAX_MESSAGE + 1];
        let code = match self.serve(&mut buf) {
            Ok(code) => code,
            Err(e) => {
                // Nobody would see its end.
                self.why = e.to_string();
                self.kill(signal::KILL);
                child::wait_for(self.pid).unwrap_or(UNKNOWN_EXIT)
            }
        };
        // Nobody else writes any more: what is there is the rest.
        for n in 0..self.outputs.len() {
            while self.forward(n, &mut buf) {}
        }
        if let Err(e) = self.ears.log.finish() {
            self.log_failed(&e);
        }
        Ended {
            code,
            why: self.why,
            clients: self.clients,
        }
    }

    /// Serve until the command has ended; its exit code.
    fn serve(&mut self, buf: &mut [u8]) -> Result<u8> {
        let say = || "cannot take the container's streams".to_owned();
        let outputs = self.outputs.iter().filter_map(|o| o.fd.as_ref());
        for fd in outputs.chain(self.input.as_ref().map(|i| &i.fd)) {
            stream::never_wait(fd).context(say)?;
        }
        // The end may have come before the first signal could be seen.
        let mut code = self.reap();
        loop {
            if let Some(code) = code {
                return Ok(code);
            }
            for (source, ready) in self.wait()? {
                match source {
                    Source::Signals => code = code.or(self.signal()?),
                    Source::Listener => {
                        if let Ok(Some(socket)) = self.ears.listener.accept() {
                            self.clients.push(Client::new(socket));
                        }
                    }
                    Source::Output(n) => drop(self.forward(n, buf)),
                    Source::Input => self.feed(),
                    Source::Client(n) => self.client(n, ready, buf),
                }
            }
            self.clients_gone();
        }
    }

    fn wait(&self) -> Result<Vec<(Source, Ready)>> {
        let mut sources = vec![Source::Signals, Source::Listener];
        let mut fds: Vec<(&dyn AsFd, Interest)> = vec![
            (&self.signals, Interest::Read),
            (&self.ears.listener, Interest::Read),
        ];
        // Who reads slowly slows the command down; nothing is lost.
        let behind = |c: &Client| c.output && !c.waiting.is_empty();
        if !self.clients.iter().any(behind) {
            for (n, output) in self.outputs.iter().enumerate() {
                if let Some(fd) = &output.fd {
                    sources.push(Source::Output(n));
                    fds.push((fd, Interest::Read));
                }
            }
        }
        let full = |i: &Input| i.waiting.len() >= MAX_INPUT;
        if let Some(input) = self.input.as_ref().filter(|i| !i.waiting.is_empty()) {
            sources.push(Source::Input);
            fds.push((&input.fd, Interest::Write));
        }
        let stuffed = self.input.as_ref().is_some_and(full);
        for (n, client) in self.clients.iter().enumerate() {
            let interest = match (client.input && stuffed, client.waiting.is_empty()) {
                (true, true) => Interest::End,
                (true, false) => Interest::Write,
                (false, true) => Interest::Read,
                (false, false) => Interest::Both,
            };
            sources.push(Source::Client(n));
            fds.push((&client.socket, interest));
        }
        let ready = stream::wait(&fds, None).context(|| "cannot wait".to_owned())?;
        Ok(sources
            .into_iter()
            .zip(ready)
            .filter(|(_, ready)| ready.any())
            .collect())
    }

    fn signal(&mut self) -> Result<Option<u8>> {
        let number = self
            .signals
            .wait()
            .context(|| "cannot read signals".to_owned())?;
        if number == child::ENDED {
            return Ok(self.reap());
        }
        // Asked to end, it asks the command to.
        self.kill(self.stop_signal);
        Ok(None)
    }

    /// Look which children have ended.
    fn reap(&mut self) -> Option<u8> {
        let mut code = None;
        while let Ok(Some((pid, ended))) = child::ended() {
            if pid == self.pid {
                code = Some(ended);
            } else if code.is_none() && stream::disconnected(&self.root) {
                // Without its root the command can do nothing but fail.
                "capasfs, which serves the container's root, has ended".clone_into(&mut self.why);
                self.kill(signal::KILL);
            }
        }
        code
    }

    fn kill(&self, number: i32) {
        // It is a child that was not waited for, so the number is its own.
        let sent = Handle::open(self.pid).and_then(|h| h.signal(number));
        if let Err(e) = sent {
            log::warn!("cannot send signal {number}: {e}");
        }
        if number == signal::KILL {
            cgroup::thaw(&self.id);
        }
    }

    /// Read once from an output; was there anything.
    fn forward(&mut self, n: usize, buf: &mut [u8]) -> bool {
        let room = buf.len().min(CHUNK);
        let (Some(output), Some(buf)) = (self.outputs.get_mut(n), buf.get_mut(..room)) else {
            return false;
        };
        let Some(fd) = &output.fd else { return false };
        match stream::read(fd, buf) {
            Ok(None) => false,
            // A terminal with nobody on its other side is an error.
            Ok(Some(0)) | Err(_) => {
                output.fd = None;
                false
            }
            Ok(Some(read)) => {
                let stream = output.stream;
                self.publish(stream, buf.get(..read).unwrap_or_default());
                true
            }
        }
    }

    fn publish(&mut self, kind: Stream, data: &[u8]) {
        if let Err(e) = self.ears.log.write(kind, data) {
            self.log_failed(&e);
        }
        let event = match kind {
            Stream::Stdout => Event::Output(data),
            Stream::Stderr => Event::Error(data),
        };
        let message = event.encode();
        for client in self.clients.iter_mut().filter(|c| c.output) {
            client.say(message.clone());
        }
    }

    fn log_failed(&mut self, e: &std::io::Error) {
        if !std::mem::replace(&mut self.log_fails, true) {
            let text = format!("the container's log cannot be written: {e}");
            let message = Event::Warning(&text).encode();
            self.clients.iter_mut().for_each(|c| c.say(message.clone()));
        }
    }

    /// Write to the command what it has not read yet.
    fn feed(&mut self) {
        let Some(input) = &mut self.input else { return };
        while !input.waiting.is_empty() {
            match stream::write(&input.fd, &input.waiting) {
                Ok(Some(written)) => drop(input.waiting.drain(..written)),
                Ok(None) => return,
                Err(_) => {
                    // It reads no more.
                    input.waiting.clear();
                    input.ending = true;
                }
            }
        }
        if input.ending {
            self.input = None;
        }
    }

    fn client(&mut self, n: usize, ready: Ready, buf: &mut [u8]) {
        let Some(client) = self.clients.get_mut(n) else {
            return;
        };
        if ready.write {
            client.flush();
        }
        if !ready.read && !ready.end {
            return;
        }
        match client.socket.receive(buf) {
            Ok(Received::Message(length)) => {
                let message = buf.get(..length).unwrap_or_default();
                self.request(n, message);
            }
            Ok(Received::Nothing) => {}
            Ok(Received::End) | Err(_) => client.gone = true,
        }
    }

    fn request(&mut self, n: usize, message: &[u8]) {
        let Some(client) = self.clients.get_mut(n) else {
            return;
        };
        match Request::decode(message) {
            Some(Request::Attach { output, input }) => {
                client.output = output;
                client.input = input;
            }
            Some(Request::Input(data)) => {
                if let Some(input) = self.input.as_mut().filter(|_| client.input) {
                    input.waiting.extend_from_slice(data);
                    self.feed();
                }
            }
            Some(Request::EndOfInput) => {
                let once = self.stdin_once;
                if let Some(input) = self.input.as_mut().filter(|_| client.input && once) {
                    input.ending = true;
                    self.feed();
                }
            }
            Some(Request::Size(rows, columns)) => {
                if let Some(input) = self.input.as_ref().filter(|_| self.terminal) {
                    let _ = terminal::set_size(&input.fd, (rows, columns));
                }
            }
            Some(Request::Pause) => self.pause(n),
            None => client.gone = true,
        }
    }

    /// Let the command stand still, for one of those who are connected.
    fn pause(&mut self, n: usize) {
        let already = self.clients.iter().any(|c| c.pauses);
        let done = match already {
            true => Ok(()),
            false => self.runtime.pause(&self.id),
        };
        if done.is_err() {
            // A runtime that was killed may have stopped it.
            cgroup::thaw(&self.id);
        }
        if let Some(client) = self.clients.get_mut(n) {
            client.pauses = done.is_ok();
            client.say(match done {
                Ok(()) => Event::Paused.encode(),
                Err(e) => Event::Warning(&e.to_string()).encode(),
            });
        }
    }

    fn clients_gone(&mut self) {
        let left = self.clients.iter().any(|c| c.gone && c.input);
        let paused = self.clients.iter().any(|c| c.gone && c.pauses);
        self.clients.retain(|c| !c.gone);
        if self.step && self.clients.is_empty() {
            self.kill(signal::KILL);
        }
        if paused
            && !self.clients.iter().any(|c| c.pauses)
            && self.runtime.resume(&self.id).is_err()
        {
            // It would stand still for ever.
            cgroup::thaw(&self.id);
        }
        if left && self.stdin_once {
            if let Some(input) = &mut self.input {
                input.ending = true;
            }
            self.feed();
        }
    }
}
