//! What is known of a node's names and places.
//!
//! There is a node for each file that the kernel knows, so what few of them have
//! is kept apart ([`Rare`]).

use super::{
    dirs::LowerDir, file::PASSTHROUGH_FROM, merged::Listing, name::Name, node::Node,
    partial::Partial, prefetch::PREFETCH_TO, stack::Stack,
};
use crate::sys::fs::{Stat, Time};
use std::ffi::{OsStr, OsString};
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

/// One name of a node.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub parent: Arc<Node>,
    pub name: Name,
}

impl Link {
    pub(super) fn new(parent: &Arc<Node>, name: &OsStr) -> Link {
        Link {
            parent: parent.clone(),
            name: name.into(),
        }
    }

    pub(super) fn is(&self, parent: &Arc<Node>, name: &OsStr) -> bool {
        Arc::ptr_eq(&self.parent, parent) && *self.name == *name
    }
}

/// How much of a node is in the upper layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum InUpper {
    /// Nothing.
    #[default]
    No,
    /// Attributes; the data is in a lower layer (metacopy).
    Meta,
    /// All of it.
    Data,
}

/// A non-directory in a lower layer.
#[derive(Clone, Debug)]
pub(super) struct LowerFile {
    pub dir: Arc<LowerDir>,
    pub name: Name,
    /// It is a metacopy itself: where its data is.
    pub data: Option<Box<LowerFile>>,
    /// Its inode in the catalog.
    pub known: Option<u32>,
}

impl LowerFile {
    /// The same name in the same directory of the same layer.
    pub(super) fn same(&self, other: &LowerFile) -> bool {
        self.name == other.name && self.dir.same(&other.dir)
    }

    /// Where the data is.
    pub(super) fn data(&self) -> &LowerFile {
        let mut file = self;
        while let Some(next) = &file.data {
            file = next;
        }
        file
    }
}

/// The number of names of an inode in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    /// This many.
    Total(i64),
    /// As many as the upper's inode has links, and this many more.
    Relative(i64),
}

impl Count {
    /// From the attribute's value, given the lower's count.
    pub(super) fn decode(value: &[u8], lower: Option<u32>) -> Option<Count> {
        match crate::layer::marks::nlink::decode(value)? {
            (true, diff) => Some(Count::Relative(diff)),
            (false, diff) => Some(Count::Total(i64::from(lower?) + diff)),
        }
    }

    /// The number, given the upper inode's count.
    pub(super) fn names(self, upper: u32) -> u32 {
        let n = match self {
            Count::Total(n) => n,
            Count::Relative(diff) => i64::from(upper) + diff,
        };
        u32::try_from(n.max(0)).unwrap_or(u32::MAX)
    }
}

/// Where reads and writes of a node's open files go. Sticky while any is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum IoMode {
    /// Not open.
    #[default]
    Closed,
    /// Through the page cache of the FUSE inode and through the daemon.
    Cached,
    /// Past the daemon, to the upper's file.
    PassUpper,
    /// Past the daemon, to the lower's file, only for reading.
    PassLower,
}

/// What the attributes were when they were last seen, for choosing how to open.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen(u16);

impl Seen {
    const ANY: u16 = 1 << 15;
    const LARGE: u16 = 1 << 14;
    const SMALL: u16 = 1 << 13;

    pub(super) fn of(stat: &Stat) -> Seen {
        let size = match stat.size {
            1..=PREFETCH_TO => Seen::SMALL,
            0..=PASSTHROUGH_FROM => 0,
            _ => Seen::LARGE,
        };
        Seen((stat.mode & 0o7777) as u16 | Seen::ANY | size)
    }

    /// Permissions and set-id bits, if they were ever seen.
    pub(super) fn mode(self) -> Option<u32> {
        (self.0 & Seen::ANY != 0).then_some(u32::from(self.0 & 0o7777))
    }

    /// Is it larger than what is read through the daemon.
    pub(super) fn is_large(self) -> bool {
        self.0 & Seen::LARGE != 0
    }

    /// Is there anything in it, and so little that it is given to the kernel
    /// before it is read.
    pub(super) fn is_small(self) -> bool {
        self.0 & Seen::SMALL != 0
    }

    /// All of its data is gone.
    pub(super) fn emptied(&mut self) {
        self.0 &= !(Seen::LARGE | Seen::SMALL);
    }
}

/// What is known of a node's names and places. Leaf lock: never held over a
/// system call.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The first of the names.
    link: Option<Link>,
    /// Non-directories: the directory of the lower file, where that has the name
    /// of `link` and is no metacopy. Else all of it is in `rare`.
    lower_dir: Option<Arc<LowerDir>>,
    rare: Option<Box<Rare>>,
    /// The inode of that lower file in the catalog; 0, the root, is none's.
    lower_known: u32,
    pub seen: Seen,
    pub upper: InUpper,
    /// It was copied up from a lower inode, whose number it shows.
    pub origin: bool,
}

/// What few nodes have; directories do.
#[derive(Debug, Default)]
pub(super) struct Rare {
    /// Names but for the first.
    more: Vec<Link>,
    /// The lower file that is shown, or was copied up, in full.
    lower: Option<LowerFile>,
    /// See [`Node::serial`]; 0 until it is asked for.
    pub serial: u64,
    /// Its name in the index directory, where it is always to be found.
    pub index: Option<OsString>,
    /// How names are counted where the index holds the inode.
    pub nlink: Option<Count>,
    /// It is being copied up, without a name yet.
    pub partial: Option<Arc<Partial>>,
    /// What its access and modification time stay while its data is put into a
    /// metacopy.
    pub times: Option<Box<(Time, Time)>>,
    /// Directories: what is merged, top first.
    pub lowers: Stack,
    /// The number that its names have in the layers is not this node's: the
    /// table knows it by its names.
    pub by_name: bool,
    /// It was one of several names of a lower file, and is a file of its own
    /// since it was copied up: it shows the upper's number, lest the others
    /// seem to be the same file.
    pub parted: bool,
    /// The redirect of the upper directory, an absolute path.
    pub redirect: Option<OsString>,
    /// The upper directory is marked impure.
    pub impure: bool,
    /// The upper directory has `.wh.*` files; unknown until somebody looks.
    pub wh: Option<bool>,
    /// The directory's default ACL, once read.
    pub default_acl: Option<Option<Arc<Vec<u8>>>>,
    /// The names of a merged directory, once read.
    pub listing: Option<Box<Listing>>,
    pub io: IoMode,
    /// Open file descriptions.
    pub opens: u32,
    /// Those of programs that run it.
    pub runs: u32,
    /// Its content was given to the kernel before its first open.
    pub prefetched: bool,
    /// It is known to have no `security.capability`, which the kernel asks for at
    /// the first write and at each chown.
    pub no_capability: bool,
    /// Its capability was removed by the last request that changed it.
    pub lost_capability: bool,
    /// Open by passthrough for reading and writing, so perhaps mapped shared.
    pub shared_writer: bool,
    /// Written by passthrough: pages cached before are stale.
    pub stale_cache: bool,
    /// Kept open because it has no name any more.
    pub orphan: Option<Arc<OwnedFd>>,
    /// The last name is gone.
    pub removed: bool,
    /// The attributes it had then, where it was not open.
    pub last: Option<Box<Stat>>,
    /// Since a copy-up under open lower descriptors the name belongs to this
    /// node; only those descriptors still use the old one.
    pub successor: Option<Arc<Node>>,
    /// The node that this one is the successor of. As long as it lives the
    /// kernel may know names of ours as that one's.
    pub predecessor: Weak<Node>,
}

/// Of a node that has none of it.
static NOTHING: Rare = Rare {
    more: Vec::new(),
    lower: None,
    serial: 0,
    index: None,
    nlink: None,
    partial: None,
    times: None,
    lowers: Stack::NOTHING,
    by_name: false,
    parted: false,
    redirect: None,
    impure: false,
    wh: None,
    default_acl: None,
    listing: None,
    io: IoMode::Closed,
    opens: 0,
    runs: 0,
    prefetched: false,
    no_capability: false,
    lost_capability: false,
    shared_writer: false,
    stale_cache: false,
    orphan: None,
    removed: false,
    last: None,
    successor: None,
    predecessor: Weak::new(),
};

impl Deref for State {
    type Target = Rare;

    fn deref(&self) -> &Rare {
        self.rare.as_deref().unwrap_or(&NOTHING)
    }
}

impl DerefMut for State {
    /// Makes it: only to be called to set something.
    fn deref_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }
}

impl State {
    /// Of a node with one name, or with none.
    pub(super) fn named(link: Option<Link>) -> State {
        State {
            link,
            ..State::default()
        }
    }

    /// Names that are known; a directory has one until it is removed.
    pub(super) fn links(&self) -> impl Iterator<Item = &Link> {
        self.link.iter().chain(&self.more)
    }

    /// One of them.
    pub(super) fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }

    /// Does it have this name.
    pub(super) fn has(&self, parent: &Arc<Node>, name: &OsStr) -> bool {
        self.links().any(|link| link.is(parent, name))
    }

    pub(super) fn add_link(&mut self, link: Link) {
        match &self.link {
            None => {
                self.spell_out();
                self.link = Some(link);
            }
            Some(_) => self.more.push(link),
        }
    }

    pub(super) fn remove_link(&mut self, parent: &Arc<Node>, name: &OsStr) {
        if !self.more.is_empty() {
            self.more.retain(|link| !link.is(parent, name));
        }
        if self.link.as_ref().is_some_and(|l| l.is(parent, name)) {
            self.spell_out();
            self.link = match self.more.is_empty() {
                true => None,
                false => Some(self.more.remove(0)),
            };
        }
    }

    /// All names, which it has no more.
    pub(super) fn take_links(&mut self) -> Vec<Link> {
        self.spell_out();
        let mut links: Vec<Link> = self.link.take().into_iter().collect();
        if !self.more.is_empty() {
            links.append(&mut self.more);
        }
        links
    }

    /// Non-directories: the lower file that is shown, or was copied up.
    pub(super) fn lower(&self) -> Option<LowerFile> {
        let (Some(dir), Some(link)) = (&self.lower_dir, &self.link) else {
            return self.lower.clone();
        };
        Some(LowerFile {
            dir: dir.clone(),
            name: link.name.clone(),
            data: None,
            known: (self.lower_known != 0).then_some(self.lower_known),
        })
    }

    pub(super) fn has_lower(&self) -> bool {
        self.lower_dir.is_some() || self.lower.is_some()
    }

    /// Where the data of the lower file is, if that is a metacopy.
    pub(super) fn lower_data(&self) -> Option<&LowerFile> {
        let file = self.lower.as_ref().filter(|file| file.data.is_some())?;
        Some(file.data())
    }

    pub(super) fn set_lower(&mut self, lower: Option<LowerFile>) {
        let Some(lower) = lower else { return };
        let same = self.link.as_ref().is_some_and(|l| l.name == lower.name);
        if same && lower.data.is_none() && lower.known != Some(0) {
            self.lower_known = lower.known.unwrap_or(0);
            self.lower_dir = Some(lower.dir);
        } else {
            self.lower = Some(lower);
        }
    }

    /// The first name may become another: the lower file's does not.
    fn spell_out(&mut self) {
        if self.lower_dir.is_some() {
            self.lower = self.lower();
            self.lower_dir = None;
        }
    }

    /// The lower layer that the attributes come from, if it is one.
    pub(super) fn lower_layer(&self) -> Option<u16> {
        if self.in_upper() {
            return None;
        }
        let file = self.lower.as_ref().map(|file| &file.dir);
        let dir = self.lowers.top().or(self.lower_dir.as_ref()).or(file);
        dir.map(|dir| dir.layer)
    }

    /// Its inode in the catalog, which has its attributes as long as nothing of
    /// it is in the upper.
    pub(super) fn known(&self) -> Option<u32> {
        if self.in_upper() || self.orphan.is_some() {
            return None;
        }
        if self.lower_dir.is_some() {
            return (self.lower_known != 0).then_some(self.lower_known);
        }
        let dir = self.lowers.known().map(|known| known.inode);
        dir.or(self.lower.as_ref().and_then(|file| file.known))
    }

    /// Is anything of it in the upper.
    pub(super) fn in_upper(&self) -> bool {
        self.upper != InUpper::No
    }

    /// All nodes that are held by it, which are held no more.
    pub(super) fn take_nodes(&mut self) -> impl Iterator<Item = Arc<Node>> {
        let rare = self.rare.as_deref_mut();
        let (more, successor) = match rare {
            Some(rare) => (std::mem::take(&mut rare.more), rare.successor.take()),
            None => (Vec::new(), None),
        };
        let links = self.link.take().into_iter().chain(more);
        links.map(|link| link.parent).chain(successor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_of_a_file_is_small() {
        // With its two counts it fits into 120 bytes: what malloc(3) gives for
        // that takes 128.
        assert!(size_of::<Node>() + 16 <= 120, "{}", size_of::<Node>());
    }
}
