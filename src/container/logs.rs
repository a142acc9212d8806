//! What a container has written, read again.

use super::monitor::LOG;
use super::monitor::logfile::{Entry, Stream};
use super::record::Status;
use super::{Containers, Record};
use crate::store::error::{Context, Error};
use crate::store::time;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::time::Duration;

/// How often it is looked whether there is more.
const POLL: Duration = Duration::from_millis(50);

/// Which lines.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice {
    /// Go on until the container ends.
    pub follow: bool,
    /// Only so many, the last ones.
    pub tail: Option<usize>,
    /// Only from this time on, nanoseconds since 1970.
    pub since: Option<i64>,
    /// Only up to this time.
    pub until: Option<i64>,
}

impl Containers<'_> {
    /// Show what a container has written. `show` gets each line with its time,
    /// and whether it is to go on.
    ///
    /// # Errors
    /// When the log cannot be read; those of `show`.
    pub fn logs<E: From<Error>>(
        &self,
        record: &Record,
        choice: Choice,
        mut show: impl FnMut(&Entry<'_>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let path = self.dir(&record.id).join(LOG);
        let say = || format!("cannot read {}", path.display());
        let mut file = None;
        let mut line = Vec::new();
        let skip = match choice.tail {
            Some(wanted) => count(&path).context(say)?.saturating_sub(wanted),
            None => 0,
        };
        let mut seen = 0;
        loop {
            // Asked before reading: what was written until the end is then seen.
            let running = choice.follow && self.is_running(record);
            if file.is_none() {
                match File::open(&path) {
                    Ok(opened) => file = Some(BufReader::new(opened)),
                    Err(e) if e.kind() == ErrorKind::NotFound => {}
                    Err(e) => return Err(Error::System(say(), e).into()),
                }
            }
            while let Some(file) = &mut file {
                file.read_until(b'\n', &mut line).context(say)?;
                // A line that is just being written is read to its end later.
                if !line.ends_with(b"\n") {
                    break;
                }
                seen += 1;
                if let Some(entry) = parse(&line).filter(|e| seen > skip && choice.fits(e)) {
                    show(&entry)?;
                }
                line.clear();
            }
            if !running {
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
    }

    fn is_running(&self, record: &Record) -> bool {
        self.read(&record.id)
            .is_ok_and(|now| self.status(&now).0 == Status::Running)
    }
}

impl Choice {
    fn fits(&self, entry: &Entry<'_>) -> bool {
        if self.since.is_none() && self.until.is_none() {
            return true;
        }
        let Some(seconds) = time::parse(&entry.time) else {
            return true;
        };
        let nanos = i64::from(time::fraction(&entry.time));
        let at = seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
        self.since.is_none_or(|s| at >= s) && self.until.is_none_or(|u| at <= u)
    }
}

/// One that cannot be read, as the disk was full, is left out.
fn parse(line: &[u8]) -> Option<Entry<'_>> {
    serde_json::from_slice(line).ok()
}

/// How many lines there are.
fn count(path: &std::path::Path) -> std::io::Result<usize> {
    let file = match File::open(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(0),
        file => file?,
    };
    let mut file = BufReader::new(file);
    let mut lines = 0;
    loop {
        let part = file.fill_buf()?;
        if part.is_empty() {
            return Ok(lines);
        }
        lines += part.iter().filter(|b| **b == b'\n').count();
        let length = part.len();
        file.consume(length);
    }
}

/// Is it standard error's.
pub fn is_error(entry: &Entry<'_>) -> bool {
    entry.stream == Stream::Stderr
}
