//! Layers in a temporary directory and a mount of them that always goes away,
//! whatever becomes of the test.

use super::live::{Mounted, Target};
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
use std::sync::Mutex;

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

    /// Remembers the lower layers anew, as they are: the test changed them itself, or
    /// they cannot be changed.
    pub fn seal_as_they_are(&self) {
        let now = self.lowers.iter().map(|l| Fingerprint::take(l)).collect();
        *self.before.lock().unwrap() = Some(now);
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
        let catalog = wanted.then(|| self.catalog(opts));
        let mut m = Mounted::new(target, opts, catalog, dir, self.descriptors);
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

fn run_script(script: &str, dir: &Path, what: &str) {
    let mut sh = Command::new("sh");
    let status = sh.args(["-ec", script, "sh"]).arg(dir).arg(what).status();
    assert!(status.unwrap().success(), "{what}: {script}");
}
