//! What can go wrong with images and containers: one line each, what and why.

use crate::sys::Errno;
use std::fmt;

/// An error of the store or of containers.
#[derive(Debug)]
pub enum Error {
    /// The thing asked for is not there.
    NotFound(String),
    /// It is there, but its state forbids what was asked.
    Conflict(String),
    /// Input that is not what it must be: an archive, a name, an option.
    Invalid(String),
    /// The system refused something.
    System(String, std::io::Error),
    /// The OCI runtime could not start the command.
    Start {
        /// The exit code to give.
        code: u8,
        /// Why.
        why: String,
    },
}

/// What functions here return.
pub type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotFound(m)
            | Error::Conflict(m)
            | Error::Invalid(m)
            | Error::Start { why: m, .. } => f.write_str(m),
            Error::System(what, e) => write!(f, "{what}: {e}"),
        }
    }
}

impl std::error::Error for Error {}

/// Shorthand for [`Error::Invalid`].
pub fn invalid<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::Invalid(message.into()))
}

/// Says what was being done when the system refused.
pub trait Context<T> {
    /// `what` is evaluated for errors only.
    ///
    /// # Errors
    /// Those of `self`, as [`Error::System`].
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for std::io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(
            |e| match e.get_ref().and_then(|e| e.downcast_ref::<Error>()) {
                // Our own error that passed through a reader comes out as it was.
                Some(_) => match e.into_inner().map(|e| e.downcast::<Error>()) {
                    Some(Ok(own)) => *own,
                    _ => Error::Invalid(what()),
                },
                None => Error::System(what(), e),
            },
        )
    }
}

impl<T> Context<T> for crate::sys::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e: Errno| Error::System(what(), e.into()))
    }
}

impl From<Error> for std::io::Error {
    fn from(e: Error) -> Self {
        std::io::Error::other(e)
    }
}

/// Characters of foreign text that a message holds at most.
const SHOWN: usize = 500;

/// Bytes from outside as they may be shown in a one-line message.
pub fn show(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len().min(SHOWN));
    for c in text.chars().take(SHOWN) {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    if text.chars().nth(SHOWN).is_some() {
        out.push('…');
    }
    out
}
