//! Layers onto each other: what each does to those below.

use super::analysis::{Change, Kind, Node, ROOT, Status, Waste, path};
use crate::store::unpack::{OPAQUE, WHITEOUT, is_opaque};
use crate::sys::fs::{self as sfs, Stat};
use crate::sys::tree::{self, Links};
use crate::sys::{Result, dir};
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// A file in a layer, however many names it has there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Content {
    /// Number of the layer, from 0.
    pub layer: u32,
    /// Its first name.
    pub node: u32,
    /// Bytes.
    pub size: u64,
    /// Names under which the image still shows it.
    links: u32,
}

/// What the layers so far show under a name.
#[derive(Clone, Copy, Debug)]
struct Present {
    kind: Kind,
    /// Mode and owners.
    attributes: (u32, u32, u32),
    /// Its place among the contents, for a file.
    content: Option<u32>,
}

/// The layers so far.
pub(super) struct Builder {
    nodes: Vec<Node>,
    /// As long as `nodes`.
    present: Vec<Option<Present>>,
    contents: Vec<Content>,
    waste: HashMap<u32, Waste>,
    layers: u32,
}

/// What is found out about the layer that is being read.
#[derive(Default)]
struct Adding {
    changes: Vec<Change>,
    size: u64,
    wastes: u64,
    /// Files with several names: their place among the contents.
    links: HashMap<(u64, u64), u32>,
}

impl Builder {
    pub fn new() -> Builder {
        let root = Node {
            parent: ROOT,
            name: Box::default(),
            children: Vec::new(),
        };
        let present = Present {
            kind: Kind::Dir,
            attributes: (0, 0, 0),
            content: None,
        };
        Builder {
            nodes: vec![root],
            present: vec![Some(present)],
            contents: Vec::new(),
            waste: HashMap::new(),
            layers: 0,
        }
    }

    /// Put a layer on top; gives its bytes, what it wastes, what it changes.
    ///
    /// # Errors
    /// As openat2(2), getdents64(2), stat(2).
    pub fn add(&mut self, root: &File, root_opaque: bool) -> Result<(u64, u64, Vec<Change>)> {
        let mut adding = Adding::default();
        // Names on the way are kept, not descriptors: a tree may be wide.
        let mut todo = vec![(ROOT, root_opaque)];
        while let Some((node, opaque)) = todo.pop() {
            let at = path(&self.nodes, node);
            let fd = tree::open_dir_beneath(root, OsStr::from_bytes(&at), Links::Refuse)?;
            let opaque = opaque || is_opaque(fd.as_fd());
            self.add_dir(node, &dir::open(&fd)?, opaque, &mut adding, &mut todo)?;
        }
        self.layers += 1;
        Ok((adding.size, adding.wastes, adding.changes))
    }

    /// Every name that there was, every file, and the waste, most first.
    pub fn finish(self) -> (Vec<Node>, Vec<Content>, Vec<Waste>) {
        let mut waste: Vec<Waste> = self.waste.into_values().collect();
        waste.sort_by_key(|w| (std::cmp::Reverse(w.bytes), w.node));
        (self.nodes, self.contents, waste)
    }

    fn add_dir(
        &mut self,
        node: u32,
        fd: &OwnedFd,
        opaque: bool,
        adding: &mut Adding,
        todo: &mut Vec<(u32, bool)>,
    ) -> Result<()> {
        let mut names: Vec<Vec<u8>> = Vec::new();
        dir::read(fd, 0, |entry| {
            names.push(entry.name.as_bytes().to_vec());
            true
        })?;
        names.sort_unstable();
        // A whiteout as a file may stand beside what replaces the hidden name.
        let mut hidden: BTreeSet<Vec<u8>> = BTreeSet::new();
        let mut here: Vec<u32> = Vec::new();
        let mut fresh: Vec<u32> = Vec::new();
        for name in &names {
            match name.strip_prefix(WHITEOUT) {
                Some(_) if name == OPAQUE => {}
                Some(of) => drop(hidden.insert(of.to_vec())),
                None => {}
            }
        }
        for name in names.iter().filter(|n| !n.starts_with(WHITEOUT)) {
            let stat = sfs::stat_at(fd, OsStr::from_bytes(name))?;
            if stat.is_whiteout() {
                hidden.insert(name.clone());
                continue;
            }
            let child = match self.child(node, name) {
                Some(child) => child,
                None => {
                    let child = self.insert(node, name);
                    fresh.push(child);
                    child
                }
            };
            here.push(child);
            let opaque = opaque || hidden.remove(name.as_slice());
            if self.put(child, &stat, adding) == Kind::Dir {
                todo.push((child, opaque));
            }
        }
        let gone: Vec<u32> = match opaque {
            true => {
                here.sort_unstable();
                let children = self.nodes.get(node as usize).map(|n| n.children.as_slice());
                let children = children.unwrap_or_default().iter().copied();
                children
                    .filter(|c| here.binary_search(c).is_err())
                    .collect()
            }
            false => hidden.iter().filter_map(|n| self.child(node, n)).collect(),
        };
        for child in gone {
            self.remove(child, adding);
        }
        self.adopt(node, fresh);
        Ok(())
    }

    fn child(&self, node: u32, name: &[u8]) -> Option<u32> {
        let children = &self.nodes.get(node as usize)?.children;
        let name_of = |c: &u32| self.nodes.get(*c as usize).map(|n| &*n.name);
        let at = children.binary_search_by(|c| name_of(c).cmp(&Some(name)));
        children.get(at.ok()?).copied()
    }

    fn insert(&mut self, parent: u32, name: &[u8]) -> u32 {
        let new = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        self.nodes.push(Node {
            parent,
            name: name.into(),
            children: Vec::new(),
        });
        self.present.push(None);
        new
    }

    /// Enter new children, which are in order, among the old ones.
    fn adopt(&mut self, node: u32, fresh: Vec<u32>) {
        if fresh.is_empty() {
            return;
        }
        let Some(old) = self.nodes.get_mut(node as usize) else {
            return;
        };
        let mut children = std::mem::take(&mut old.children);
        children.extend(fresh);
        // Two runs in order, which the sort merges.
        children.sort_by(|a, b| {
            let name = |c: &u32| self.nodes.get(*c as usize).map(|n| &*n.name);
            name(a).cmp(&name(b))
        });
        if let Some(node) = self.nodes.get_mut(node as usize) {
            children.shrink_to_fit();
            node.children = children;
        }
    }

    /// An entry of the layer under a name.
    fn put(&mut self, node: u32, stat: &Stat, adding: &mut Adding) -> Kind {
        let kind = match stat {
            s if s.is_dir() => Kind::Dir,
            s if s.is_file() => Kind::File,
            s if s.kind() == SYMLINK => Kind::Symlink,
            _ => Kind::Special,
        };
        let attributes = (stat.mode, stat.uid, stat.gid);
        let before = self.present.get(node as usize).copied().flatten();
        let status = match before {
            None => Some(Status::Added),
            Some(p) if p.kind == Kind::Dir && kind == Kind::Dir => {
                (p.attributes != attributes).then_some(Status::Changed)
            }
            Some(p) => {
                if p.kind == Kind::Dir {
                    self.remove_below(node, adding);
                }
                self.release(node, p, adding);
                Some(Status::Changed)
            }
        };
        let (content, size) = match kind {
            Kind::File => self.content(node, stat, adding),
            _ => (None, 0),
        };
        if let Some(slot) = self.present.get_mut(node as usize) {
            *slot = Some(Present {
                kind,
                attributes,
                content,
            });
        }
        if let Some(status) = status {
            adding.changes.push(Change {
                node,
                status,
                kind,
                size,
            });
        }
        kind
    }

    /// The file's place among the contents, and the bytes to count for it.
    fn content(&mut self, node: u32, stat: &Stat, adding: &mut Adding) -> (Option<u32>, u64) {
        let inode = (stat.dev, stat.ino);
        if stat.nlink > 1
            && let Some(known) = adding.links.get(&inode)
        {
            if let Some(content) = self.contents.get_mut(*known as usize) {
                content.links += 1;
            }
            return (Some(*known), 0);
        }
        let new = u32::try_from(self.contents.len()).unwrap_or(u32::MAX);
        self.contents.push(Content {
            layer: self.layers,
            node,
            size: stat.size,
            links: 1,
        });
        if stat.nlink > 1 {
            adding.links.insert(inode, new);
        }
        adding.size += stat.size;
        (Some(new), stat.size)
    }

    /// A name no longer shows its file; gives the bytes that are wasted by it.
    fn release(&mut self, node: u32, was: Present, adding: &mut Adding) -> u64 {
        let content = was.content.and_then(|c| self.contents.get_mut(c as usize));
        let Some(content) = content else { return 0 };
        content.links = content.links.saturating_sub(1);
        if content.links > 0 || content.size == 0 {
            return 0;
        }
        let waste = self.waste.entry(node).or_insert(Waste {
            node,
            bytes: 0,
            times: 0,
        });
        waste.bytes += content.size;
        waste.times += 1;
        adding.wastes += content.size;
        content.size
    }

    /// Hide a name with all below it.
    fn remove(&mut self, node: u32, adding: &mut Adding) {
        let Some(was) = self.present.get_mut(node as usize).and_then(Option::take) else {
            return;
        };
        let size = self.release(node, was, adding);
        adding.changes.push(Change {
            node,
            status: Status::Removed,
            kind: was.kind,
            size,
        });
        if was.kind == Kind::Dir {
            self.remove_below(node, adding);
        }
    }

    /// As deep as paths are, which the unpacker bounds.
    fn remove_below(&mut self, node: u32, adding: &mut Adding) {
        let children = self.nodes.get(node as usize).map(|n| n.children.clone());
        for child in children.unwrap_or_default() {
            self.remove(child, adding);
        }
    }
}

/// `S_IFLNK`.
const SYMLINK: u32 = 0o120_000;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn layer(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match name.ends_with('/') {
                true => fs::create_dir_all(&path).unwrap(),
                false => fs::write(&path, content).unwrap(),
            }
        }
        dir
    }

    fn add(builder: &mut Builder, dir: &Path, opaque: bool) -> (u64, u64, Vec<String>) {
        let (size, wastes, changes) = builder.add(&File::open(dir).unwrap(), opaque).unwrap();
        let mut lines: Vec<String> = changes
            .iter()
            .map(|c| {
                let path = String::from_utf8(path(&builder.nodes, c.node)).unwrap();
                format!("{:?} {path} {}", c.status, c.size)
            })
            .collect();
        lines.sort();
        (size, wastes, lines)
    }

    #[test]
    fn whiteouts_that_are_files() {
        let mut b = Builder::new();
        let one = layer(&[("d/a", "1"), ("d/b", "22"), ("e/f", "333"), ("g", "4444")]);
        let (size, wastes, lines) = add(&mut b, one.path(), false);
        assert_eq!((size, wastes), (10, 0));
        assert_eq!(
            lines,
            [
                "Added d 0",
                "Added d/a 1",
                "Added d/b 2",
                "Added e 0",
                "Added e/f 3",
                "Added g 4"
            ]
        );
        // A whiteout of `d` beside a new `d`, an opaque `e`, a whiteout of
        // nothing, and a directory in a file's place.
        let two = layer(&[
            (".wh.d", ""),
            ("d/b", "new"),
            ("e/.wh..wh..opq", ""),
            (".wh.none", ""),
            ("g/h", ""),
        ]);
        let (size, wastes, lines) = add(&mut b, two.path(), false);
        assert_eq!((size, wastes), (3, 10));
        assert_eq!(
            lines,
            [
                "Added g/h 0",
                "Changed d/b 3",
                "Changed g 0",
                "Removed d/a 1",
                "Removed e/f 3"
            ]
        );
        // A file in a directory's place, and all else hidden.
        let three = layer(&[("g", "x")]);
        let (size, wastes, lines) = add(&mut b, three.path(), true);
        assert_eq!((size, wastes), (1, 3));
        assert_eq!(
            lines,
            [
                "Changed g 1",
                "Removed d 0",
                "Removed d/b 3",
                "Removed e 0",
                "Removed g/h 0"
            ]
        );
        // What was removed comes again.
        let four = layer(&[("d/a", "1"), ("d/c", "")]);
        let (_, wastes, lines) = add(&mut b, four.path(), false);
        assert_eq!(wastes, 0);
        assert_eq!(lines, ["Added d 0", "Added d/a 1", "Added d/c 0"]);
        let (nodes, _, waste) = b.finish();
        let names = |n: u32| {
            nodes[n as usize]
                .children
                .iter()
                .map(|c| &*nodes[*c as usize].name)
        };
        assert_eq!(names(ROOT).collect::<Vec<_>>(), [b"d", b"e", b"g"]);
        assert_eq!(waste.iter().map(|w| w.bytes).sum::<u64>(), 13);
    }

    #[test]
    fn names_stay_in_order_however_they_come() {
        let mut b = Builder::new();
        for names in [
            ["b/m", "b/z"],
            ["b/a", "b/n"],
            ["b/zz", "b/m"],
            ["b/b", "a/x"],
        ] {
            let dir = layer(&names.map(|n| (n, "")));
            add(&mut b, dir.path(), false);
        }
        let (nodes, ..) = b.finish();
        for node in &nodes {
            let names: Vec<_> = node
                .children
                .iter()
                .map(|c| &nodes[*c as usize].name)
                .collect();
            assert!(names.is_sorted(), "{names:?}");
        }
        assert_eq!(nodes.len(), 10);
    }
}
