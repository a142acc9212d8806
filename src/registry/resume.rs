//! A body that comes to its end although its connections break off.

use super::OwnWaiting;
use super::fault::{Fault, Reply};
use super::retry::Failures;
use std::io::{ErrorKind, Read};
use ureq::BodyReader;

/// What is read, and how far.
pub(super) struct Resumed<'a> {
    body: Option<BodyReader<'static>>,
    /// Bytes that were handed on.
    at: u64,
    /// How many there are, if that is known.
    size: Option<u64>,
    ended: bool,
    /// Nobody can say how it goes on.
    once: bool,
    failures: Failures,
    waiting: OwnWaiting<'a>,
}

impl<'a> Resumed<'a> {
    /// A body that was asked for already, or is when it is read.
    pub fn new(
        body: Option<BodyReader<'static>>,
        size: Option<u64>,
        waiting: OwnWaiting<'a>,
    ) -> Resumed<'a> {
        Resumed {
            body,
            at: 0,
            size,
            ended: size == Some(0),
            once: false,
            failures: Failures::default(),
            waiting,
        }
    }

    /// A body that cannot be asked for again: a cut is its end.
    pub fn once(body: BodyReader<'static>, size: Option<u64>, waiting: OwnWaiting<'a>) -> Self {
        Resumed {
            once: true,
            ..Resumed::new(Some(body), size, waiting)
        }
    }

    /// Bytes that were handed on.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Read on. `open` asks for the body from a place on.
    pub fn read(
        &mut self,
        buf: &mut [u8],
        open: impl Fn(u64) -> Reply<BodyReader<'static>>,
    ) -> Reply<usize> {
        if buf.is_empty() || self.ended {
            return Ok(0);
        }
        loop {
            let read = match self.body.take() {
                Some(body) => Ok(body),
                None => open(self.at),
            };
            match read.and_then(|body| self.next(body, buf)) {
                Ok(n) => {
                    self.at += n as u64;
                    self.ended = n == 0;
                    self.failures.came(n);
                    return Ok(n);
                }
                Err(fault) if self.once => return Err(fault),
                Err(fault) => self.failures.pause(fault, &*self.waiting)?,
            }
        }
    }

    /// Read once; a body that may hold more is kept.
    fn next(&mut self, mut body: BodyReader<'static>, buf: &mut [u8]) -> Reply<usize> {
        let left = self.size.map(|size| size - self.at);
        // One byte more than there may be, to notice it.
        let most = left.map_or(usize::MAX, |left| {
            usize::try_from(left.saturating_add(1)).unwrap_or(usize::MAX)
        });
        let len = buf.len().min(most);
        let n = loop {
            match body.read(buf.get_mut(..len).unwrap_or_default()) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // Nothing is missing that could have come.
                Err(_) if left == Some(0) => break 0,
                Err(e) => return Err(cut(&format!(": {e}"))),
                Ok(n) => break n,
            }
        };
        match (n, left) {
            (0, None | Some(0)) => Ok(0),
            (0, Some(_)) => Err(cut("")),
            (n, Some(left)) if n as u64 > left => Err(Fault::invalid(format!(
                "the server sends more than the {} bytes that it should",
                self.size.unwrap_or_default()
            ))),
            (n, _) => {
                self.body = Some(body);
                Ok(n)
            }
        }
    }
}

/// A connection broke off.
pub(super) fn cut(why: &str) -> Fault {
    Fault::Connection {
        text: format!("the download broke off{why}"),
        hopeless: false,
        tls: false,
    }
}
