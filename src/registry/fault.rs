//! How a request failed: what retries and mirrors decide by.

use crate::store::error::Error;
use std::fmt;
use std::time::Duration;

/// Why a request gave nothing.
#[derive(Debug)]
pub(super) enum Fault {
    /// The server refused.
    Status {
        status: u16,
        /// What it says about it.
        text: String,
        /// When it wants to be asked again.
        after: Option<Duration>,
    },
    /// It could not be reached, or was lost.
    Connection {
        text: String,
        /// Asking again soon will give the same.
        hopeless: bool,
        /// The other side speaks TLS, so it need not be tried without.
        tls: bool,
    },
    /// Asking again would be wrong.
    Final(Error),
}

/// What a request gives.
pub(super) type Reply<T> = std::result::Result<T, Fault>;

impl From<Error> for Fault {
    fn from(e: Error) -> Self {
        Fault::Final(e)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Status { text, .. } | Fault::Connection { text, .. } => f.write_str(text),
            Fault::Final(e) => e.fmt(f),
        }
    }
}

impl Fault {
    /// A fault for what a server sent that it should not.
    pub fn invalid(text: impl Into<String>) -> Fault {
        Fault::Final(Error::Invalid(text.into()))
    }

    /// Is it worth asking again.
    pub fn passes(&self) -> bool {
        match self {
            Fault::Status { status, .. } => matches!(status, 408 | 429 | 500..=599),
            Fault::Connection { hopeless, .. } => !hopeless,
            Fault::Final(_) => false,
        }
    }

    /// The status, if the server gave one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Fault::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// As an error that says what was being done.
    pub fn about(self, what: &str) -> Error {
        let text = format!("{what}: {self}");
        match self {
            // Which document was bad is said here, what the system refused is not.
            Fault::Final(Error::Invalid(_)) => Error::Invalid(text),
            Fault::Final(e) => e,
            Fault::Status { status: 404, .. } => Error::NotFound(text),
            _ => Error::Invalid(text),
        }
    }
}
