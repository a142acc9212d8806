//! Our own streams and those of a container, until it ends or we leave.

use super::monitor::launch::{Connection, Wanted, failed, lost};
use super::monitor::protocol::{CHUNK, Event, Request};
use super::{Containers, Record, signal};
use crate::store::error::{Context, Result, invalid, show};
use crate::sys::child::Handle;
use crate::sys::process::Signals;
use crate::sys::stream::{self, Interest};
use crate::sys::terminal::{self, Raw};
use std::collections::VecDeque;
use std::io::{ErrorKind, Stdin, Write, stderr, stdin, stdout};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How long it may take to send what was typed before we leave.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What leaves a container without ending it, as keys are typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetachKeys(Vec<u8>);

impl DetachKeys {
    /// Read `ctrl-p,ctrl-q`: single characters, or `ctrl-` and a letter or one
    /// of `@[\]^_`.
    ///
    /// # Errors
    /// For anything else.
    pub fn parse(text: &str) -> Result<DetachKeys> {
        let key = |part: &str| match (
            part.as_bytes(),
            part.strip_prefix("ctrl-").map(str::as_bytes),
        ) {
            ([one], _) => Some(*one),
            (_, Some([c @ (b'a'..=b'z' | b'@' | b'['..=b'_')])) => Some(c & 0x1f),
            _ => None,
        };
        let keys = text.split(',').map(key).collect::<Option<Vec<u8>>>();
        match keys {
            Some(keys) => Ok(DetachKeys(keys)),
            None => invalid(format!(
                "invalid detach keys '{}': give characters or ctrl- and a letter, with commas between them",
                show(text.as_bytes())
            )),
        }
    }
}

impl Default for DetachKeys {
    /// ctrl-p, ctrl-q.
    fn default() -> DetachKeys {
        DetachKeys(vec![0x10, 0x11])
    }
}

/// Looks for the detach keys in what is typed.
#[derive(Debug)]
struct Escape {
    keys: Vec<u8>,
    matched: usize,
}

impl Escape {
    /// What of `typed` goes on to the container, and whether the keys are
    /// complete. Keys that may begin them wait for the next.
    fn filter(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::with_capacity(typed.len());
        for byte in typed {
            if self.keys.get(self.matched) == Some(byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return (out, true);
                }
                continue;
            }
            out.extend(self.keys.get(..self.matched).unwrap_or_default());
            self.matched = usize::from(self.keys.first() == Some(byte));
            if self.matched == 0 {
                out.push(*byte);
            }
        }
        (out, false)
    }
}

/// How somebody is attached.
#[derive(Clone, Debug)]
pub struct Session {
    /// The container has a terminal.
    pub tty: bool,
    /// What is typed goes there.
    pub input: bool,
    /// Signals that we get are handed on to its command.
    pub proxy: bool,
    /// What is typed to leave.
    pub keys: DetachKeys,
}

impl Session {
    /// With a container; `input`: what is typed goes there.
    pub fn new(record: &Record, input: bool, proxy: bool, keys: DetachKeys) -> Session {
        Session {
            tty: record.settings.tty,
            input,
            proxy,
            keys,
        }
    }

    /// What is wanted of the container's monitor for it.
    pub fn wanted(&self) -> Wanted {
        Wanted {
            output: true,
            input: self.input,
        }
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The command has, with this code.
    Exited(u8),
    /// It goes on without us.
    Detached,
    /// It goes on, and we were asked to end by this signal.
    Signalled(i32),
}

/// Was it seen. Nobody looks any more where a pipe is closed: as other programs we
/// end then without a word.
fn shown(written: std::io::Result<()>) -> Result<Option<End>> {
    match written {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(Some(End::Signalled(signal::PIPE))),
        written => {
            written.context(|| "cannot write the container's output".to_owned())?;
            Ok(None)
        }
    }
}

/// Refuse to be a terminal's end without being at a terminal.
///
/// # Errors
/// When standard input is none.
pub fn check_terminal(tty: bool, input: bool) -> Result<()> {
    match tty && input && !terminal::is_terminal(stdin()) {
        true => invalid("the input device is not a TTY"),
        false => Ok(()),
    }
}

/// Stay attached to a container that runs or is being started.
///
/// # Errors
/// [`Start`](crate::store::error::Error::Start) when the command cannot be started, or its monitor dies;
/// others when our own streams fail. The terminal is as before in any case.
pub fn attach(
    containers: &Containers<'_>,
    record: &Record,
    connection: Connection,
    session: &Session,
) -> Result<End> {
    let signals = Signals::hold(&signal::HANDED_ON).context(|| "cannot hold signals".to_owned())?;
    let raw = match session.tty && session.input && terminal::is_terminal(stdin()) {
        true => Some(Raw::new(stdin()).context(|| "cannot set the terminal".to_owned())?),
        false => None,
    };
    let mut attached = Attached {
        containers,
        id: &record.id,
        connection,
        escape: raw.as_ref().map(|_| Escape {
            keys: session.keys.0.clone(),
            matched: 0,
        }),
        input: session.input.then(stdin),
        waiting: VecDeque::new(),
        tty: session.tty,
        proxy: session.proxy && !session.tty,
        process: None,
        early: Vec::new(),
    };
    if containers.process(record).is_some() {
        attached.started();
    }
    let end = attached.run(&signals);
    drop(raw);
    end
}

struct Attached<'a> {
    containers: &'a Containers<'a>,
    id: &'a str,
    connection: Connection,
    escape: Option<Escape>,
    input: Option<Stdin>,
    waiting: VecDeque<Vec<u8>>,
    tty: bool,
    proxy: bool,
    process: Option<Handle>,
    /// Signals from before the command ran.
    early: Vec<i32>,
}

impl Attached<'_> {
    fn run(&mut self, signals: &Signals) -> Result<End> {
        let mut buf = vec![0; CHUNK];
        loop {
            let interest = match self.waiting.is_empty() {
                true => Interest::Read,
                false => Interest::Both,
            };
            let mut fds: Vec<(&dyn AsFd, Interest)> = vec![
                (self.connection.socket(), interest),
                (signals, Interest::Read),
            ];
            // No more is read than the container takes.
            if let Some(input) = self.input.as_ref().filter(|_| self.waiting.is_empty()) {
                fds.push((input, Interest::Read));
            }
            let ready = stream::wait(&fds, None).context(|| "cannot wait".to_owned())?;
            let came = |n: usize| ready.get(n).copied().unwrap_or_default();
            if came(0).write {
                self.flush();
            }
            if (came(0).read || came(0).end)
                && let Some(end) = self.hear()?
            {
                return Ok(end);
            }
            if came(1).any()
                && let Some(end) = self.signal(signals)?
            {
                return Ok(end);
            }
            if came(2).any() && self.typed(&mut buf) {
                return Ok(End::Detached);
            }
        }
    }

    /// Take what the monitor says.
    fn hear(&mut self) -> Result<Option<End>> {
        match self.connection.event() {
            Ok(Some(Event::Output(data))) => {
                let mut out = stdout().lock();
                return shown(out.write_all(data).and_then(|()| out.flush()));
            }
            Ok(Some(Event::Error(data))) => return shown(stderr().write_all(data)),
            Ok(Some(Event::Started)) => self.started(),
            Ok(Some(Event::Failed(code, why))) => return Err(failed(code, why)),
            Ok(Some(Event::Warning(text))) => log::warn!("{text}"),
            Ok(Some(Event::Exited(code))) => return Ok(Some(End::Exited(code))),
            Ok(Some(Event::Paused) | None) => {}
            Err(_) => return Err(lost()),
        }
        Ok(None)
    }

    /// The process was written down before this was said. By now its number may
    /// be another one's.
    fn started(&mut self) {
        let now = self.containers.read(self.id).ok();
        let process = now.and_then(|record| self.containers.process(&record));
        self.process = process.and_then(|p| p.handle().ok());
        for number in std::mem::take(&mut self.early) {
            self.pass(number);
        }
        self.resize();
    }

    fn resize(&mut self) {
        if self.tty
            && let Ok((rows, columns)) =
                terminal::size(stdin()).or_else(|_| terminal::size(stdout()))
        {
            self.waiting
                .push_back(Request::Size(rows, columns).encode());
            self.flush();
        }
    }

    fn pass(&mut self, number: i32) {
        match &self.process {
            Some(process) => drop(process.signal(number)),
            None => self.early.push(number),
        }
    }

    fn signal(&mut self, signals: &Signals) -> Result<Option<End>> {
        let number = signals
            .wait()
            .context(|| "cannot read signals".to_owned())?;
        match number {
            signal::WINCH => self.resize(),
            number if self.proxy => self.pass(number),
            signal::USR1 | signal::USR2 => {}
            number => return Ok(Some(End::Signalled(number))),
        }
        Ok(None)
    }

    /// Take what was typed; are we to leave.
    fn typed(&mut self, buf: &mut [u8]) -> bool {
        let typed = match stream::read(stdin(), buf) {
            Ok(None) => return false,
            Ok(Some(n)) => buf.get(..n).unwrap_or_default(),
            // A terminal in whose background we are, for example.
            Err(_) => &[],
        };
        if typed.is_empty() {
            self.input = None;
            self.waiting.push_back(Request::EndOfInput.encode());
        } else {
            let (data, left) = match &mut self.escape {
                Some(escape) => escape.filter(typed),
                None => (typed.to_vec(), false),
            };
            if !data.is_empty() {
                self.waiting.push_back(Request::Input(&data).encode());
            }
            if left {
                self.flush_all();
                return true;
            }
        }
        self.flush();
        false
    }

    /// Send what was typed before we leave, if the container reads it.
    fn flush_all(&mut self) {
        let begun = Instant::now();
        self.flush();
        while !self.waiting.is_empty() && begun.elapsed() < LAST_WORDS {
            let fds: [(&dyn AsFd, Interest); 1] = [(self.connection.socket(), Interest::Write)];
            let _ = stream::wait(&fds, Some(LAST_WORDS));
            self.flush();
        }
    }

    fn flush(&mut self) {
        while let Some(message) = self.waiting.front() {
            match self.connection.socket().send(message) {
                Ok(true) => drop(self.waiting.pop_front()),
                Ok(false) => return,
                // The next thing that is heard says why.
                Err(_) => self.waiting.clear(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_found_and_all_else_goes_on() {
        let keys = DetachKeys::parse("ctrl-p,ctrl-q").unwrap();
        assert_eq!(keys, DetachKeys::default());
        assert_eq!(
            DetachKeys::parse("a,ctrl-[,ctrl-@").unwrap().0,
            [b'a', 27, 0]
        );
        for bad in ["", "ctrl-", "ctrl-1", "ab", "a,", "ä"] {
            assert!(DetachKeys::parse(bad).is_err(), "{bad}");
        }
        let mut escape = Escape {
            keys: keys.0,
            matched: 0,
        };
        assert_eq!(escape.filter(b"ab\x11"), (b"ab\x11".to_vec(), false));
        assert_eq!(escape.filter(b"x\x10"), (b"x".to_vec(), false));
        assert_eq!(escape.filter(b"y"), (b"\x10y".to_vec(), false));
        assert_eq!(escape.filter(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(escape.filter(b"\x11zz"), (b"".to_vec(), true));
    }
}
