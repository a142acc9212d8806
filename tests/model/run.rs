//! Runs a sequence on a mount and on a plain directory beside it, and compares.

use super::exec::{Executor, MAPS, Outcome, SLOTS, show};
use super::generate::{Generator, Scope};
use super::layers::{Layers, Marks};
use super::op::{Op, Verb};
use super::rng::Rng;
use crate::common::fixture::{Fixture, Mounted, Target};
use crate::common::flatten::{copy_tree, flatten};
use crate::common::tree::{self, Dump, DumpOptions, Identity, Mtime};
use rustix::fs::{AtFlags, CWD, OFlags, StatxFlags};
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Above this size an old read-only descriptor of a lower file may go on
/// showing what it showed when it was opened: such files are served by
/// passthrough, and kernel overlayfs's documentation says the same of its own
/// ("non-standard behavior").
const PASSTHROUGH: u64 = 128 * 1024;

/// What lies deeper than this may refuse a rename or link with EXDEV: a redirect holds the old path, which kernel overlayfs limits to 256 bytes
/// (module parameter `redirect_max`) and any filesystem to the size of an xattr.
const LONG: usize = 120;

/// A random run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Determines the layers and the operations.
    pub seed: u64,
    /// How many operations.
    pub ops: usize,
    /// Who serves the mount.
    pub target: Target,
    /// Further mount options.
    pub opts: String,
    /// Compare the whole trees after so many operations.
    pub check_every: usize,
    /// Mount again after so many.
    pub remount_every: usize,
    /// At every remount, let kernel overlayfs serve the layers in between.
    pub cross: bool,
}

impl Config {
    /// The usual distances.
    pub fn new(seed: u64, ops: usize, target: Target) -> Self {
        Config {
            seed,
            ops,
            target,
            opts: String::new(),
            check_every: 250,
            remount_every: 900,
            cross: false,
        }
    }
}

/// What went wrong, and after what.
#[derive(Debug)]
pub struct Failure {
    /// Of the difference.
    pub what: String,
    /// All operations up to it, with what came of each on both sides.
    pub log: Vec<Op>,
}

/// How much was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Operations.
    pub ops: usize,
    /// Those that succeeded.
    pub ok: usize,
    /// Whole-tree comparisons.
    pub checks: usize,
    /// Mounts after the first.
    pub remounts: usize,
    /// Comparisons with kernel overlayfs on the same layers.
    pub crosses: usize,
    /// Operations that the target may refuse and did.
    pub declined: usize,
}

impl std::ops::AddAssign for Stats {
    fn add_assign(&mut self, o: Stats) {
        self.ops += o.ops;
        self.ok += o.ok;
        self.checks += o.checks;
        self.remounts += o.remounts;
        self.crosses += o.crosses;
        self.declined += o.declined;
    }
}

/// Where the operations come from.
pub enum Source<'a> {
    /// The configuration's seed.
    Seed,
    /// A list.
    List(&'a [Op]),
}

/// Layers and a reference directory with the same content.
pub struct Setup {
    /// The layers.
    pub fixture: Fixture,
    /// The plain directory.
    pub reference: PathBuf,
    /// Times from this second on are `now`.
    pub start: i64,
}

/// The present second, less what the coarse clock of timestamps lags behind.
pub fn now() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs() as i64 - 2)
}

/// Makes the layers of a seed: two to four of them, every third seed with
/// `.wh.` marks (where the target reads them), every third with a layer that
/// kernel overlayfs wrote.
pub fn setup(seed: u64, target: Target, bases: &[&str]) -> Setup {
    let start = now();
    let mut rng = Rng::new(seed ^ 0x5e7);
    let mut fixture = Fixture::new();
    let reads_files = matches!(
        target,
        Target::Capasfs | Target::FuseOverlayfs | Target::Plain
    );
    let variant = seed % 3;
    let marks = if variant == 1 && reads_files {
        Marks::Files
    } else {
        Marks::Kernel
    };
    let by_kernel = variant == 2 && target != Target::FuseOverlayfs && bases == [""];
    let mut layers = Layers::new(seed, marks, !by_kernel);
    let count = 2 + rng.below(3);
    for n in 0..count {
        let dir = fixture.add_lower();
        let size = if n == 0 { 60 } else { 25 };
        let spec: Vec<String> = bases
            .iter()
            .map(|b| layers.layer(size / bases.len() + 3, b))
            .collect();
        tree::build(&dir, &spec.join("\n"));
    }
    let reference = fixture.path().join("reference");
    std::fs::create_dir(&reference).unwrap();
    if by_kernel {
        let top = kernel_layer(seed, &fixture);
        fixture.add_lower_at(top);
        fixture.seal();
        let m = fixture.mount_read_only(Target::Overlay);
        copy_tree(m.path(), &reference, true);
    } else {
        flatten(fixture.lowers(), &reference);
    }
    fixture.seal();
    Setup {
        fixture,
        reference,
        start,
    }
}

/// A layer with redirects and metacopies: the upper of a mount by kernel overlayfs.
fn kernel_layer(seed: u64, fixture: &Fixture) -> PathBuf {
    let (upper, work) = (fixture.path().join("kupper"), fixture.path().join("kwork"));
    std::fs::create_dir(&upper).unwrap();
    std::fs::create_dir(&work).unwrap();
    let opts = format!(
        "{},upperdir={},workdir={},redirect_dir=on,metacopy=on,index=off",
        fixture.lowerdir(),
        upper.display(),
        work.display()
    );
    let aside = fixture.path().join("kmerged");
    std::fs::create_dir(&aside).unwrap();
    let status = std::process::Command::new("mount")
        .args(["-t", "overlay", "overlay", "-o", &opts])
        .arg(&aside)
        .status()
        .unwrap();
    assert!(status.success(), "kernel overlayfs does not mount");
    let scope = Scope {
        no_links: true,
        no_user_marks: true,
        ..Scope::default()
    };
    let mut generator = Generator::new(seed ^ 0x4e7, scope);
    generator.learn(&aside);
    let mut exec = Executor::new(&aside, 0);
    for _ in 0..150 {
        let op = generator.next();
        let outcome = exec.apply(&op);
        generator.note(&op, &outcome);
    }
    exec.close_all();
    // A child that another thread just forked holds copies of the descriptors until its exec.
    while rustix::mount::unmount(&aside, rustix::mount::UnmountFlags::empty()) == Err(Errno::BUSY) {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    upper
}

/// What an old read-only descriptor of a large lower file showed when it was opened.
struct Old {
    file: Identity,
    content: Vec<u8>,
}

/// Two executors and what relates them.
pub struct Pair {
    target: Executor,
    reference: Executor,
    old_slots: Vec<Option<Old>>,
    old_maps: Vec<Option<(Identity, Vec<u8>)>>,
    lower_files: HashSet<Identity>,
    written: HashSet<Identity>,
    /// Of descriptors, and after them of mappings: the file, if it had no
    /// set-id bits when it was opened, or was open like that already.
    no_set_id: [Option<Identity>; SLOTS + MAPS],
    kernel: bool,
    fuse: bool,
    declined: usize,
}

/// A difference between the two, or nothing.
type Verdict = Result<Outcome, String>;

impl Pair {
    /// Of the directory `target` and its model.
    pub fn new(target: &Path, reference: &Path, start: i64, server: Target) -> Self {
        let mut lower_files = HashSet::new();
        for (_, id) in tree::dump(reference, &DumpOptions::default()).inodes {
            lower_files.insert(id);
        }
        Pair {
            target: Executor::new(target, start),
            reference: Executor::new(reference, start),
            old_slots: (0..SLOTS).map(|_| None).collect(),
            old_maps: (0..MAPS).map(|_| None).collect(),
            lower_files,
            written: HashSet::new(),
            no_set_id: [None; SLOTS + MAPS],
            kernel: matches!(server, Target::Overlay | Target::OverlayBare),
            fuse: server.is_fuse(),
            declined: 0,
        }
    }

    /// Closes everything on both sides.
    pub fn close_all(&mut self) {
        self.target.close_all();
        self.reference.close_all();
        self.old_slots.iter_mut().for_each(|s| *s = None);
        self.old_maps.iter_mut().for_each(|s| *s = None);
        self.no_set_id = [None; SLOTS + MAPS];
    }

    /// Does `op` on both and compares what came of it.
    pub fn apply(&mut self, op: &Op) -> Verdict {
        // What a stale descriptor would bring into other files cannot be modelled.
        if op.verb == Verb::CopyRange && self.stale(op.slot).is_some() {
            return Ok(Err(Errno::BADF));
        }
        let was = (op.verb == Verb::Truncate).then(|| identity(&self.reference.at(&op.path)));
        let got = self.target.apply(op);
        if self.may_decline(op, &got) {
            self.declined += 1;
            return Ok(got);
        }
        let want = self.reference.apply(op);
        if want.is_ok() {
            self.remember(op, was.flatten());
            self.adopt_cleared(op);
        }
        if same(op, &want, &got) || self.excused(op, &want, &got) {
            return Ok(want);
        }
        Err(format!("{op}\n  expected {want:?}\n  got      {got:?}"))
    }

    /// Whether the target may refuse what a plain directory does; the reference
    /// then does not do it either.
    fn may_decline(&self, op: &Op, got: &Outcome) -> bool {
        let long = op.path.len().max(op.other.len()) > LONG;
        match (op.verb, got) {
            // A metacopied file with several names keeps its origin's path too.
            (Verb::Rename | Verb::Link, Err(Errno::XDEV)) => long,
            // Kernel overlayfs cannot copy up what no directory holds any more.
            (
                Verb::Fchmod | Verb::Fchown | Verb::Futimens | Verb::Fsetxattr,
                Err(Errno::NOENT | Errno::EXIST),
            ) => {
                let links = |fd| rustix::fs::fstat(fd).map_or(1, |st| st.st_nlink);
                self.kernel && self.reference.slot(op.slot).map_or(1, links) == 0
            }
            _ => false,
        }
    }

    /// A write by root through a descriptor from before the file got its set-id
    /// bits clears them on capasfs, and so does any other one from then until
    /// that is closed: the kernel writes to the backing file with the daemon's
    /// rights, which lack CAP_FSETID on purpose. With it, an unprivileged
    /// writer's old descriptor would leave the bits in place.
    fn adopt_cleared(&self, op: &Op) {
        if !self.fuse || !matches!(op.verb, Verb::Pwrite | Verb::Write) {
            return;
        }
        let (Some(r), Some(t)) = (self.reference.slot(op.slot), self.target.slot(op.slot)) else {
            return;
        };
        // Not what the kernel remembers: it does not know of this change.
        let mode = |fd| {
            let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
            rustix::fs::statx(fd, "", flags, StatxFlags::MODE).map_or(0, |st| st.stx_mode)
        };
        let want = mode(r);
        if want & 0o6000 == 0 || self.no_set_id[op.slot].is_none() {
            return;
        }
        let got = mode(t);
        if want != got && want & !0o6000 == got & !0o6000 {
            let to = rustix::fs::Mode::from_raw_mode(u32::from(got) & 0o7777);
            let _ = rustix::fs::fchmod(r, to);
        }
    }

    fn remember(&mut self, op: &Op, truncated: Option<Identity>) {
        match op.verb {
            Verb::Open => {
                let Some(fd) = self.reference.slot(op.slot) else {
                    return;
                };
                let Some((id, size)) = identity_of_fd(fd) else {
                    return;
                };
                self.old_slots[op.slot] = None;
                let mode = rustix::fs::fstat(fd).map_or(0, |st| st.st_mode);
                let clean = mode & 0o6000 == 0 || self.no_set_id.contains(&Some(id));
                self.no_set_id[op.slot] = clean.then_some(id);
                if op.a as u32 & OFlags::RWMODE.bits() != OFlags::RDONLY.bits() {
                    self.written.insert(id);
                } else if (size > PASSTHROUGH || self.kernel)
                    && self.lower_files.contains(&id)
                    && !self.written.contains(&id)
                {
                    let mut content = vec![0; size as usize];
                    if let Ok(n) = rustix::io::pread(fd, &mut content, 0) {
                        content.truncate(n);
                        self.old_slots[op.slot] = Some(Old { file: id, content });
                    }
                }
            }
            Verb::Close => {
                self.old_slots[op.slot] = None;
                self.no_set_id[op.slot] = None;
            }
            Verb::Truncate => self.written.extend(truncated),
            Verb::WriteFile => self.written.extend(identity(&self.reference.at(&op.path))),
            Verb::Map => {
                let m = op.slot % MAPS;
                self.old_maps[m] = self.mapped_old(op.a as usize);
                self.no_set_id[SLOTS + m] = self.no_set_id[op.a as usize];
            }
            Verb::Unmap => {
                self.old_maps[op.slot % MAPS] = None;
                self.no_set_id[SLOTS + op.slot % MAPS] = None;
            }
            _ => {}
        }
    }

    /// What a mapping made through descriptor `slot` may go on showing.
    fn mapped_old(&self, slot: usize) -> Option<(Identity, Vec<u8>)> {
        let old = self.old_slots.get(slot)?.as_ref()?;
        Some((old.file, old.content.clone()))
    }

    /// What descriptor `slot` may still show although its file was written since.
    fn stale(&self, slot: usize) -> Option<&Old> {
        let old = self.old_slots.get(slot)?.as_ref()?;
        self.written.contains(&old.file).then_some(old)
    }

    /// The documented exceptions: each with its rule, none by ignoring an operation.
    fn excused(&self, op: &Op, want: &Outcome, got: &Outcome) -> bool {
        let (Ok(want), Ok(got)) = (want, got) else {
            return self.excused_errno(op);
        };
        if self.fuse && matches!(op.verb, Verb::Stat | Verb::Fstat) && fifo(want, got) {
            return true;
        }
        if self.kernel && matches!(op.verb, Verb::Stat | Verb::Fstat) {
            // An unlinked lower file that was never copied up still counts its lower name.
            let counted = want.replacen(" nlink=0 ", " nlink=1 ", 1);
            let unlinked = op.verb == Verb::Fstat && counted == *got;
            return unlinked || bumped(want, got) || bumped(&counted, got);
        }
        match op.verb {
            // Old read-only descriptor of a large lower file: what it showed at its opening.
            // (Kernel overlayfs's own descriptors follow the copy-up, its mappings do not.)
            Verb::Pread => {
                !self.kernel
                    && self.stale(op.slot).is_some_and(|o| {
                        *got == show(part(&o.content, op.a as usize, op.b as usize))
                    })
            }
            // Its size and mtime may be those of the lower file, nothing else.
            Verb::Fstat => {
                let fixed = |s: &str| s.split(" size=").next().map(str::to_string);
                self.stale(op.slot).is_some() && fixed(want) == fixed(got)
            }
            Verb::MapRead => self.old_maps[op.slot % MAPS]
                .as_ref()
                .filter(|(id, _)| self.written.contains(id))
                .is_some_and(|(_, content)| {
                    let off = op.a as usize % content.len().max(1);
                    let len = (op.b as usize).min(content.len() - off);
                    *got == show(&content[off..off + len])
                }),
            _ => false,
        }
    }

    fn excused_errno(&self, op: &Op) -> bool {
        let stale_map = || {
            self.old_maps[op.slot % MAPS]
                .as_ref()
                .is_some_and(|(id, _)| self.written.contains(id))
        };
        match op.verb {
            // The mapped lower file is as long as ever, or the other way round.
            Verb::MapRead => stale_map(),
            Verb::Map => self.stale(op.a as usize).is_some(),
            _ => false,
        }
    }
}

/// Kernel overlayfs sets the mtime of a metacopied file when its data follows,
/// that is when it is opened for writing, written or not.
fn bumped(want: &str, got: &str) -> bool {
    let split = |s: &str| {
        s.split_once(" mtime=")
            .map(|(a, b)| (a.to_string(), b.to_string()))
    };
    let (Some((a, m)), Some((b, n))) = (split(want), split(got)) else {
        return false;
    };
    let rest = |s: &str| s.split_once(' ').map(|(_, r)| r.to_string());
    a == b && m != n && n.starts_with("now") && rest(&m) == rest(&n)
}

fn part(content: &[u8], off: usize, len: usize) -> &[u8] {
    let off = off.min(content.len());
    &content[off..(off + len).min(content.len())]
}

fn same(op: &Op, want: &Outcome, got: &Outcome) -> bool {
    if let (Verb::ReaddirUnder, Ok(_), Ok(got)) = (op.verb, want, got) {
        // The order differs, so only the promise counts: nothing lost, nothing doubled.
        return want.as_deref() == Ok(got);
    }
    want == got
}

fn identity(path: &Path) -> Option<Identity> {
    let st = rustix::fs::statx(
        CWD,
        path,
        AtFlags::empty(),
        StatxFlags::BASIC_STATS | StatxFlags::BTIME,
    )
    .ok()?;
    Some(id_of(&st))
}

fn identity_of_fd(fd: &rustix::fd::OwnedFd) -> Option<(Identity, u64)> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let st = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, mask).ok()?;
    let regular = u32::from(st.stx_mode) & libc::S_IFMT == libc::S_IFREG;
    regular.then(|| (id_of(&st), st.stx_size))
}

fn id_of(st: &rustix::fs::Statx) -> Identity {
    Identity {
        ino: st.stx_ino,
        dev: rustix::fs::makedev(st.stx_dev_major, st.stx_dev_minor),
        btime: (st.stx_btime.tv_sec, st.stx_btime.tv_nsec),
    }
}

/// Follows inode numbers: one file keeps its number, two never share one.
#[derive(Default)]
pub struct Numbers(HashMap<Identity, u64>);

impl Numbers {
    /// Takes in two equal trees; what broke the rule, if anything.
    pub fn check(&mut self, reference: &Dump, target: &Dump) -> Option<String> {
        let mut now: HashMap<Identity, u64> = HashMap::new();
        let mut back: HashMap<(u64, u64), Identity> = HashMap::new();
        let mut odd = Vec::new();
        for (path, id) in &reference.inodes {
            let Some(t) = target.inodes.get(path) else {
                continue;
            };
            let name = tree::escape(path);
            if let Some(was) = self.0.get(id).filter(|was| **was != t.ino) {
                odd.push(format!("{name}: st_ino was {was} and is {}", t.ino));
            }
            if let Some(other) = back.insert((t.dev, t.ino), *id).filter(|o| o != id) {
                odd.push(format!(
                    "{name}: st_ino {} is also that of another file ({other:?})",
                    t.ino
                ));
            }
            now.insert(*id, t.ino);
        }
        self.0 = now;
        (!odd.is_empty()).then(|| odd.join("\n"))
    }
}

/// What a caller sets as `user.overlay.*` capasfs stores escaped, also beside
/// `trusted.*` marks, because it believes both families; kernel overlayfs
/// then shows the escaped name.
fn unescape_user(want: &Dump, got: &mut Dump) {
    for (path, line) in &mut got.lines {
        let escaped = |l: &String| l.contains(" user.overlay.overlay.");
        if want.lines.get(path).is_some_and(|other| !escaped(other)) {
            *line = line.replace(" user.overlay.overlay.", " user.overlay.");
        }
    }
}

/// The kernel does not tell a FUSE server that a FIFO was written to.
fn fifo(want: &str, got: &str) -> bool {
    let mode = want.strip_prefix("mode=").and_then(|w| w.split(' ').next());
    // S_IFIFO is the only type of five octal digits that begins with 1.
    let is_fifo = mode.is_some_and(|m| m.len() == 5 && m.starts_with('1'));
    (is_fifo || want.starts_with("fifo ")) && bumped(got, want)
}

/// Gives the reference the times of FIFOs that are not those of their last write.
fn adopt_fifos(reference: &Path, want: &mut Dump, got: &Dump) {
    for (path, line) in &mut want.lines {
        let Some(other) = got.lines.get(path).filter(|other| fifo(line, other)) else {
            continue;
        };
        let time = other.split(" mtime=").nth(1).and_then(|t| {
            let (s, n) = t.split(' ').next()?.split_once('.')?;
            Some(rustix::fs::Timespec {
                tv_sec: s.parse().ok()?,
                tv_nsec: n.parse().ok()?,
            })
        });
        if let Some(t) = time {
            let times = rustix::fs::Timestamps {
                last_access: t,
                last_modification: t,
            };
            let at = reference.join(std::ffi::OsStr::from_bytes(&path[1..]));
            rustix::fs::utimensat(CWD, &at, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
            line.clone_from(other);
        }
    }
}

/// Gives the reference the mtimes of which [`bumped`] tells.
fn adopt_bumped(reference: &Path, want: &mut Dump, got: &Dump) {
    for (path, line) in &mut want.lines {
        let Some(other) = got.lines.get(path) else {
            continue;
        };
        if line.starts_with("file ") && bumped(line, other) {
            let at = reference.join(std::ffi::OsStr::from_bytes(&path[1..]));
            let t = rustix::fs::Timespec {
                tv_sec: 0,
                tv_nsec: rustix::fs::UTIME_NOW,
            };
            let times = rustix::fs::Timestamps {
                last_access: t,
                last_modification: t,
            };
            rustix::fs::utimensat(CWD, &at, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
            line.clone_from(other);
        }
    }
}

/// Dumps both sides and compares lines, d_ino and inode numbers.
pub fn compare_trees(
    reference: &Path,
    target: &Path,
    options: &DumpOptions,
    numbers: &mut Numbers,
    server: Target,
) -> Result<(), String> {
    let kernel = matches!(server, Target::Overlay | Target::OverlayBare);
    let mut want = tree::dump(reference, options);
    let mut got = tree::dump(target, options);
    if kernel {
        unescape_user(&want, &mut got);
        adopt_bumped(reference, &mut want, &got);
    }
    if server.is_fuse() {
        adopt_fifos(reference, &mut want, &got);
    }
    if let Some(diff) = tree::compare(&want, &got) {
        return Err(format!("trees differ (- expected, + got):\n{diff}"));
    }
    // Kernel overlayfs shows the upper's number for a hard link in a directory of the upper alone.
    if let Some(odd) = got.odd_entries.first().filter(|_| !kernel) {
        return Err(format!(
            "directory entry: {odd} ({} such)",
            got.odd_entries.len()
        ));
    }
    numbers.check(&want, &got).map_or(Ok(()), Err)
}

/// The state of one run.
struct Run<'a> {
    config: &'a Config,
    setup: &'a Setup,
    mounted: Mounted,
    pair: Pair,
    numbers: Numbers,
    options: DumpOptions,
    stats: Stats,
    log: Vec<Op>,
}

/// Runs it on new layers.
pub fn run(config: &Config, source: &Source) -> Result<Stats, Failure> {
    let setup = setup(config.seed, config.target, &[""]);
    let fail = |what| Failure {
        what,
        log: Vec::new(),
    };
    let mounted = match config.target {
        Target::Plain => {
            // The plain target is a copy of the reference, made by other means than flatten's.
            let plain = setup.fixture.path().join("plain");
            std::fs::create_dir(&plain).map_err(|e| fail(e.to_string()))?;
            copy_tree(&setup.reference, &plain, true);
            setup.fixture.try_mount(config.target, "").map_err(fail)?
        }
        t => setup.fixture.try_mount(t, &config.opts).map_err(fail)?,
    };
    let pair = Pair::new(mounted.path(), &setup.reference, setup.start, config.target);
    let mut run = Run {
        config,
        setup: &setup,
        mounted,
        pair,
        numbers: Numbers::default(),
        options: DumpOptions {
            mtime: Mtime::NowFrom(setup.start),
            ..DumpOptions::default()
        },
        stats: Stats::default(),
        log: Vec::new(),
    };
    let result = match source {
        Source::Seed => run.generate(),
        Source::List(ops) => run.replay(ops),
    };
    run.stats.declined = run.pair.declined;
    let (stats, log) = (run.stats, std::mem::take(&mut run.log));
    run.pair.close_all();
    drop(run);
    match result {
        Ok(()) => match setup.fixture.lower_changes() {
            Some(c) => Err(Failure {
                what: format!("lower layers changed:\n{c}"),
                log,
            }),
            None => Ok(stats),
        },
        Err(what) => {
            let said = setup.fixture.daemon_log();
            let what = format!("{what}\n{said}");
            Err(Failure { what, log })
        }
    }
}

impl Run<'_> {
    fn generate(&mut self) -> Result<(), String> {
        let scope = Scope {
            no_user_marks: self.config.cross && self.config.target == Target::Overlay,
            ..Scope::default()
        };
        let mut generator = Generator::new(self.config.seed, scope);
        self.event(Verb::Check)?;
        generator.learn(&self.setup.reference);
        for n in 1..=self.config.ops {
            let op = generator.next();
            let outcome = self.step(&op)?;
            generator.note(&op, &outcome);
            if n % self.config.remount_every == 0 {
                self.event(self.anew())?;
                generator.closed_all();
            } else if n % self.config.check_every == 0 {
                self.event(Verb::Check)?;
                generator.learn(&self.setup.reference);
            }
        }
        self.finish()
    }

    fn replay(&mut self, ops: &[Op]) -> Result<(), String> {
        for op in ops {
            if matches!(op.verb, Verb::Check | Verb::Remount | Verb::Cross) {
                self.event(op.verb)?;
            } else {
                let _outcome = self.step(op)?;
            }
        }
        self.finish()
    }

    fn anew(&self) -> Verb {
        if self.config.cross {
            Verb::Cross
        } else {
            Verb::Remount
        }
    }

    fn finish(&mut self) -> Result<(), String> {
        self.event(Verb::Check)?;
        self.event(self.anew())?;
        self.pair.close_all();
        self.mounted.unmount();
        self.work_is_empty()
    }

    fn step(&mut self, op: &Op) -> Result<Outcome, String> {
        self.mounted.touch();
        self.log.push(op.clone());
        self.stats.ops += 1;
        let outcome = self.pair.apply(op)?;
        self.stats.ok += usize::from(outcome.is_ok());
        Ok(outcome)
    }

    /// A comparison or a new mount.
    fn event(&mut self, verb: Verb) -> Result<(), String> {
        self.mounted.touch();
        self.log.push(Op::new(verb));
        match verb {
            Verb::Check => self.check(),
            Verb::Cross => self.cross(),
            _ => {
                self.pair.close_all();
                self.mounted.unmount();
                self.work_is_empty()?;
                self.mounted.start()?;
                self.stats.remounts += 1;
                self.check().map_err(|e| format!("after remount: {e}"))
            }
        }
    }

    fn check(&mut self) -> Result<(), String> {
        self.stats.checks += 1;
        compare_trees(
            &self.setup.reference,
            self.mounted.path(),
            &self.options,
            &mut self.numbers,
            self.config.target,
        )
    }

    /// Kernel overlayfs shows the same on the same layers; then the target again.
    fn cross(&mut self) -> Result<(), String> {
        self.pair.close_all();
        self.mounted.unmount();
        self.work_is_empty()?;
        let own = self.config.target;
        let other = match own {
            Target::Overlay => Target::Capasfs,
            _ => Target::Overlay,
        };
        self.mounted.remount_as(other);
        self.stats.crosses += 1;
        // Each keeps its own inode numbers.
        compare_trees(
            &self.setup.reference,
            self.mounted.path(),
            &self.options,
            &mut Numbers::default(),
            other,
        )
        .map_err(|e| format!("mounted by {other:?}: {e}"))?;
        self.mounted.remount_as(own);
        self.stats.remounts += 1;
        self.check().map_err(|e| format!("after {other:?}: {e}"))
    }

    fn work_is_empty(&self) -> Result<(), String> {
        if self.config.target != Target::Capasfs {
            return Ok(());
        }
        let dir = self.setup.fixture.work().join("work");
        match std::fs::read_dir(&dir) {
            Ok(entries) => {
                let left: Vec<_> = entries.flatten().map(|e| e.file_name()).collect();
                if left.is_empty() {
                    return Ok(());
                }
                Err(format!("left in workdir/work: {left:?}"))
            }
            Err(_) => Ok(()),
        }
    }
}

/// The shortest list that still fails, as far as `budget` reaches, with its failure.
pub fn shrink(config: &Config, ops: Vec<Op>, budget: std::time::Duration) -> (Vec<Op>, String) {
    let end = std::time::Instant::now() + budget;
    let fails = |list: &[Op]| run(config, &Source::List(list)).err().map(|f| f.what);
    let mut best = ops;
    let mut what = match fails(&best) {
        Some(w) => w,
        None => return (best, "does not fail when replayed".to_string()),
    };
    let mut part = best.len().div_ceil(2);
    while part > 0 && std::time::Instant::now() < end {
        let mut shrunk = false;
        let mut at = 0;
        while at < best.len() && std::time::Instant::now() < end {
            let mut list = best.clone();
            list.drain(at..(at + part).min(list.len()));
            if let Some(w) = fails(&list) {
                (best, what, shrunk) = (list, w, true);
            } else {
                at += part;
            }
        }
        if part == 1 && !shrunk {
            break;
        }
        part = if part == 1 { 1 } else { part.div_ceil(2) };
    }
    (best, what)
}
