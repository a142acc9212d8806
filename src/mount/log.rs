//! Where log records go: standard error, the system's log or a file, one line
//! a record.

use super::failure::Failure;
use super::options::LogTarget;
use crate::sys::process::NAME;
use log::{Level, LevelFilter, Log, Metadata, Record};
use parking_lot::Mutex;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::time::{SystemTime, UNIX_EPOCH};

/// The socket of whoever keeps the system's log.
const SYSLOG: &str = "/dev/log";

/// "System daemons" among syslog's facilities, shifted into place.
const FACILITY: u8 = 3 << 3;

/// An opened target.
#[derive(Debug)]
pub enum Sink {
    /// Standard error.
    Stderr,
    /// A connection, if there was anybody; made again when it fails.
    Syslog(Option<UnixDatagram>),
    /// A file.
    File(File),
}

impl Sink {
    /// Opens the target. A log daemon that does not run is no failure: it may
    /// come, and its absence is no reason not to mount.
    pub fn open(target: &LogTarget) -> Result<Sink, Failure> {
        Ok(match target {
            LogTarget::Stderr => Sink::Stderr,
            LogTarget::Syslog => Sink::Syslog(connect()),
            LogTarget::File(path) => {
                // The daemon's umask is 0.
                let mut options = File::options();
                let opened = options.append(true).create(true).mode(0o600).open(path);
                Sink::File(opened.map_err(|error| {
                    Failure::system(format!("log file {}: {error}", path.display()))
                })?)
            }
        })
    }

    /// Whoever reads the log is on their own when it cannot be written.
    fn write(&mut self, level: Level, text: &str) {
        let text = one_line(text);
        let word = level.as_str().to_ascii_lowercase();
        match self {
            Sink::Stderr => {
                let _ = writeln!(std::io::stderr(), "{NAME}: {word}: {text}");
            }
            Sink::File(file) => {
                let (now, pid) = (timestamp(SystemTime::now()), std::process::id());
                // One write, so that lines of several daemons do not mix.
                let _ = file.write_all(format!("{now} {pid} {word}: {text}\n").as_bytes());
            }
            Sink::Syslog(socket) => {
                let priority = FACILITY | severity(level);
                let line = format!("<{priority}>{NAME}[{}]: {text}", std::process::id());
                let send = |s: &UnixDatagram| s.send(line.as_bytes()).is_ok();
                if !socket.as_ref().is_some_and(send) {
                    *socket = connect().filter(send);
                }
            }
        }
    }
}

fn connect() -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    // A full log must not stop the file system.
    socket.set_nonblocking(true).ok()?;
    socket.connect(SYSLOG).ok()?;
    Some(socket)
}

fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// File names may hold anything; what is not printable is written as an escape.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for char in text.chars() {
        match char.is_control() {
            true => line.extend(char.escape_default()),
            false => line.push(char),
        }
    }
    line
}

/// `2026-11-23T19:40:05.123Z`.
fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (day, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Days are counted from 1 March of the year 0, so that the leap day is
    // the last of its year; 400 years have 146,097 days.
    let day = day + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (year, month) = match month {
        0..10 => (era * 400 + year, month + 3),
        _ => (era * 400 + year + 1, month - 9),
    };
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let milli = since.subsec_millis();
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

struct Logger {
    level: LevelFilter,
    sink: Mutex<Sink>,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // fuser's own records are the requests, at debug.
        metadata.level() <= self.level
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = record.args().to_string();
        // fuser warns of every request that is answered with ENOSYS, which
        // for us is an answer like others.
        let level = match text.starts_with("[Not Implemented]") {
            true => Level::Debug,
            false => record.level(),
        };
        if level > self.level {
            return;
        }
        let mut sink = self.sink.lock();
        sink.write(level, &text);
        // Until the mount is ready the caller listens too; from then on
        // standard error is /dev/null.
        if level <= Level::Warn && !matches!(*sink, Sink::Stderr) {
            Sink::Stderr.write(level, &text);
        }
    }

    fn flush(&self) {}
}

/// From now on records and panics go to `sink`. Call it once.
pub fn start(sink: Sink, level: LevelFilter) {
    let logger = Box::new(Logger {
        level,
        sink: Mutex::new(sink),
    });
    if log::set_boxed_logger(logger).is_ok() {
        log::set_max_level(level);
        std::panic::set_hook(Box::new(|info| log::error!("{info}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn timestamps() {
        for (second, want) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(second)), want);
        }
    }

    #[test]
    fn a_record_is_one_line_in_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut sink = Sink::open(&LogTarget::File(path.clone())).unwrap();
        sink.write(Level::Warn, "unlink a\nb\u{1b}[1m ü: no space");
        sink.write(Level::Error, "second");
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(
            lines[0].ends_with(r" warn: unlink a\nb\u{1b}[1m ü: no space"),
            "{text}"
        );
        assert!(lines[1].ends_with(" error: second"), "{text}");
    }

    #[test]
    fn a_log_file_that_cannot_be_opened_is_said() {
        let failure = Sink::open(&LogTarget::File("/nonexistent/log".into())).unwrap_err();
        assert_eq!(failure.code, 2);
        assert!(
            failure.text.starts_with("log file /nonexistent/log: "),
            "{failure}"
        );
    }
}
