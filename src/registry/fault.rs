//! How a request failed: what retries and mirrors decide by.

use crate::store::error::{Error, show};
use serde::Deserialize;
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

#[derive(Deserialize)]
struct Errors {
    errors: Vec<OneError>,
}

#[derive(Deserialize)]
struct OneError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// What a refusing server says, in one line: `manifest unknown: not known`.
pub(super) fn server_text(status: u16, body: &[u8]) -> String {
    let Ok(Errors { errors }) = serde_json::from_slice::<Errors>(body) else {
        return format!("the server answers {}", status_text(status));
    };
    let one = |e: &OneError| {
        let code = e.code.to_lowercase().replace('_', " ");
        match (code.is_empty(), e.message.is_empty()) {
            (false, false) => format!("{code}: {}", e.message),
            (false, true) => code,
            _ => e.message.clone(),
        }
    };
    match errors.first() {
        Some(e) => show(one(e).as_bytes()),
        None => format!("the server answers {}", status_text(status)),
    }
}

fn status_text(status: u16) -> String {
    let name = ureq::http::StatusCode::from_u16(status)
        .ok()
        .and_then(|s| s.canonical_reason());
    match name {
        Some(name) => format!("{status} {name}"),
        None => status.to_string(),
    }
}
