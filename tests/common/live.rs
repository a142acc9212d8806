//! A mount of a fixture's layers, by us or by a peer, and the end of its daemon.

use super::sys;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::mount::UnmountFlags;
use rustix::process::{PidfdFlags, Signal, pidfd_open};
use rustix::time::Timespec;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a mount may stay without a sign of progress.
const PATIENCE: Duration = Duration::from_secs(120);

/// What serves a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Our driver.
    Capasfs,
    /// Kernel overlayfs with redirect_dir, metacopy, index and xino.
    Overlay,
    /// Kernel overlayfs as distributions configure it: none of these.
    OverlayBare,
    /// fuse-overlayfs from the PATH, a target known to be wrong here and there.
    FuseOverlayfs,
    /// A plain directory with the merged content.
    Plain,
}

impl Target {
    /// From `CAPAS_TARGET`; capasfs without it.
    pub fn from_env() -> Self {
        match std::env::var("CAPAS_TARGET").as_deref() {
            Err(_) | Ok("capasfs") => Target::Capasfs,
            Ok("overlay") => Target::Overlay,
            Ok("overlay-bare") => Target::OverlayBare,
            Ok("fuse-overlayfs") => Target::FuseOverlayfs,
            Ok("plain") => Target::Plain,
            Ok(other) => panic!("CAPAS_TARGET={other}"),
        }
    }

    /// Whether it runs as a daemon of ours to be waited for.
    pub fn is_fuse(self) -> bool {
        matches!(self, Target::Capasfs | Target::FuseOverlayfs)
    }
}

/// The program; elsewhere for those who may not come to where it was built.
pub fn capasfs() -> PathBuf {
    std::env::var_os("CAPAS_PROGRAM").map_or(env!("CARGO_BIN_EXE_capasfs").into(), PathBuf::from)
}

/// A live mount.
pub struct Mounted {
    target: Target,
    opts: String,
    /// One more option, which only capasfs understands.
    catalog: Option<String>,
    dir: PathBuf,
    live: bool,
    descriptors: Option<u64>,
    watch: Watch,
}

impl Mounted {
    /// A mount to be made at `dir`, with `catalog` as one more option of ours and a
    /// limit of open files.
    pub fn new(
        target: Target,
        opts: &str,
        catalog: Option<String>,
        dir: PathBuf,
        descriptors: Option<u64>,
    ) -> Self {
        Mounted {
            target,
            opts: opts.to_string(),
            catalog,
            dir,
            live: false,
            descriptors,
            watch: Watch::start(),
        }
    }

    /// The mountpoint.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The path of `name` in the mount.
    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Who serves it.
    pub fn target(&self) -> Target {
        self.target
    }

    /// The daemon's process id, if there is one.
    pub fn daemon(&self) -> Option<u32> {
        daemon_of(&self.dir)
    }

    /// The memory that the daemon has, in MiB; 0 where there is none.
    pub fn daemon_mib(&self) -> u64 {
        self.daemon_status("VmRSS:") / 1024
    }

    /// A number of the daemon's from /proc/PID/status; 0 where there is none.
    pub fn daemon_status(&self, field: &str) -> u64 {
        let status = self
            .daemon()
            .and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")).ok())
            .unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix(field));
        let number = line.and_then(|l| l.split_whitespace().next()?.parse().ok());
        number.unwrap_or(0)
    }

    /// Kills the daemon as nothing can be refused, and takes what is left of
    /// the mount away; [`Mounted::start`] mounts again.
    pub fn kill(&mut self) {
        let daemon = self.handle().unwrap();
        rustix::process::pidfd_send_signal(&daemon, Signal::KILL).unwrap();
        wait_for(&daemon).unwrap();
        self.unmount();
    }

    /// Tells the watchdog that the test goes on.
    pub fn touch(&self) {
        *self.watch.last.lock().unwrap() = Instant::now();
    }

    /// Unmounts, waits for the daemon, and mounts again.
    pub fn remount(&mut self) {
        self.unmount();
        self.start()
            .unwrap_or_else(|e| panic!("second mount of {:?}: {e}", self.target));
    }

    /// The same layers served by `target` from here on.
    pub fn remount_as(&mut self, target: Target) {
        assert!(target != Target::Plain && self.target != Target::Plain);
        self.unmount();
        self.target = target;
        self.start()
            .unwrap_or_else(|e| panic!("mount by {target:?}: {e}"));
    }

    /// Unmounts and waits until the daemon is gone.
    pub fn unmount(&mut self) {
        self.stop().unwrap_or_else(|e| panic!("unmount: {e}"));
    }

    /// Mounts what [`Mounted::unmount`] unmounted, with the program's complaint as the error.
    pub fn start(&mut self) -> Result<(), String> {
        self.touch();
        let dir = self.dir.to_str().unwrap();
        let mut c = match self.target {
            Target::Plain => return Ok(()),
            Target::Capasfs => Command::new(capasfs()),
            Target::FuseOverlayfs => Command::new("fuse-overlayfs"),
            Target::Overlay | Target::OverlayBare => {
                let mut c = Command::new("mount");
                c.args(["-t", "overlay", "overlay"]);
                c
            }
        };
        let opts = match self.target {
            // Which goes with neither redirect_dir nor metacopy.
            Target::Overlay if self.opts.contains("userxattr") => {
                format!("index=on,xino=auto,{}", self.opts)
            }
            Target::Overlay if sys::in_user_namespace() => {
                format!("xino=auto,userxattr,{}", self.opts)
            }
            Target::Overlay if self.opts.contains("upperdir=") => format!(
                "redirect_dir=on,metacopy=on,index=on,xino=auto,{}",
                self.opts
            ),
            Target::Overlay => format!("redirect_dir=follow,metacopy=on,{}", self.opts),
            Target::OverlayBare => {
                format!("redirect_dir=off,metacopy=off,index=off,{}", self.opts)
            }
            Target::Capasfs => {
                let log = self.dir.with_file_name("daemon.log");
                // Options for every mount of a whole test program.
                let more = std::env::var("CAPAS_MOUNT_OPTIONS")
                    .map_or_else(|_| String::new(), |more| format!(",{more}"));
                let catalog = self
                    .catalog
                    .as_deref()
                    .map_or(String::new(), |c| format!(",{c}"));
                format!("{},log={}{more}{catalog}", self.opts, log.display())
            }
            _ => self.opts.clone(),
        };
        c.args(["-o", &opts, dir]);
        if let Some(n) = self.descriptors {
            let mut limited = Command::new("prlimit");
            limited.arg(format!("--nofile={n}")).arg(c.get_program());
            limited.args(c.get_args());
            c = limited;
        }
        let log = self.dir.with_file_name("mount.log");
        let out = std::fs::File::create(&log).map_err(|e| e.to_string())?;
        c.stdin(std::process::Stdio::null());
        c.stdout(out.try_clone().map_err(|e| e.to_string())?);
        c.stderr(out);
        // Kernel overlayfs lets go of its layers some time after umount(2) returned.
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let status = c.status().map_err(|e| format!("cannot run: {e}"))?;
            if status.success() {
                break;
            }
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let settles = !self.target.is_fuse() && said.contains("already mounted");
            if !settles || Instant::now() > deadline {
                return Err(format!("{status}: {}", said.trim()));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        self.live = true;
        self.watch.set(Some(self.dir.clone()));
        Ok(())
    }

    /// The daemon, if there is one.
    fn handle(&self) -> Option<OwnedFd> {
        let pid = rustix::process::Pid::from_raw(self.daemon()? as i32)?;
        pidfd_open(pid, PidfdFlags::empty()).ok()
    }

    fn stop(&mut self) -> Result<(), String> {
        self.touch();
        if !self.live {
            return Ok(());
        }
        let daemon = match self.target.is_fuse() {
            true => self.handle(),
            false => None,
        };
        self.watch.set(None);
        let hung = self.watch.fired.load(Ordering::SeqCst);
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match rustix::mount::unmount(&self.dir, UnmountFlags::empty()) {
                Ok(()) => break,
                Err(rustix::io::Errno::BUSY) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(e) => {
                    let flags = UnmountFlags::DETACH | UnmountFlags::FORCE;
                    let _ = rustix::mount::unmount(&self.dir, flags);
                    self.live = false;
                    return Err(format!("{e}{}", if hung { ", after a hang" } else { "" }));
                }
            }
        }
        self.live = false;
        if let Some(daemon) = daemon {
            wait_for(&daemon)?;
        }
        if hung {
            return Err("the mount hung and was aborted".to_string());
        }
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(e) = self.stop() {
            eprintln!("unmount of {}: {e}", self.dir.display());
            assert!(std::thread::panicking(), "unmount: {e}");
        }
    }
}

/// Waits until the daemon has closed all that it had open. Its arguments, by which
/// [`daemon_of`] knows it, are gone before that. A mount namespace that another test
/// made meanwhile keeps the mount, and so the daemon, until it ends itself.
fn wait_for(daemon: &OwnedFd) -> Result<(), String> {
    let patience = Timespec {
        tv_sec: 600,
        tv_nsec: 0,
    };
    match poll(&mut [PollFd::new(daemon, PollFlags::IN)], Some(&patience)) {
        Ok(0) => Err("the daemon does not end".to_string()),
        Ok(_) => Ok(()),
        Err(e) => Err(format!("cannot wait for the daemon: {e}")),
    }
}

/// A process that has the mountpoint among its arguments.
fn daemon_of(dir: &Path) -> Option<u32> {
    use std::os::unix::ffi::OsStrExt;
    let dir = dir.as_os_str().as_bytes();
    let mut procs = std::fs::read_dir("/proc").unwrap();
    procs.find_map(|e| {
        let pid = e.ok()?.file_name().to_str()?.parse().ok()?;
        let cmd = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        cmd.split(|&b| b == 0).any(|a| a == dir).then_some(pid)
    })
}

/// Aborts a mount that shows no progress, so that nothing waits for ever.
struct Watch {
    last: Arc<Mutex<Instant>>,
    dir: Arc<Mutex<Option<PathBuf>>>,
    fired: Arc<AtomicBool>,
    over: std::sync::mpsc::Sender<()>,
}

impl Watch {
    fn start() -> Self {
        let last = Arc::new(Mutex::new(Instant::now()));
        let dir: Arc<Mutex<Option<PathBuf>>> = Arc::default();
        let fired = Arc::new(AtomicBool::new(false));
        let (over, ended) = std::sync::mpsc::channel::<()>();
        let (l, d, f) = (last.clone(), dir.clone(), fired.clone());
        std::thread::spawn(move || {
            use std::sync::mpsc::RecvTimeoutError::Timeout;
            while ended.recv_timeout(Duration::from_secs(1)) == Err(Timeout) {
                if l.lock().unwrap().elapsed() < PATIENCE {
                    continue;
                }
                if let Some(dir) = d.lock().unwrap().take() {
                    f.store(true, Ordering::SeqCst);
                    eprintln!("WATCHDOG: aborting {}", dir.display());
                    // FORCE ends a FUSE connection: every waiter gets ECONNABORTED.
                    let _ = rustix::mount::unmount(&dir, UnmountFlags::FORCE);
                }
            }
        });
        Watch {
            last,
            dir,
            fired,
            over,
        }
    }

    fn set(&self, dir: Option<PathBuf>) {
        *self.dir.lock().unwrap() = dir;
    }
}
