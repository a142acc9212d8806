//! The OCI runtime: found, called, and what its complaints mean.

use super::{cgroup, rootfs};
use crate::store::error::{Context, Error, Result, show};
use crate::store::remove_if_there;
use crate::sys::creds;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// No log of a runtime is larger that we read.
const MAX_LOG: u64 = 1 << 20;
/// What a runtime is called with: it writes there what went wrong.
const LOG: &str = "log";

/// How long a process may take to become the command.
const BECOMES: Duration = Duration::from_secs(10);

/// Where the runtime hands a terminal over, in the directory it runs in.
pub const CONSOLE: &str = "console";
/// Where it writes the number of the process that it started.
pub const PID: &str = "pid";

/// A runtime that is there.
#[derive(Clone, Debug)]
pub struct Runtime {
    program: PathBuf,
}

impl Runtime {
    /// The one that was chosen, or else the first that is found.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(chosen: Option<&Path>) -> Result<Runtime> {
        let names: &[&Path] = match chosen {
            Some(name) => &[name],
            None => &[Path::new("runc"), Path::new("crun"), Path::new("youki")],
        };
        let found = names.iter().find_map(|name| rootfs::find_program(name));
        match (found, chosen) {
            // It is called from other directories than this one.
            (Some(program), _) => Ok(Runtime {
                program: std::path::absolute(&program)
                    .context(|| format!("cannot find {}", program.display()))?,
            }),
            (None, Some(name)) => Err(Error::NotFound(format!(
                "the runtime {} is not there",
                name.display()
            ))),
            (None, None) => Err(Error::NotFound(
                "no OCI runtime is there: install runc, crun or youki, or name one with --runtime"
                    .to_owned(),
            )),
        }
    }

    /// One that was found before.
    pub fn at(program: &Path) -> Runtime {
        Runtime {
            program: program.to_owned(),
        }
    }

    /// Where it is.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// A call of it, with all that comes before the command.
    fn call(&self) -> Result<Command> {
        let mut command = Command::new(&self.program);
        // Words of whoever has started us, which it would take for its own.
        for word in [
            "NOTIFY_SOCKET",
            "LISTEN_FDS",
            "LISTEN_PID",
            "LISTEN_FDNAMES",
        ] {
            command.env_remove(word);
        }
        if !cgroup::usable()? {
            command.args(without_cgroups(&self.program));
        }
        command.arg("--root").arg(state_dir()?);
        Ok(command)
    }

    /// Have it start something with these arguments, working in `dir`, where it
    /// leaves its log and the number of the process. `adjust` gives the streams;
    /// those of the caller are closed to it otherwise.
    ///
    /// # Errors
    /// [`Error::Start`] when it could not.
    pub fn start(
        &self,
        dir: &Path,
        args: &[&OsStr],
        adjust: impl FnOnce(&mut Command),
    ) -> Result<u32> {
        for old in [LOG, PID] {
            remove_if_there(&dir.join(old)).context(|| format!("cannot remove an old {old}"))?;
        }
        let mut command = self.call()?;
        command
            .current_dir(dir)
            .args(["--log", LOG, "--log-format", "json"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        adjust(&mut command);
        let status = command
            .status()
            .context(|| format!("cannot run {}", self.program.display()))?;
        // The streams are the command's; nobody else may keep them open.
        drop(command);
        let pid = fs::read_to_string(dir.join(PID))
            .ok()
            .and_then(|text| text.trim().parse().ok());
        match pid {
            Some(pid) if status.success() => {
                until_command(pid);
                Ok(pid)
            }
            _ => Err(complaint(&dir.join(LOG))),
        }
    }

    /// Forget a container, and kill what is left of it. Fine where it is not
    /// known: then its control groups may be there all the same, as they are
    /// made first.
    ///
    /// # Errors
    /// When it cannot be run, or something stays.
    pub fn delete(&self, id: &str) -> Result<()> {
        let forgotten = match state_dir()?.join(id).exists() {
            true => {
                let delete = || self.do_to(&["delete", "--force"], id, "clean up");
                // Who was killed meanwhile has left the rest, of which nobody else knows
                // once it is written down that the container has ended.
                delete().or_else(|_| delete())
            }
            false => Ok(()),
        };
        forgotten.and(cgroup::remove(id))
    }

    /// Let the processes of a container stand still.
    ///
    /// # Errors
    /// When it cannot be had.
    pub fn pause(&self, id: &str) -> Result<()> {
        self.do_to(&["pause"], id, "pause the container")
    }

    /// Let them go on.
    ///
    /// # Errors
    /// When it cannot be had.
    pub fn resume(&self, id: &str) -> Result<()> {
        self.do_to(&["resume"], id, "let the container go on")
    }

    fn do_to(&self, args: &[&str], id: &str, what: &str) -> Result<()> {
        let output = self
            .call()?
            .args(args)
            .arg(id)
            .stdin(Stdio::null())
            .output()
            .context(|| format!("cannot run {}", self.program.display()))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(Error::Conflict(format!(
                "the runtime cannot {what}: {}",
                show(output.stderr.trim_ascii())
            ))),
        }
    }
}

/// Wait until a process that was told to become the command has done so: until
/// then signals are its runtime's, which ends by them as no command would.
fn until_command(pid: u32) {
    let begun = Instant::now();
    while begun.elapsed() < BECOMES {
        // What runc and youki call themselves there.
        let name = fs::read_to_string(format!("/proc/{pid}/comm"));
        if !name.is_ok_and(|name| name.contains(":[2:INIT]")) {
            return;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
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

/// Why a command could not be started, [`Error::Start`] if the runtime said so:
/// docker's 127 for one that is not there, 126 for one that cannot be executed.
fn complaint(log: &Path) -> Error {
    let text = crate::store::read_file(log, MAX_LOG).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let why = text
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|v| v.get("level").and_then(|l| l.as_str()) == Some("error"))
        .filter_map(|v| Some(v.get("msg")?.as_str()?.to_owned()))
        .next_back();
    let Some(why) = why else {
        return Error::Conflict("the runtime ended before the command started".to_owned());
    };
    let code = code(&why);
    let why = show(why.as_bytes());
    Error::Start { code, why }
}

/// How runtimes begin to say that it was the command which could not be run;
/// else what is missing or forbidden is something else of the container's.
const OF_THE_COMMAND: [&str; 5] = [
    "exec: \"",
    "exec /",
    "exec user process",
    "exec container process",
    "executable",
];

fn code(why: &str) -> u8 {
    let why = why.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|w| why.contains(w));
    // These name paths, in which any of the words may be.
    if has(&["error mounting", "mkdir ", "chdir to cwd"]) || !has(&OF_THE_COMMAND) {
        return 125;
    }
    let missing = ["not found", "no such file or directory"];
    let forbidden = ["permission denied", "exec format error", "is a directory"];
    match (has(&missing), has(&forbidden)) {
        (true, _) => 127,
        (_, true) => 126,
        _ => 125,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_have_dockers_codes() {
        for (why, expected) in [
            ("exec: \"x\": executable file not found in $PATH", 127),
            ("exec: \"/x\": stat /x: no such file or directory", 127),
            ("exec /x.sh: no such file or directory", 127),
            ("executable file `x` not found in $PATH", 127),
            ("exec: \"/etc\": permission denied", 126),
            ("exec /x: exec format error", 126),
            ("open executable: permission denied", 126),
            ("exec container process `/x`: Exec format error", 126),
            ("open /run/x/exec.fifo: no such file or directory", 125),
            (
                "exec failed: lstat /proc/1/ns: no such file or directory",
                125,
            ),
            ("open /sys/fs/cgroup/x: permission denied", 125),
            ("error mounting \"/a\": no such file or directory", 125),
            ("cannot allocate memory", 125),
        ] {
            assert_eq!(code(why), expected, "{why}");
        }
    }

    #[test]
    fn a_chosen_runtime_must_be_there() {
        let e = Runtime::find(Some(Path::new("no-such-runtime"))).unwrap_err();
        assert!(e.to_string().contains("is not there"), "{e}");
        let sh = Runtime::find(Some(Path::new("sh"))).unwrap();
        assert!(sh.program().is_absolute());
    }
}
