//! What a container writes, kept as docker's json-file driver keeps it: a line
//! each as `{"log":…,"stream":…,"time":…}`, long ones in pieces without a
//! newline.

use crate::store::time;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A line without an end is written after so much.
const MAX_LINE: usize = 16 << 10;

/// Which stream it was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line of the file.
#[derive(Debug, Serialize, Deserialize)]
pub struct Entry<'a> {
    /// What was written.
    pub log: Cow<'a, str>,
    /// To which stream.
    pub stream: Stream,
    /// When, RFC 3339.
    pub time: Cow<'a, str>,
}

/// The file, and what waits for its line's end.
#[derive(Debug)]
pub struct LogFile {
    file: File,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl LogFile {
    /// Go on writing at the end of `path`.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> std::io::Result<LogFile> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        Ok(LogFile {
            file,
            stdout: Vec::new(),
            stderr: Vec::new(),
        })
    }

    /// Take what was written to a stream.
    ///
    /// # Errors
    /// When the disk is full, for example; the lines are lost then.
    pub fn write(&mut self, stream: Stream, data: &[u8]) -> std::io::Result<()> {
        self.take(stream, data, false)
    }

    /// Write what has no line's end.
    ///
    /// # Errors
    /// As [`LogFile::write`].
    pub fn finish(&mut self) -> std::io::Result<()> {
        self.take(Stream::Stdout, b"", true)?;
        self.take(Stream::Stderr, b"", true)
    }

    fn take(&mut self, stream: Stream, data: &[u8], all: bool) -> std::io::Result<()> {
        let rest = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        rest.extend_from_slice(data);
        let (seconds, nanos) = time::now();
        let now = time::format(seconds, nanos);
        let mut out = Vec::new();
        let mut left = rest.as_slice();
        while let Some(end) = piece(left, all) {
            let (line, after) = left.split_at_checked(end).unwrap_or((left, &[]));
            let entry = Entry {
                log: String::from_utf8_lossy(line),
                stream,
                time: now.as_str().into(),
            };
            serde_json::to_writer(&mut out, &entry)?;
            out.push(b'\n');
            left = after;
        }
        let used = rest.len() - left.len();
        rest.drain(..used);
        // Whole lines in one write: readers see no half ones.
        self.file.write_all(&out)
    }
}

/// How much of `data` is the next entry.
fn piece(data: &[u8], all: bool) -> Option<usize> {
    let window = data.get(..MAX_LINE).unwrap_or(data);
    match window.iter().position(|b| *b == b'\n') {
        Some(at) => Some(at + 1),
        None if window.len() == MAX_LINE => Some(whole_characters(window)),
        None if all && !data.is_empty() => Some(data.len()),
        None => None,
    }
}

/// The length without a character that is cut in the middle.
fn whole_characters(data: &[u8]) -> usize {
    match std::str::from_utf8(data) {
        Err(e) if e.error_len().is_none() && e.valid_up_to() > 0 => e.valid_up_to(),
        _ => data.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(path: &Path) -> Vec<(String, Stream)> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines()
            .map(|l| {
                let e: Entry<'_> = serde_json::from_str(l).unwrap();
                assert!(time::parse(&e.time).is_some());
                (e.log.into_owned(), e.stream)
            })
            .collect()
    }

    #[test]
    fn lines_are_kept_whole_and_long_ones_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogFile::open(&path).unwrap();
        log.write(Stream::Stdout, b"one\ntw").unwrap();
        log.write(Stream::Stderr, b"err\n").unwrap();
        log.write(Stream::Stdout, b"o\nthree\xff").unwrap();
        let text = |s: &str| s.to_owned();
        let mut want = vec![
            (text("one\n"), Stream::Stdout),
            (text("err\n"), Stream::Stderr),
            (text("two\n"), Stream::Stdout),
        ];
        assert_eq!(logged(&path), want);
        log.finish().unwrap();
        log.finish().unwrap();
        want.push((text("three\u{fffd}"), Stream::Stdout));
        assert_eq!(logged(&path), want);
        // Characters are not cut.
        let long = "ä".repeat(MAX_LINE);
        log.write(Stream::Stdout, b"x").unwrap();
        log.write(Stream::Stdout, long.as_bytes()).unwrap();
        log.write(Stream::Stdout, b"\n").unwrap();
        let all: String = logged(&path)
            .split_off(4)
            .into_iter()
            .map(|e| e.0)
            .collect();
        assert_eq!(all, format!("x{long}\n"));
    }
}
