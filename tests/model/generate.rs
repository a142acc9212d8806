//! Chooses operations that mostly apply to what is there.

use super::exec::{MAPS, Outcome, SLOTS};
use super::layers::odd_names;
use super::op::{Op, Verb};
use super::rng::Rng;
use crate::common::sys::{self, in_user_namespace};
use crate::common::tree::escape;
use rustix::fs::OFlags;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Where operations may go.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Only below this directory, itself excluded; everywhere if empty.
    pub base: Vec<u8>,
    /// A directory shared with others, where own names end in `suffix`.
    pub shared: Option<Vec<u8>>,
    /// See `shared`.
    pub suffix: String,
    /// Names with several links are left alone and none are made.
    pub no_links: bool,
    /// No attributes `user.overlay.*`: kernel overlayfs with `trusted.*` marks
    /// stores them as they are, and capasfs believes both families.
    pub no_user_marks: bool,
}

/// The generator: names it believes to exist, and what is held open.
pub struct Generator {
    rng: Rng,
    scope: Scope,
    paths: BTreeMap<Vec<u8>, char>,
    open: [bool; SLOTS],
    maps: [bool; MAPS],
}

impl Generator {
    /// One that chooses as `seed` says.
    pub fn new(seed: u64, scope: Scope) -> Self {
        Generator {
            rng: Rng::new(seed),
            scope,
            paths: BTreeMap::new(),
            open: [false; SLOTS],
            maps: [false; MAPS],
        }
    }

    /// Learns the names below `root` anew.
    pub fn learn(&mut self, root: &Path) {
        self.paths.clear();
        let base = self.scope.base.clone();
        if let Some(shared) = self.scope.shared.clone() {
            self.paths.insert(shared, 'S');
        }
        let at = root.join(std::ffi::OsStr::from_bytes(&base));
        self.walk(&at, &base);
        self.paths.insert(base, 'R');
    }

    fn walk(&mut self, at: &Path, path: &[u8]) {
        for e in sys::list(at).unwrap_or_default() {
            let child = join(path, e.name.as_bytes());
            if e.kind == 'd' {
                self.walk(&at.join(&e.name), &child);
            }
            self.paths.insert(child, e.kind);
        }
    }

    /// All descriptors were closed.
    pub fn closed_all(&mut self) {
        self.open = [false; SLOTS];
        self.maps = [false; MAPS];
    }

    fn dir(&mut self) -> Vec<u8> {
        let dirs: Vec<&Vec<u8>> = self
            .paths
            .iter()
            .filter(|(p, k)| matches!(k, 'd' | 'R' | 'S') && p.len() < 2500)
            .map(|(p, _)| p)
            .collect();
        self.rng.pick(&dirs).map(|p| p.to_vec()).unwrap_or_default()
    }

    /// An existing name; of a kind in `kinds` if there is one.
    fn known(&mut self, kinds: &str) -> Vec<u8> {
        if self.rng.chance(3) {
            return self.fresh();
        }
        let some: Vec<&Vec<u8>> = self
            .paths
            .iter()
            .filter(|(_, k)| **k != 'R' && **k != 'S' && (kinds.is_empty() || kinds.contains(**k)))
            .map(|(p, _)| p)
            .collect();
        match self.rng.pick(&some) {
            Some(p) => p.to_vec(),
            None => self.fresh(),
        }
    }

    /// A name that probably does not exist.
    fn fresh(&mut self) -> Vec<u8> {
        let parent = if self.rng.chance(2) {
            self.known("-l")
        } else {
            self.dir()
        };
        let shared = self.scope.shared.as_ref() == Some(&parent);
        let mut name = match self.rng.below(60) {
            n @ 0..4 => odd_names()[n].clone(),
            4 => vec![b'M'; 256],
            n => format!("n{}", n % 24).into_bytes(),
        };
        if shared {
            name.truncate(200);
            name.extend_from_slice(self.scope.suffix.as_bytes());
        }
        join(&parent, &name)
    }

    /// An existing name, or sometimes a fresh one.
    fn target(&mut self) -> Vec<u8> {
        if self.rng.chance(55) {
            self.fresh()
        } else {
            self.known("")
        }
    }

    fn held(&mut self) -> Option<usize> {
        let held: Vec<usize> = (0..SLOTS).filter(|s| self.open[*s]).collect();
        self.rng.pick(&held).copied()
    }

    fn offset(&mut self) -> i64 {
        match self.rng.below(6) {
            0 | 1 => 0,
            2 => self.rng.below(200) as i64,
            3 => 4096 * self.rng.below(40) as i64,
            _ => self.rng.below(300_000) as i64,
        }
    }

    fn length(&mut self) -> i64 {
        match self.rng.below(8) {
            0 => 1,
            1..=5 => 1 + self.rng.below(6000) as i64,
            _ => 1 + self.rng.below(120_000) as i64,
        }
    }

    fn mode(&mut self) -> i64 {
        i64::from(self.rng.one(&[
            0o644, 0o600, 0o755, 0o700, 0o4755, 0o2755, 0o1777, 0, 0o444, 0o2750, 0o6777, 0o711,
        ]))
    }

    fn xattr_name(&mut self) -> String {
        let name = self
            .rng
            .one(&[
                "user.a",
                "user.b",
                "user.\\xc3\\xa4\\xff",
                "trusted.t",
                "trusted.overlay.opaque",
                "trusted.overlay.redirect",
                "trusted.overlay.metacopy",
                "trusted.overlay.overlay.origin",
                "user.overlay.opaque",
                "user.overlay.whiteout",
                "security.foo",
            ])
            .to_string();
        // Nobody may have it in a user namespace; who says so first differs.
        if name == "security.foo" && in_user_namespace() {
            return "user.c".to_string();
        }
        if self.scope.no_user_marks && name.starts_with("user.overlay.") {
            return "user.c".to_string();
        }
        name
    }

    /// The next operation.
    pub fn next(&mut self) -> Op {
        let crowd = self.paths.len();
        let (grow, shrink) = match crowd {
            0..60 => (3, 1),
            60..220 => (2, 2),
            _ => (1, 5),
        };
        let weights = [
            ("open", 8),
            ("io", 26),
            ("map", 5),
            ("create", 5 * grow),
            ("mkdir", 3 * grow),
            ("remove", 4 * shrink),
            ("rename", 12),
            ("link", 2 * grow),
            ("attr", 14),
            ("xattr", 8),
            ("look", 8),
        ];
        let w: Vec<usize> = weights.iter().map(|(_, w)| *w).collect();
        match weights[self.rng.weighted(&w)].0 {
            "open" => self.opening(),
            "io" => self.io(),
            "map" => self.mapping(),
            "create" => self.creating(),
            "mkdir" => {
                let mut op = Op::new(Verb::Mkdir);
                op.path = self.fresh();
                op.a = self.mode();
                op
            }
            "remove" => self.removing(),
            "rename" => self.renaming(),
            "link" => self.linking(),
            "attr" => self.attributes(),
            "xattr" => self.xattrs(),
            _ => self.looking(),
        }
    }

    fn opening(&mut self) -> Op {
        let mut op = Op::new(Verb::Open);
        op.slot = self.rng.below(SLOTS);
        op.path = if self.rng.chance(90) {
            self.known("-")
        } else {
            self.target()
        };
        let flags = self.rng.one(&[
            OFlags::RDONLY,
            OFlags::RDONLY,
            OFlags::RDONLY,
            OFlags::RDWR,
            OFlags::RDWR,
            OFlags::RDWR.union(OFlags::CREATE),
            OFlags::WRONLY.union(OFlags::APPEND),
            OFlags::RDWR.union(OFlags::APPEND),
            OFlags::RDWR.union(OFlags::TRUNC),
            OFlags::RDWR.union(OFlags::CREATE).union(OFlags::EXCL),
            OFlags::RDONLY.union(OFlags::NOFOLLOW),
            OFlags::RDONLY.union(OFlags::DIRECTORY),
        ]);
        op.a = i64::from(flags.bits());
        op.b = 0o640;
        op
    }

    fn io(&mut self) -> Op {
        let Some(slot) = self.held() else {
            return self.opening();
        };
        let verb = [
            (Verb::Pread, 30),
            (Verb::Pwrite, 24),
            (Verb::Write, 12),
            (Verb::Ftruncate, 6),
            (Verb::Fallocate, 5),
            (Verb::Fsync, 3),
            (Verb::CopyRange, 4),
            (Verb::Close, 10),
            (Verb::Fstat, 12),
        ];
        let w: Vec<usize> = verb.iter().map(|(_, w)| *w).collect();
        let mut op = Op::new(verb[self.rng.weighted(&w)].0);
        op.slot = slot;
        op.a = self.offset();
        op.b = self.length();
        match op.verb {
            Verb::CopyRange => op.text = self.rng.below(SLOTS).to_string(),
            // Plain, KEEP_SIZE, PUNCH_HOLE with KEEP_SIZE, ZERO_RANGE.
            Verb::Fallocate => op.text = self.rng.one(&["0", "1", "3", "16"]).to_string(),
            Verb::Close | Verb::Fsync | Verb::Fstat => (op.a, op.b) = (0, 0),
            Verb::Ftruncate => op.b = 0,
            _ => {}
        }
        op
    }

    fn mapping(&mut self) -> Op {
        let m = self.rng.below(MAPS);
        let mut op = Op::new(Verb::Map);
        op.slot = m;
        if !self.maps[m] {
            if let Some(s) = self.held() {
                op.a = s as i64;
                op.b = self.rng.below(2) as i64;
            }
            return op;
        }
        op.verb = self
            .rng
            .one(&[Verb::MapRead, Verb::MapRead, Verb::MapWrite, Verb::Unmap]);
        if op.verb != Verb::Unmap {
            op.a = self.offset();
            op.b = self.length();
        }
        op
    }

    fn creating(&mut self) -> Op {
        let mut op = Op::new(Verb::WriteFile);
        match self.rng.below(10) {
            0..6 => {
                op.path = self.target();
                op.a = self.rng.below(1000) as i64;
                op.b = self.length();
            }
            6 | 7 => {
                op.verb = Verb::Symlink;
                op.path = self.target();
                op.other = self.rng.one(&["n1", "n2/n3", "n4", "nowhere"]).into();
            }
            _ => {
                op.verb = Verb::Mknod;
                op.path = self.target();
                let (kind, dev) = self.rng.one(&[
                    (libc::S_IFIFO, 0),
                    (libc::S_IFCHR, 0x103),
                    (libc::S_IFSOCK, 0),
                    (libc::S_IFREG, 0),
                    (libc::S_IFBLK, 0x0f_0007),
                ]);
                op.a = i64::from(kind) | (self.mode() & 0o777);
                op.b = dev;
            }
        }
        op
    }

    fn removing(&mut self) -> Op {
        let (verb, kinds) = self.rng.one(&[
            (Verb::Unlink, "-lcbps"),
            (Verb::Unlink, "-lcbps"),
            (Verb::Unlink, "-lcbps"),
            (Verb::Unlink, ""),
            (Verb::Rmdir, "d"),
            (Verb::Rmdir, "d"),
            (Verb::RmTree, "d"),
        ]);
        let mut op = Op::new(verb);
        op.path = self.known(kinds);
        op
    }

    fn renaming(&mut self) -> Op {
        let mut op = Op::new(Verb::Rename);
        let kinds = self.rng.one(&["d", ""]);
        op.path = self.known(kinds);
        op.other = self.target();
        // Plain, NOREPLACE, EXCHANGE.
        op.a = self.rng.one(&[0, 0, 0, 0, 1, 2, 2]);
        if op.a == 2 {
            op.other = self.known("");
        }
        op
    }

    fn linking(&mut self) -> Op {
        if self.scope.no_links {
            return self.looking();
        }
        let mut op = Op::new(Verb::Link);
        op.path = self.known("-lcps");
        op.other = self.target();
        if self.rng.chance(20)
            && let Some(s) = self.held()
        {
            op.verb = Verb::LinkFd;
            op.slot = s;
            op.path = std::mem::take(&mut op.other);
        }
        op
    }

    fn attributes(&mut self) -> Op {
        let verb = self.rng.one(&[
            Verb::Chmod,
            Verb::Chown,
            Verb::Utimens,
            Verb::Truncate,
            Verb::Fchmod,
            Verb::Fchown,
            Verb::Futimens,
        ]);
        let mut op = Op::new(verb);
        if matches!(verb, Verb::Fchmod | Verb::Fchown | Verb::Futimens) {
            let Some(s) = self.held() else {
                return self.opening();
            };
            op.slot = s;
        } else {
            op.path = self.known(if verb == Verb::Truncate { "-" } else { "" });
        }
        match verb {
            Verb::Chmod | Verb::Fchmod => op.a = self.mode(),
            Verb::Chown | Verb::Fchown => {
                op.a = self.rng.one(&[0, 1000, 65_534, -1]);
                op.b = self.rng.one(&[0, 1000, 50, -1]);
            }
            Verb::Truncate => op.a = self.offset(),
            _ => {
                // Before 1970, after 2038, and nothing that a run could reach.
                op.a = self.rng.one(&[
                    -1_000_000_000,
                    1,
                    1_234_567_890,
                    5_000_000_000,
                    4_294_967_296,
                ]);
                op.b = self.rng.one(&[0, 1, 999_999_999, 123_456_789]);
            }
        }
        op
    }

    fn xattrs(&mut self) -> Op {
        let verb = self.rng.one(&[
            Verb::Setxattr,
            Verb::Setxattr,
            Verb::Setxattr,
            Verb::Getxattr,
            Verb::Removexattr,
            Verb::Removexattr,
            Verb::Listxattr,
            Verb::Fsetxattr,
            Verb::Flistxattr,
            Verb::SetAcl,
            Verb::SetAcl,
        ]);
        let mut op = Op::new(verb);
        if matches!(verb, Verb::Fsetxattr | Verb::Flistxattr) {
            let Some(s) = self.held() else {
                return self.opening();
            };
            op.slot = s;
        } else {
            op.path = self.known("");
        }
        match verb {
            Verb::SetAcl => {
                let text = self.rng.one(&[
                    "access=u::rwx,u:1000:rw-,g::r-x,m::rwx,o::---",
                    "access=u::rw-,g::r--,o::r--",
                    "default=u::rwx,u:5:r-x,g::r-x,m::r-x,o::---",
                    "default=u::rwx,g::rwx,g:50:rwx,m::rwx,o::r-x",
                ]);
                op.text = text.to_string();
            }
            Verb::Setxattr | Verb::Fsetxattr => {
                let value = self.rng.one(&["y", "\\x00\\xff", "", "other/place", "v"]);
                op.text = format!("{}={value}", self.xattr_name());
                // CREATE and REPLACE now and then; long values too.
                op.a = self.rng.one(&[0, 0, 0, 1, 2]);
                if self.rng.chance(10) {
                    op.b = 1 + self.rng.below(1500) as i64;
                }
            }
            _ => op.text = self.xattr_name(),
        }
        op
    }

    fn looking(&mut self) -> Op {
        let verb = self.rng.one(&[
            Verb::Stat,
            Verb::Stat,
            Verb::Readlink,
            Verb::Readdir,
            Verb::ReaddirUnder,
        ]);
        let mut op = Op::new(verb);
        op.path = match verb {
            Verb::Stat => self.known(""),
            Verb::Readlink => self.known("l"),
            _ => self.known("d"),
        };
        if verb == Verb::ReaddirUnder {
            let here: Vec<Vec<u8>> = self
                .paths
                .iter()
                .filter(|(p, k)| **k != 'd' && parent(p) == op.path.as_slice())
                .map(|(p, _)| p[op.path.len() + 1..].to_vec())
                .collect();
            let mut victims = Vec::new();
            for name in here {
                if self.rng.chance(30) {
                    victims.push(escape(&name));
                }
            }
            let news: Vec<String> = (0..self.rng.below(4))
                .map(|_| format!("n{}", self.rng.below(24)))
                .collect();
            op.text = format!("{};{}", victims.join(","), news.join(","));
        }
        op
    }

    /// Learns from what an operation did.
    pub fn note(&mut self, op: &Op, outcome: &Outcome) {
        if outcome.is_err() {
            return;
        }
        match op.verb {
            Verb::Open => {
                self.open[op.slot] = true;
                if op.a & i64::from(OFlags::CREATE.bits()) != 0 {
                    self.paths.entry(op.path.clone()).or_insert('-');
                }
            }
            Verb::Close => self.open[op.slot] = false,
            Verb::Map => self.maps[op.slot % MAPS] = true,
            Verb::Unmap => self.maps[op.slot % MAPS] = false,
            Verb::WriteFile | Verb::LinkFd => {
                self.paths.entry(op.path.clone()).or_insert('-');
            }
            Verb::Mkdir => {
                self.paths.insert(op.path.clone(), 'd');
            }
            Verb::Symlink => {
                self.paths.insert(op.path.clone(), 'l');
            }
            Verb::Mknod => {
                self.paths.insert(op.path.clone(), 'p');
            }
            Verb::Link => {
                let kind = self.paths.get(&op.path).copied().unwrap_or('-');
                self.paths.insert(op.other.clone(), kind);
            }
            Verb::Rmdir | Verb::Unlink | Verb::RmTree => {
                self.take(&op.path);
            }
            Verb::Rename => {
                let from = self.take(&op.path);
                let to = self.take(&op.other);
                self.give(&op.other, from);
                if op.a == 2 {
                    self.give(&op.path, to);
                }
            }
            Verb::ReaddirUnder => {
                let (victims, news) = op.text.split_once(';').unwrap_or(("", ""));
                for v in victims.split(',').filter(|v| !v.is_empty()) {
                    let name = crate::common::tree::unescape(v);
                    self.take(&join(&op.path, &name));
                }
                for n in news.split(',').filter(|n| !n.is_empty()) {
                    self.paths
                        .entry(join(&op.path, n.as_bytes()))
                        .or_insert('-');
                }
            }
            _ => {}
        }
    }

    /// Takes a name and all below it out; the keys are relative to it.
    fn take(&mut self, path: &[u8]) -> Vec<(Vec<u8>, char)> {
        let mut out = Vec::new();
        let inside =
            |p: &[u8]| p == path || (p.starts_with(path) && p.get(path.len()) == Some(&b'/'));
        self.paths.retain(|p, k| {
            if inside(p) {
                out.push((p[path.len()..].to_vec(), *k));
                return false;
            }
            true
        });
        out
    }

    fn give(&mut self, path: &[u8], what: Vec<(Vec<u8>, char)>) {
        for (rest, k) in what {
            let mut p = path.to_vec();
            p.extend(rest);
            self.paths.insert(p, k);
        }
    }
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut out = dir.to_vec();
    if !out.is_empty() {
        out.push(b'/');
    }
    out.extend_from_slice(name);
    out
}

fn parent(path: &[u8]) -> &[u8] {
    let cut = path.iter().rposition(|b| *b == b'/').unwrap_or(0);
    &path[..cut]
}
