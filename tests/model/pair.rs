//! The same operation on a mount and on its model, with the exceptions that
//! are known, each as a rule.

use super::exec::{Executor, MAPS, Outcome, SLOTS, show};
use super::op::{Op, Verb};
use super::trees::{bumped, fifo};
use crate::common::live::Target;
use crate::common::sys::in_user_namespace;
use crate::common::tree::{self, DumpOptions, Identity};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, OFlags, StatxFlags};
use rustix::io::Errno;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Above this size an old read-only descriptor of a lower file may go on
/// showing what it showed when it was opened: such files are served by
/// passthrough, and kernel overlayfs's documentation says the same of its own
/// ("non-standard behavior").
const PASSTHROUGH: u64 = 128 * 1024;

/// What lies deeper than this may refuse a rename or link with EXDEV: a redirect holds the old path, which kernel overlayfs limits to 256 bytes
/// (module parameter `redirect_max`) and any filesystem to the size of an xattr.
const LONG: usize = 120;

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
    /// The files that are mapped, in the reference and in the target.
    mapped: [Option<(OwnedFd, OwnedFd)>; MAPS],
    kernel: bool,
    fuse: bool,
    /// Lower directories can be renamed, whatever the length of their path.
    pub redirects: bool,
    /// How many operations the target refused as it may.
    pub declined: usize,
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
            mapped: [const { None }; MAPS],
            kernel: matches!(server, Target::Overlay | Target::OverlayBare),
            fuse: server.is_fuse(),
            redirects: !matches!(server, Target::Overlay | Target::OverlayBare),
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
        self.mapped = [const { None }; MAPS];
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
            // A metacopied file with several names keeps its origin's path too,
            // and what lies below a renamed directory that one's: how long the
            // kernel's redirects get is not to be seen from the operation.
            (Verb::Rename | Verb::Link, Err(Errno::XDEV)) => long || !self.redirects,
            (Verb::LinkFd, Err(Errno::XDEV)) => !self.redirects,
            // Kernel overlayfs cannot copy up what no directory holds any more.
            (
                Verb::Fchmod | Verb::Fchown | Verb::Futimens | Verb::Fsetxattr,
                Err(Errno::NOENT | Errno::EXIST | Errno::NOTDIR | Errno::IO),
            ) => {
                let links = |fd| rustix::fs::fstat(fd).map_or(1, |st| st.st_nlink);
                self.kernel && self.reference.slot(op.slot).map_or(1, links) == 0
            }
            _ => false,
        }
    }

    /// The file that an operation writes to, in the reference and in the target.
    fn writes_to(&self, op: &Op) -> Option<(PathBuf, PathBuf)> {
        let slot = |n: usize| {
            let path = |e: &Executor| Some(PathBuf::from(fd_path(e.slot(n)?)));
            path(&self.reference).zip(path(&self.target))
        };
        match op.verb {
            Verb::Pwrite | Verb::Write => slot(op.slot),
            Verb::WriteFile => Some((self.reference.at(&op.path), self.target.at(&op.path))),
            Verb::MapWrite => self.mapped[op.slot % MAPS]
                .as_ref()
                .map(|(r, t)| (PathBuf::from(fd_path(r)), PathBuf::from(fd_path(t)))),
            _ => None,
        }
    }

    /// What a write takes from a file on capasfs alone, taken from the
    /// reference too.
    ///
    /// A write by root through a descriptor from before the file got its set-id
    /// bits clears them, and so does any other one from then until that is
    /// closed: the kernel writes to the backing file with the daemon's rights,
    /// which lack CAP_FSETID on purpose. With it, an unprivileged writer's old
    /// descriptor would leave the bits in place. A store through a mapping
    /// reaches the backing file as a write, which removes capabilities, and in a
    /// user namespace, where the daemon has no CAP_FSETID, set-id bits.
    fn adopt_cleared(&self, op: &Op) {
        if !self.fuse {
            return;
        }
        let Some((r, t)) = self.writes_to(op) else {
            return;
        };
        if op.verb == Verb::MapWrite {
            if is_capable(&r) && !is_capable(&t) {
                let _ = rustix::fs::removexattr(&r, CAPABILITY);
            }
            if !in_user_namespace() {
                return;
            }
        }
        let kept_open = op.verb == Verb::MapWrite
            || identity(&r).is_some_and(|id| self.no_set_id.contains(&Some(id)));
        if !kept_open {
            return;
        }
        // Not what the kernel remembers: it does not know of this change.
        let mode = |p: &Path| {
            rustix::fs::statx(CWD, p, AtFlags::STATX_FORCE_SYNC, StatxFlags::MODE)
                .map_or(0, |st| st.stx_mode)
        };
        let (want, got) = (mode(&r), mode(&t));
        if want & 0o6000 != 0 && want != got && want & !0o6000 == got & !0o6000 {
            let to = rustix::fs::Mode::from_raw_mode(u32::from(got) & 0o7777);
            let _ = rustix::fs::chmod(&r, to);
        }
    }

    fn remember(&mut self, op: &Op, truncated: Option<Identity>) {
        match op.verb {
            Verb::Open => {
                self.old_slots[op.slot] = None;
                // The slot's former descriptor was open until the new one was there.
                let before = self.no_set_id;
                self.no_set_id[op.slot] = None;
                let Some(fd) = self.reference.slot(op.slot) else {
                    return;
                };
                let Some((id, size)) = identity_of_fd(fd) else {
                    return;
                };
                let mode = rustix::fs::fstat(fd).map_or(0, |st| st.st_mode);
                let clean = mode & 0o6000 == 0 || before.contains(&Some(id));
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
                let dup = |e: &Executor| e.slot(op.a as usize)?.try_clone().ok();
                self.mapped[m] = dup(&self.reference).zip(dup(&self.target));
            }
            Verb::Unmap => {
                self.old_maps[op.slot % MAPS] = None;
                self.no_set_id[SLOTS + op.slot % MAPS] = None;
                self.mapped[op.slot % MAPS] = None;
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
                .zip(self.target.mapped(op.slot))
                .is_some_and(|((_, content), size)| {
                    // As long as the new file, with the old one's pages.
                    if self.kernel {
                        return true;
                    }
                    let off = op.a as usize % size;
                    let len = (op.b as usize).min(size - off);
                    // Behind its end the last page is empty.
                    let mut old = part(content, off, len).to_vec();
                    old.resize(len, 0);
                    *got == show(&old)
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

fn is_capable(path: &Path) -> bool {
    rustix::fs::getxattr(path, CAPABILITY, &mut [0; 64]).is_ok()
}

const CAPABILITY: &str = "security.capability";

/// A path that leads to an open file, whatever became of its name.
fn fd_path(fd: &OwnedFd) -> String {
    use rustix::fd::AsRawFd;
    format!("/proc/self/fd/{}", fd.as_raw_fd())
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

fn identity_of_fd(fd: &OwnedFd) -> Option<(Identity, u64)> {
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
