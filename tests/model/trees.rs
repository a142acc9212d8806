//! Two whole trees: the same text, and inode numbers that stay.

use super::run::Config;
use crate::common::live::Target;
use crate::common::sys::in_user_namespace;
use crate::common::tree::{self, Dump, DumpOptions, Identity};
use rustix::fs::{AtFlags, CWD};
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Kernel overlayfs sets the mtime of a metacopied file when its data follows,
/// that is when it is opened for writing, written or not; now and then also
/// that of a directory above (seed 2135).
pub fn bumped(want: &str, got: &str) -> bool {
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

/// Follows inode numbers: one file keeps its number, two never share one.
pub struct Numbers {
    seen: HashMap<Identity, u64>,
    /// Marks are `user.*` attributes, which only files and directories can have: the
    /// others get a number of their own when they are copied up and looked up again.
    user_marks: bool,
    /// Listings have them, too: not where kernel overlayfs, which finds no lower file
    /// again in a user namespace, took the impure marks of the upper away.
    listed: bool,
}

impl Numbers {
    /// None yet.
    pub fn new(config: &Config) -> Self {
        Numbers {
            seen: HashMap::new(),
            user_marks: in_user_namespace() || config.opts.contains("trusted"),
            listed: !config.userxattr,
        }
    }

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
            let marked = !self.user_marks
                || ["dir ", "file "].iter().any(|kind| {
                    reference
                        .lines
                        .get(path)
                        .is_some_and(|line| line.starts_with(kind))
                });
            if let Some(was) = self.seen.get(id).filter(|was| marked && **was != t.ino) {
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
        self.seen = now;
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

/// The kernel tells neither a FUSE server nor the layers of an overlayfs that
/// a FIFO was written to.
pub fn fifo(want: &str, got: &str) -> bool {
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
        let kept = line.starts_with("file ") || line.starts_with("dir ");
        if kept && bumped(line, other) {
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

/// Dumps both sides and compares lines, d_ino and inode numbers. `server` shows
/// the tree, which `writer` has changed.
pub fn compare_trees(
    reference: &Path,
    target: &Path,
    options: &DumpOptions,
    numbers: &mut Numbers,
    (server, writer): (Target, Target),
) -> Result<(), String> {
    let is_kernel = |t| matches!(t, Target::Overlay | Target::OverlayBare);
    let kernel = is_kernel(server);
    let mut want = tree::dump(reference, options);
    let mut got = tree::dump(target, options);
    if kernel {
        unescape_user(&want, &mut got);
    }
    if is_kernel(writer) {
        adopt_bumped(reference, &mut want, &got);
    }
    if server != Target::Plain {
        adopt_fifos(reference, &mut want, &got);
    }
    if let Some(diff) = tree::compare(&want, &got) {
        return Err(format!("trees differ (- expected, + got):\n{diff}"));
    }
    // Kernel overlayfs shows the upper's number for a hard link in a directory of the upper alone.
    if let Some(odd) = got
        .odd_entries
        .first()
        .filter(|_| !kernel && numbers.listed)
    {
        return Err(format!(
            "directory entry: {odd} ({} such)",
            got.odd_entries.len()
        ));
    }
    numbers.check(&want, &got).map_or(Ok(()), Err)
}
