//! Asking again: how often and after how long.

use super::Waiting;
use super::fault::{Fault, Reply};
use crate::store::error::Error;
use crate::sys::tree;
use std::time::Duration;

/// Attempts before a fault is told.
const ATTEMPTS: u32 = 5;
/// The first pause; each is twice the one before.
const FIRST: Duration = Duration::from_secs(1);
/// No server is waited for longer.
const LONGEST: Duration = Duration::from_secs(120);

/// Bytes after which a connection has proved itself.
const MUCH: u64 = 64 << 10;

/// How much is borne of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// There is another to ask.
    None,
    /// There is not.
    Some,
}

/// Do `act` until it works, it will not work, or it failed too often.
pub(super) fn retry<T>(
    patience: Patience,
    waiting: Waiting<'_>,
    mut act: impl FnMut() -> Reply<T>,
) -> Reply<T> {
    let mut failed = 0;
    loop {
        match act() {
            Err(fault) if patience == Patience::Some => {
                failed += 1;
                pause(fault, failed, waiting)?;
            }
            other => return other,
        }
    }
}

/// Failures of one download: a connection that brought much has proved itself,
/// one that breaks off each time after less is given up.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// Since much came.
    number: u32,
    /// Bytes since the last one.
    since: u64,
}

impl Failures {
    /// So many bytes have come.
    pub fn came(&mut self, n: usize) {
        self.since += n as u64;
        if self.since >= MUCH {
            self.number = 0;
        }
    }

    /// Wait after one more, as [`pause`] does.
    pub fn pause(&mut self, fault: Fault, waiting: Waiting<'_>) -> Reply<()> {
        self.number += 1;
        self.since = 0;
        pause(fault, self.number, waiting)
    }
}

/// Wait after the `failed`th failure in a row; gives the fault back when there
/// is no use in waiting.
pub(super) fn pause(fault: Fault, failed: u32, waiting: Waiting<'_>) -> Reply<()> {
    if !fault.passes() || failed >= ATTEMPTS {
        return Err(fault);
    }
    let asked = match fault {
        Fault::Status { after, .. } => after,
        _ => None,
    };
    let time = match asked {
        Some(time) if time > LONGEST => {
            let text = format!(
                "{fault}: it wants to be asked again in {} seconds",
                time.as_secs()
            );
            return Err(Fault::Final(Error::Invalid(text)));
        }
        Some(time) => time.max(Duration::from_millis(1)),
        None => with_jitter(FIRST * 2u32.saturating_pow(failed.saturating_sub(1))),
    };
    waiting(time);
    std::thread::sleep(time);
    Ok(())
}

/// Up to a quarter longer, so that those who failed together do not come again
/// together.
fn with_jitter(time: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness there is no jitter.
    let _ = tree::random(&mut byte);
    let [byte] = byte;
    time + time * u32::from(byte) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    fn status(status: u16, after: Option<u64>) -> Fault {
        Fault::Status {
            status,
            text: "no".to_owned(),
            after: after.map(Duration::from_secs),
        }
    }

    #[test]
    fn only_what_passes_is_tried_again() {
        let waited = Mutex::new(Vec::new());
        let note = |d: Duration| waited.lock().unwrap().push(d);
        let mut calls = 0;
        let done = retry(Patience::Some, &note, || {
            calls += 1;
            match calls {
                1 => Err(status(503, None)),
                2 => Err(status(429, Some(0))),
                _ => Ok(calls),
            }
        });
        assert_eq!(done.unwrap(), 3);
        {
            let waited = waited.lock().unwrap();
            assert!(waited[0] >= FIRST && waited[0] <= FIRST * 5 / 4);
            assert_eq!(waited[1], Duration::from_millis(1));
        }
        let mut calls = 0;
        for fault in [status(404, None), status(429, Some(3600))] {
            let mut fault = Some(fault);
            let done: Reply<()> = retry(Patience::Some, &note, || {
                calls += 1;
                Err(fault.take().unwrap())
            });
            assert!(done.is_err());
        }
        assert_eq!(calls, 2);
        assert!(pause(status(500, None), ATTEMPTS, &note).is_err());
        assert_eq!(waited.lock().unwrap().len(), 2);
    }
}
