//! Layers in a temporary directory and a mount of them that always goes away,
//! whatever becomes of the test.

use super::lowers::{Fingerprint, age};
use super::{sys, tree};
use capas::layer::open::OpenDir;
use capas::sys::fs;
use capas::sys::probe::{Features, probe};
use capas::union::{catalog, options::Options, options::RedirectDir};
use rustix::fs::CWD;
use rustix::mount::UnmountFlags;
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

/// Layers and their directories, removed at the end. Dropping it checks that
/// the lower layers are to the bit what they were when the first mount was made.
pub struct Fixture {
    dir: Option<tempfile::TempDir>,
    lowers: Vec<PathBuf>,
    before: Mutex<Option<Vec<Fingerprint>>>,
    descriptors: Option<u64>,
}

impl Fixture {
    /// An empty one on the filesystem of `CAPAS_TEST_DIR`, else of the system's
    /// temporary directory.
    pub fn new() -> Self {
        let base =
            std::env::var_os("CAPAS_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let dir = tempfile::Builder::new()
            .prefix("capas-test-")
            .tempdir_in(base)
            .unwrap();
        for sub in ["upper", "work", "merged"] {
            std::fs::create_dir(dir.path().join(sub)).unwrap();
        }
        Fixture {
            dir: Some(dir),
            lowers: Vec::new(),
            before: Mutex::new(None),
            descriptors: None,
        }
    }

    /// The directory that holds all others.
    pub fn path(&self) -> &Path {
        self.dir.as_ref().unwrap().path()
    }

    /// The upper layer.
    pub fn upper(&self) -> PathBuf {
        self.writable().join("upper")
    }

    /// The workdir.
    pub fn work(&self) -> PathBuf {
        self.writable().join("work")
    }

    /// The lower layers, the bottom one first.
    pub fn lowers(&self) -> &[PathBuf] {
        &self.lowers
    }

    /// Adds a lower layer on top of those before.
    pub fn lower(mut self, spec: &str) -> Self {
        let dir = self.add_lower();
        tree::build(&dir, spec);
        self
    }

    /// Adds an empty lower layer on top of those before, to be filled before the first mount.
    pub fn add_lower(&mut self) -> PathBuf {
        let dir = self.path().join(format!("l{}", self.lowers.len()));
        std::fs::create_dir(&dir).unwrap();
        self.lowers.push(dir.clone());
        dir
    }

    /// Takes a directory from elsewhere as the topmost lower layer.
    pub fn add_lower_at(&mut self, dir: PathBuf) {
        self.lowers.push(dir);
    }

    /// Fills the upper layer before a mount.
    pub fn upper_spec(self, spec: &str) -> Self {
        tree::build(&self.upper(), spec);
        self
    }

    /// `lowerdir=…` with the topmost layer first.
    pub fn lowerdir(&self) -> String {
        let list: Vec<_> = self
            .lowers
            .iter()
            .rev()
            .map(|p| p.to_str().unwrap())
            .collect();
        format!("lowerdir={}", list.join(":"))
    }

    /// Remembers the lower layers as they are now; mounting does this if need be.
    pub fn seal(&self) {
        let mut before = self.before.lock().unwrap();
        if before.is_none() {
            for l in &self.lowers {
                age(l);
            }
            *before = Some(self.lowers.iter().map(|l| Fingerprint::take(l)).collect());
        }
    }

    /// For layers that cannot be walked by path: the test compares them itself.
    pub fn no_lower_check(&mut self) {
        *self.before.lock().unwrap() = Some(Vec::new());
    }

    /// The end of what the daemon logged, if anything.
    pub fn daemon_log(&self) -> String {
        let text = std::fs::read_to_string(self.path().join("daemon.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(12)..];
        if last.is_empty() {
            return String::new();
        }
        format!("the daemon's log ends with:\n    {}\n", last.join("\n    "))
    }

    /// Puts upper and workdir on a filesystem of `size` (as tmpfs takes it) of their own.
    pub fn small_upper(self, size: &str) -> Self {
        self.upper_made_by(r#"mount -t tmpfs -o "size=$2" tmpfs "$1""#, size)
    }

    /// Puts upper and workdir on a filesystem with room, where `size` (as
    /// btrfs-qgroup(8) takes it) is all that may be used of it.
    pub fn upper_with_quota(self, size: &str) -> Self {
        let script = r#"
            truncate -s 256m "$1.img"
            mkfs.btrfs -q "$1.img"
            mount -o loop "$1.img" "$1"
            btrfs quota enable "$1"
            btrfs qgroup limit "$2" "$1"
        "#;
        self.upper_made_by(script, size)
    }

    /// Puts upper and workdir on a disk of their own with a filesystem of that
    /// kind: ext4, xfs or btrfs.
    pub fn upper_on(self, kind: &str) -> Self {
        let script = r#"
            truncate -s 400m "$1.img"
            case $2 in ext4) set -- "$1" ext4 -F ;; esac
            mkfs.$2 -q ${3-} "$1.img"
            mount -o loop "$1.img" "$1"
        "#;
        self.upper_made_by(script, kind)
    }

    /// Puts upper and workdir where nothing has attributes.
    pub fn upper_without_attributes(self) -> Self {
        self.upper_made_by(r#"mount -t ramfs ramfs "$1""#, "any")
    }

    /// Where the filesystem of the upper is mounted, if it has its own.
    pub fn disk(&self) -> PathBuf {
        self.path().join("small")
    }

    /// The power fails: nothing more gets to the disk of [`Fixture::upper_on`],
    /// and every call there fails, until [`Fixture::power_on`].
    pub fn power_off(&self, flags: u32) {
        sys::shut_down(std::fs::File::open(self.disk()).unwrap(), flags).unwrap();
    }

    /// Mounts that disk again. Nothing may use it.
    pub fn power_on(&self) {
        let script = r#"umount "$1"; mount -o loop "$1.img" "$1""#;
        run_script(script, &self.disk(), "");
    }

    /// Mounts that disk's filesystem otherwise, as `mount -o remount` takes it. The
    /// kernel tells a daemon late of what was closed: until then it is busy.
    pub fn remount_disk(&self, how: &str) {
        let script = r#"for n in $(seq 200); do
            mount -o "remount,$2" "$1" 2>"$1.log" && exit
            sleep 0.1
        done; cat "$1.log" >&2; exit 1"#;
        run_script(script, &self.disk(), how);
    }

    /// The script mounts a filesystem at `$1`, `$2` being `what`.
    fn upper_made_by(self, script: &str, what: &str) -> Self {
        let small = self.path().join("small");
        std::fs::create_dir(&small).unwrap();
        run_script(script, &small, what);
        for sub in ["upper", "work"] {
            std::fs::create_dir(small.join(sub)).unwrap();
        }
        rustix::fs::syncfs(std::fs::File::open(&small).unwrap()).unwrap();
        self
    }

    /// Lets daemons have no more than `n` descriptors.
    pub fn descriptors(mut self, n: u64) -> Self {
        self.descriptors = Some(n);
        self
    }

    /// Where upper and workdir lie.
    fn writable(&self) -> PathBuf {
        let small = self.path().join("small");
        if small.exists() {
            small
        } else {
            self.path().to_path_buf()
        }
    }

    /// What changed in the lower layers since the first mount, if anything.
    pub fn lower_changes(&self) -> Option<String> {
        let before = self.before.lock().unwrap();
        let mut out = String::new();
        for (l, was) in self.lowers.iter().zip(before.as_ref()?) {
            if let Some(c) = was.changes(&Fingerprint::take(l)) {
                out.push_str(&format!("{}:\n{c}", l.file_name()?.to_str()?));
            }
        }
        (!out.is_empty()).then_some(out)
    }

    /// Mounts the layers with further options (`""` for none).
    pub fn mount(&self, target: Target, opts: &str) -> Mounted {
        self.try_mount(target, opts)
            .unwrap_or_else(|e| panic!("mount of {target:?} with {opts:?}: {e}"))
    }

    /// As [`Fixture::mount`], with the program's complaint as the error.
    pub fn try_mount(&self, target: Target, opts: &str) -> Result<Mounted, String> {
        let own = [
            format!("upperdir={}", self.upper().to_str().unwrap()),
            format!("workdir={}", self.work().to_str().unwrap()),
        ];
        let mut all = vec![self.lowerdir()];
        all.extend(own);
        if !opts.is_empty() {
            all.push(opts.to_string());
        }
        self.mount_with(target, &all.join(","))
    }

    /// Mounts without an upper layer.
    pub fn mount_read_only(&self, target: Target) -> Mounted {
        self.mount_with(target, &self.lowerdir())
            .unwrap_or_else(|e| panic!("read-only mount of {target:?}: {e}"))
    }

    /// Mounts with exactly these options.
    pub fn mount_with(&self, target: Target, opts: &str) -> Result<Mounted, String> {
        self.seal();
        let dir = if target == Target::Plain {
            let plain = self.path().join("plain");
            if !plain.exists() {
                std::fs::create_dir(&plain).unwrap();
                super::flatten::flatten(&self.lowers, &plain);
            }
            plain
        } else {
            self.path().join("merged")
        };
        let wanted = target == Target::Capasfs
            && std::env::var_os(CATALOG).is_some()
            // Owners are not where a catalog says then.
            && !opts.contains("xattr_permissions=");
        let mut m = Mounted {
            target,
            opts: opts.to_string(),
            catalog: wanted.then(|| self.catalog(opts)),
            dir,
            live: false,
            descriptors: self.descriptors,
            watch: Watch::start(),
        };
        m.start()?;
        let log = self.daemon_log();
        assert!(!log.contains("is not used: "), "{log}");
        Ok(m)
    }
}

/// The variable that asks for mounts with a catalog of their lowers.
const CATALOG: &str = "CAPAS_TEST_CATALOG";

impl Fixture {
    /// `catalog=…` with a catalog of the lowers for these options.
    fn catalog(&self, opts: &str) -> String {
        let lower = self.lowers.iter().rev().map(|path| OpenDir {
            fd: fs::open_dir_path(CWD, path.as_os_str()).unwrap(),
            path: path.clone(),
            idmapped: false,
        });
        let has = |option: &str| opts.split(',').any(|o| o == option);
        let off = has("redirect_dir=nofollow") || has("userxattr");
        let options = Options {
            userxattr: has("userxattr"),
            redirect_dir: match off && !has("redirect_dir=on") {
                true => RedirectDir::NoFollow,
                false => RedirectDir::On,
            },
            ..Options::default()
        };
        // The upper may have no attributes.
        let work = self.disk().join("work");
        let features = match fs::open_dir_path(CWD, work.as_os_str()) {
            Ok(work) => probe(Features::all(), Some(&work)),
            Err(_) => Features::all(),
        };
        let made = catalog::build(lower.collect(), &options, features).unwrap();
        let path = self.path().join("catalog");
        std::fs::write(&path, made).unwrap();
        format!("catalog={}", path.display())
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let changed = self.lower_changes();
        if std::thread::panicking() {
            eprint!("{}", self.daemon_log());
        }
        // A mount that outlived its test would make the removal walk into it.
        let merged = self.path().join("merged");
        let _ = rustix::mount::unmount(&merged, UnmountFlags::DETACH | UnmountFlags::FORCE);
        let _ = rustix::mount::unmount(self.path().join("small"), UnmountFlags::DETACH);
        if std::env::var_os("CAPAS_KEEP").is_some() {
            eprintln!("kept: {}", self.path().display());
            let _ = self.dir.take().map(tempfile::TempDir::keep);
        }
        if let Some(c) = changed {
            eprintln!("LOWER LAYERS CHANGED:\n{c}");
            assert!(std::thread::panicking(), "lower layers changed:\n{c}");
        }
    }
}

/// The program; elsewhere for those who may not come to where it was built.
pub fn capasfs() -> PathBuf {
    std::env::var_os("CAPAS_PROGRAM").map_or(env!("CARGO_BIN_EXE_capasfs").into(), PathBuf::from)
}

fn run_script(script: &str, dir: &Path, what: &str) {
    let mut sh = Command::new("sh");
    let status = sh.args(["-ec", script, "sh"]).arg(dir).arg(what).status();
    assert!(status.unwrap().success(), "{what}: {script}");
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
        let pid = self.daemon().unwrap();
        let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
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

    fn stop(&mut self) -> Result<(), String> {
        self.touch();
        if !self.live {
            return Ok(());
        }
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
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.target.is_fuse() && daemon_of(&self.dir).is_some() {
            if Instant::now() > deadline {
                return Err("the daemon does not end".to_string());
            }
            std::thread::sleep(Duration::from_millis(5));
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
