//! Random lower layers, as the text that `tree::build` takes.

use super::rng::Rng;
use crate::common::flatten::private;
use crate::common::sys::in_user_namespace;
use std::collections::{BTreeMap, BTreeSet};

/// Which marks hide the names of lower layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// Character devices 0:0 and the opaque xattr, as the kernel writes them.
    Kernel,
    /// `.wh.NAME` and `.wh..wh..opq`, as image tools write them.
    Files,
}

/// The names of all layers so far, merged.
pub struct Layers {
    rng: Rng,
    marks: Marks,
    /// Path to kind: `d` directory, `-` file, `o` anything else.
    merged: BTreeMap<String, char>,
    /// Hard-linked names and the directories above them stay visible in every
    /// layer: what hiding one of several names does to the link count is not
    /// the same in any two union filesystems.
    keep: BTreeSet<String>,
    links: bool,
}

impl Layers {
    /// None yet. `links`: also make hard links.
    pub fn new(seed: u64, marks: Marks, links: bool) -> Self {
        Layers {
            rng: Rng::new(seed ^ 0x1a7e5),
            marks,
            merged: BTreeMap::from([("".to_string(), 'd')]),
            keep: BTreeSet::new(),
            links,
        }
    }

    /// The text of one more layer, `size` lines or so, with every path below `base`.
    pub fn layer(&mut self, size: usize, base: &str) -> String {
        let mut out: Vec<String> = Vec::new();
        let mut here: BTreeMap<String, char> = BTreeMap::new();
        if !base.is_empty() && !self.merged.contains_key(base) {
            out.push(self.dir_line(base));
            self.merged.insert(base.to_string(), 'd');
            here.insert(base.to_string(), 'd');
        }
        let fresh = self.merged.len() < 5;
        for _ in 0..size {
            match self.rng.weighted(&[
                30,
                55,
                if fresh { 0 } else { 22 },
                if fresh { 0 } else { 8 },
            ]) {
                0 => self.add_dir(base, &mut here, &mut out),
                1 => self.add_other(base, &mut here, &mut out),
                2 => self.hide(base, &mut here, &mut out),
                _ => self.opaque(base, &mut here, &mut out),
            }
        }
        out.join("\n")
    }

    fn name(&mut self) -> String {
        match self.rng.below(40) {
            0 => "L".repeat(255),
            1 => "\\xff\\xfe\\x80".to_string(),
            2 => "a\\x20b\\x0ac".to_string(),
            3 => "...".to_string(),
            4 => "#20".to_string(),
            n => format!("n{}", n % 14),
        }
    }

    /// A directory below `base` that this layer may put things into.
    fn parent(&mut self, base: &str, here: &BTreeMap<String, char>) -> String {
        let dirs: Vec<String> = self
            .merged
            .iter()
            .filter(|(p, k)| **k == 'd' && below(base, p) && p.matches('/').count() < 6)
            .filter(|(p, _)| ancestors(p).all(|a| here.get(a).is_none_or(|k| *k == 'd')))
            .map(|(p, _)| p.clone())
            .collect();
        self.rng.pick(&dirs).cloned().unwrap_or(base.to_string())
    }

    /// A path that this layer has nothing at yet.
    fn free(&mut self, base: &str, here: &BTreeMap<String, char>) -> Option<String> {
        for _ in 0..10 {
            let path = format!("{}/{}", self.parent(base, here), self.name());
            if !here.contains_key(&path) && !self.keep.contains(&path) {
                return Some(path);
            }
        }
        None
    }

    /// Notes that `path` shows a `kind` from now on, in place of all that was there.
    fn put(&mut self, path: &str, kind: char, here: &mut BTreeMap<String, char>) {
        if kind != 'd' || self.merged.get(path) != Some(&'d') {
            self.forget(path);
        }
        for a in ancestors(path) {
            here.insert(a.to_string(), 'd');
        }
        here.insert(path.to_string(), kind);
        self.merged.insert(path.to_string(), kind);
    }

    fn forget(&mut self, path: &str) {
        self.merged.retain(|p, _| p != path && !below(path, p));
    }

    fn add_dir(&mut self, base: &str, here: &mut BTreeMap<String, char>, out: &mut Vec<String>) {
        let dirs: Vec<String> = self
            .merged
            .iter()
            .filter(|(p, k)| **k == 'd' && below(base, p) && !here.contains_key(*p))
            .map(|(p, _)| p.clone())
            .collect();
        let path = if self.rng.chance(40) && !dirs.is_empty() {
            self.rng.pick(&dirs).cloned()
        } else {
            self.free(base, here)
        };
        let Some(path) = path.filter(|p| !p.is_empty()) else {
            return;
        };
        if self.covers_this_layer(&path, here) {
            return;
        }
        out.push(self.dir_line(&path));
        self.put(&path, 'd', here);
    }

    /// Whether a file at `path` is an ancestor of, or has as ancestor, something of this layer.
    fn covers_this_layer(&self, path: &str, here: &BTreeMap<String, char>) -> bool {
        here.contains_key(path) || ancestors(path).any(|a| here.get(a).is_some_and(|k| *k != 'd'))
    }

    fn dir_line(&mut self, path: &str) -> String {
        let mode = self
            .rng
            .one(&["0755", "0700", "0711", "1777", "2750", "0555", "0000"]);
        let mut line = format!("{path} dir {mode} {}", self.owner());
        line.push_str(&self.extra(true));
        if self.rng.chance(10) {
            line.push_str(" default=u::rwx,u:1000:r-x,g::r-x,m::rwx,o::---");
        }
        line
    }

    fn owner(&mut self) -> &'static str {
        self.rng
            .one(&["0:0", "0:0", "1000:1000", "0:50", "65534:7"])
    }

    fn extra(&mut self, user: bool) -> String {
        let mut out = format!(
            " mtime={}",
            self.rng.one(&[
                "1000000000.000000001",
                "-12345.987654321",
                "4102444800.5",
                "0.0",
                "1500000000.999999999",
            ])
        );
        // In a user namespace files and directories have `user.*` attributes, others none.
        if in_user_namespace() && !user {
            return out;
        }
        if self.rng.chance(20) {
            if user && self.rng.chance(50) {
                out.push_str(" user.a=\"one\" user.\\xc3\\xa4\\xff=0x00ff0a");
            } else {
                let family = if in_user_namespace() {
                    "user"
                } else {
                    "trusted"
                };
                out.push_str(&format!(" {family}.t=\"two\""));
            }
        }
        if self.rng.chance(4) {
            // Escaped as the kernel escapes it: a plain attribute to the application.
            out.push_str(&format!(" {}overlay.opaque=\"y\"", private()));
        }
        if user && self.rng.chance(8) {
            out.push_str(" acl=u::rwx,u:1000:r--,g::r-x,m::rwx,o::r--");
        }
        out
    }

    fn add_other(&mut self, base: &str, here: &mut BTreeMap<String, char>, out: &mut Vec<String>) {
        let Some(path) = self.free(base, here) else {
            return;
        };
        if self.merged.contains_key(&path) && self.protected(&path) {
            return;
        }
        // A whole tree of other layers is replaced by a file only where this layer has nothing.
        if here.keys().any(|p| below(&path, p)) || self.covers_this_layer(&path, here) {
            return;
        }
        let owner = self.owner();
        let rng = &mut self.rng;
        let mode = rng.one(&["0644", "0600", "4755", "2755", "0444", "6711", "0000"]);
        let seed = rng.below(1000);
        let size = match rng.below(10) {
            0 => 0,
            1..=5 => rng.below(5000),
            6 | 7 => rng.below(100_000),
            _ => 131_073 + rng.below(200_000),
        };
        let (kind, line) = match rng.weighted(&[60, 10, 12, 4, 3, 2, 2]) {
            4 | 5 if in_user_namespace() => ('o', format!("fifo {mode} {owner}")),
            0 => ('-', format!("file {mode} {owner} size={size} data=@{seed}")),
            1 => (
                '-',
                format!("file {mode} {owner} size=1300000 at=0:\"a\" at=600000:\"middle\""),
            ),
            2 => {
                let t = rng.one(&["n1", "n2/n3", "nowhere", "n4", "."]);
                ('o', format!("symlink {owner} -> {t}"))
            }
            3 => ('o', format!("fifo {mode} {owner}")),
            4 => ('o', format!("char {mode} {owner} dev=1:3")),
            5 => ('o', format!("block {mode} {owner} dev=240:7")),
            _ => ('o', format!("sock {mode} {owner}")),
        };
        // "symlink -> t" wants its target as the first word.
        let line = match line.strip_prefix("symlink ") {
            Some(rest) => {
                let (o, t) = rest.split_once(" -> ").unwrap_or((rest, "x"));
                format!("symlink -> {t} {o}")
            }
            None => line,
        };
        let mut line = format!("{path} {line}{}", self.extra(kind == '-'));
        if kind == '-' && self.rng.chance(8) {
            line.push_str(" cap=0x0100000200200000000000000000000000000000");
        }
        out.push(line);
        self.put(&path, kind, here);
        if kind == '-' && self.links && self.rng.chance(15) {
            self.add_links(&path, base, here, out);
        }
    }

    fn add_links(
        &mut self,
        path: &str,
        base: &str,
        here: &mut BTreeMap<String, char>,
        out: &mut Vec<String>,
    ) {
        let mut group = vec![path.to_string()];
        for _ in 0..1 + self.rng.below(2) {
            let Some(other) = self.free(base, here) else {
                continue;
            };
            if self.merged.contains_key(&other)
                || here.keys().any(|p| below(&other, p))
                || self.covers_this_layer(&other, here)
            {
                continue;
            }
            out.push(format!("{other} link {path}"));
            self.put(&other, '-', here);
            group.push(other);
        }
        for g in &group {
            self.keep.insert(g.clone());
            self.keep.extend(ancestors(g).map(str::to_string));
        }
    }

    fn protected(&self, path: &str) -> bool {
        self.keep.iter().any(|k| k == path || below(path, k))
    }

    fn hide(&mut self, base: &str, here: &mut BTreeMap<String, char>, out: &mut Vec<String>) {
        let all: Vec<String> = self
            .merged
            .keys()
            .filter(|p| below(base, p))
            .cloned()
            .collect();
        let Some(path) = self.rng.pick(&all).cloned() else {
            return;
        };
        if self.protected(&path)
            || here.keys().any(|p| *p == path || below(&path, p))
            || self.covers_this_layer(&path, here)
        {
            return;
        }
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", &path));
        // A mark needs room for its prefix in 255 bytes.
        if self.marks == Marks::Files && name.len() > 240 {
            return;
        }
        out.push(match self.marks {
            Marks::Kernel => format!("{path} whiteout"),
            Marks::Files => format!("{dir}/.wh.{name} file"),
        });
        self.put(&path, 'w', here);
        self.forget(&path);
        here.insert(path, 'w');
    }

    fn opaque(&mut self, base: &str, here: &mut BTreeMap<String, char>, out: &mut Vec<String>) {
        let dirs: Vec<String> = self
            .merged
            .iter()
            .filter(|(p, k)| **k == 'd' && below(base, p) && !here.contains_key(*p))
            .map(|(p, _)| p.clone())
            .collect();
        let Some(path) = self.rng.pick(&dirs).cloned() else {
            return;
        };
        if self.protected(&path) || self.covers_this_layer(&path, here) {
            return;
        }
        let line = self.dir_line(&path);
        self.forget(&path);
        self.put(&path, 'd', here);
        match self.marks {
            Marks::Kernel => out.push(format!("{line} opaque")),
            Marks::Files => {
                out.push(line);
                out.push(format!("{path}/.wh..wh..opq file"));
            }
        }
    }
}

/// Whether `path` lies below `dir`.
fn below(dir: &str, path: &str) -> bool {
    path.strip_prefix(dir).is_some_and(|r| r.starts_with('/'))
}

/// The directories above `path`, the root excepted.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/')
        .map(|(i, _)| &path[..i])
        .filter(|p| !p.is_empty())
}

/// The escaped form of a name pool shared with the generator of operations.
pub fn odd_names() -> [Vec<u8>; 4] {
    [
        vec![b'L'; 255],
        vec![0xff, 0xfe, 0x80],
        b"a b\nc".to_vec(),
        b"...".to_vec(),
    ]
}
