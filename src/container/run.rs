//! A container runs in the foreground, with our own standard streams.

use super::bundle::find_runtime;
use super::record::{Record, Status};
use super::{Containers, create::now_ns, process};
use crate::store::error::{Context, Error, Result};
use crate::sys::{creds, tree};
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// How soon the end of the runtime is noticed.
const POLL: Duration = Duration::from_millis(100);
/// No log of a runtime is larger that we read.
const MAX_LOG: u64 = 1 << 20;

impl Containers<'_> {
    /// Run a container's command and wait for its end; returns its exit code.
    ///
    /// # Errors
    /// [`Error::Start`] when the command could not be started; others when the
    /// container could not be set up.
    pub fn run(&self, record: &Record, runtime: Option<&Path>) -> Result<u8> {
        let _held = self.hold(record)?;
        let result = find_runtime(runtime).and_then(|runtime| self.run_held(record, &runtime));
        // What the command said is worth more than what is left behind it.
        let cleaned = match record.auto_remove {
            true => self.remove_held(record),
            false => self.unmount(record),
        };
        if let Err(e) = cleaned {
            log::warn!("{e}");
        }
        result
    }

    fn run_held(&self, record: &Record, runtime: &Path) -> Result<u8> {
        let dir = self.dir(&record.id);
        let (pid_file, log) = (dir.join("pid"), dir.join("log"));
        for old in [&pid_file, &log] {
            if let Err(e) = fs::remove_file(old)
                && e.kind() != std::io::ErrorKind::NotFound
            {
                return Err(Error::System(format!("cannot remove {}", old.display()), e));
            }
        }
        let root = self.mount(record)?;
        let bundle = self.write_bundle(record, &root)?;
        let state = state_dir()?;
        let mut command = Command::new(runtime);
        if !cgroups_usable()? {
            log::warn!("cgroups cannot be used here: the container runs without limits");
            command.args(without_cgroups(runtime));
        }
        command
            .arg("--root")
            .arg(&state)
            .arg("--log")
            .arg(&log)
            .args(["--log-format", "json"])
            .arg("run")
            .arg("--bundle")
            .arg(&bundle)
            .arg("--pid-file")
            .arg(&pid_file)
            .arg(&record.id)
            .stderr(Stdio::inherit());
        self.update(&record.id, |r| r.start(now_ns() / 1_000_000_000))?;
        let status = wait(&mut command).context(|| format!("cannot run {}", runtime.display()));
        let started = pid_file.exists();
        let result = match status {
            Ok(status) => outcome(status, started, &log),
            Err(e) => Err(e),
        };
        let code = match &result {
            Ok(code) | Err(Error::Start { code, .. }) => *code,
            Err(_) => 125,
        };
        self.update(&record.id, |r| {
            r.exit(Some(now_ns() / 1_000_000_000), code.into())
        })?;
        // A runtime that was killed could not clean up after itself.
        if Path::new(&state).join(&record.id).exists() {
            let cleaned = Command::new(runtime)
                .arg("--root")
                .arg(&state)
                .args(["delete", "--force", &record.id])
                .stdin(Stdio::null())
                .output();
            if let Err(e) = cleaned {
                log::warn!("cannot clean up after container {}: {e}", record.name);
            }
        }
        result
    }

    /// Write down that a container has ended of which nobody saw the end.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn settle(&self, record: &Record) -> Result<()> {
        if record.state.status == Status::Running && self.status(record).0 == Status::Exited {
            self.update(&record.id, |r| r.exit(None, process::UNKNOWN_EXIT))?;
        }
        Ok(())
    }
}

/// Is there a cgroup hierarchy, and may it be written.
///
/// # Errors
/// When the mount table cannot be read.
pub fn cgroups_usable() -> Result<bool> {
    let table = fs::read_to_string("/proc/self/mountinfo")
        .context(|| "cannot read the mount table".to_owned())?;
    let mut mounts = table.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup").then(|| mount.split(' ').nth(5))
    });
    let writable = |o: Option<&str>| o.is_some_and(|o| o.split(',').any(|o| o == "rw"));
    Ok(mounts.next().is_some_and(writable) && mounts.all(writable))
}

/// What makes a runtime do without cgroups.
fn without_cgroups(runtime: &Path) -> &'static [&'static str] {
    let crun = runtime
        .file_name()
        .is_some_and(|n| n.to_string_lossy().contains("crun"));
    if crun {
        &["--cgroup-manager=disabled"]
    } else {
        // runc ignores cgroups that it cannot write in this mode only.
        &["--rootless=true"]
    }
}

/// Where runtimes keep what they know of running containers; it does not
/// outlive the machine's uptime, as the containers do not.
fn state_dir() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) if creds::effective_uid() != 0 && !dir.is_empty() => PathBuf::from(dir),
        _ => PathBuf::from("/run"),
    };
    let dir = base.join("capas/runtime");
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

/// Wait for the runtime; signals meant for us are passed on to it.
fn wait(command: &mut Command) -> std::io::Result<ExitStatus> {
    let forward = tree::Forward::new();
    let mut child = command.spawn()?;
    loop {
        forward.pass(child.id(), POLL);
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
    }
}

/// The command's exit code, or why it could not be started: docker's 127 for a
/// command that is not there, 126 for one that cannot be executed.
fn outcome(status: ExitStatus, started: bool, log: &Path) -> Result<u8> {
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(255),
        (None, Some(signal)) => return Ok(u8::try_from(128 + signal).unwrap_or(255)),
        (None, None) => 255,
    };
    let text = crate::store::read_file(log, MAX_LOG).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let complaint = text
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|v| v.get("level").and_then(|l| l.as_str()) == Some("error"))
        .filter_map(|v| Some(v.get("msg")?.as_str()?.to_owned()))
        .next_back();
    match complaint {
        Some(why) if code != 0 => {
            let missing = ["executable file not found", "no such file or directory"];
            let forbidden = ["permission denied", "exec format error", "is a directory"];
            let lower = why.to_lowercase();
            let has = |words: &[&str]| words.iter().any(|w| lower.contains(w));
            let code = match (has(&missing), has(&forbidden)) {
                (true, _) => 127,
                (_, true) => 126,
                _ => 125,
            };
            Err(Error::Start {
                code,
                why,
                told: true,
            })
        }
        None if code != 0 && !started => Err(Error::Start {
            code: 125,
            why: "the runtime ended before the container started".to_owned(),
            told: false,
        }),
        _ => Ok(code),
    }
}
