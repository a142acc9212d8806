//! The records of a catalog as bytes; the parent module draws the file.

use crate::sys::fs::{Stat, Time};

/// How a catalog begins.
pub(super) const MAGIC: [u8; 8] = *b"capascat";
/// The one version there is.
pub(super) const VERSION: u32 = 1;
/// Instead of a number: there is none.
pub(super) const NONE: u32 = u32::MAX;
/// Bytes of the header.
pub(super) const HEADER: usize = 64;
/// Bytes of the checksum at the end.
pub(super) const CHECKSUM: usize = 4;

/// Where counts are in the header.
pub(super) const COUNTS: usize = 24;

/// The parts of a catalog, in the order in which they lie in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Layers,
    Places,
    Dirs,
    Stacks,
    Entries,
    Inodes,
    XattrSets,
    Xattrs,
    Heap,
}

/// All sections with the bytes of a record.
pub(super) const SECTIONS: [(Section, usize); 9] = [
    (Section::Layers, LAYER),
    (Section::Places, PLACE),
    (Section::Dirs, DIR),
    (Section::Stacks, STACK),
    (Section::Entries, ENTRY),
    (Section::Inodes, INODE),
    (Section::XattrSets, XATTR_SET),
    (Section::Xattrs, XATTR),
    (Section::Heap, 1),
];

pub(super) const LAYER: usize = 40;
pub(super) const PLACE: usize = 16;
pub(super) const DIR: usize = 16;
pub(super) const STACK: usize = 4;
pub(super) const ENTRY: usize = 12;
pub(super) const INODE: usize = 104;
pub(super) const XATTR_SET: usize = 8;
pub(super) const XATTR: usize = 16;

/// A place that is no directory.
pub(super) const NO_DIR: u16 = 1;
/// A directory with attribute whiteouts.
pub(super) const XWHITEOUTS: u16 = 2;
/// An inode that only the layers can tell of.
pub(super) const LIVE: u16 = 1;

/// Where sections begin, and how many records each has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head {
    pub built: Built,
    pub sections: [(usize, u32); SECTIONS.len()],
}

impl Head {
    /// The begin of a section and its number of records.
    pub(super) fn section(&self, section: Section) -> (usize, u32) {
        self.sections
            .get(section as usize)
            .copied()
            .unwrap_or_default()
    }
}

/// How marks were read when a catalog was made. A mount that reads them another
/// way may see other things.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Built {
    /// The mount's own marks are `user.overlay.*`.
    pub userxattr: bool,
    /// Redirects are not followed.
    pub no_redirects: bool,
    /// Who looked.
    pub seen: Seen,
}

/// What a process sees of layers depends on its rights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// It sees `trusted.*` attributes.
    pub trusted: bool,
    /// A checksum of the user namespace's maps, and of who owns the layers' roots
    /// for it: maps may look the same and be those of other namespaces.
    pub owners: u32,
}

/// All bits that there are in [`Built`].
pub(super) const BUILT: u32 = 7;

impl Built {
    pub(super) fn bits(self) -> u32 {
        let Built {
            userxattr,
            no_redirects,
            seen,
        } = self;
        u32::from(userxattr) | u32::from(no_redirects) << 1 | u32::from(seen.trusted) << 2
    }

    pub(super) fn of(bits: u32, owners: u32) -> Built {
        Built {
            userxattr: bits & 1 != 0,
            no_redirects: bits & 2 != 0,
            seen: Seen {
                trusted: bits & 4 != 0,
                owners,
            },
        }
    }
}

/// A layer that a catalog was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerId {
    /// UUID of its file system, zeros where that has none.
    pub uuid: [u8; 16],
    /// Inode number of its root.
    pub ino: u64,
    /// When its root was changed last: by a rename of it, too.
    pub ctime: Time,
}

impl LayerId {
    pub(super) fn encode(&self) -> [u8; LAYER] {
        let mut out = Fields::default();
        out.put(&self.uuid);
        out.put(&self.ino.to_le_bytes());
        out.put(&self.ctime.sec.to_le_bytes());
        out.put(&self.ctime.nsec.to_le_bytes());
        out.record()
    }

    pub(super) fn decode(record: &[u8; LAYER]) -> LayerId {
        let mut fields = Cursor(record);
        LayerId {
            uuid: fields.take(),
            ino: u64::from_le_bytes(fields.take()),
            ctime: Time {
                sec: i64::from_le_bytes(fields.take()),
                nsec: u32::from_le_bytes(fields.take()),
            },
        }
    }
}

/// What an inode is, besides its attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// This directory of `dirs`.
    Dir(u32),
    /// A regular file.
    File,
    /// A metacopy, whose data is at this place.
    Metacopy(u32),
    /// A symlink: where its target lies in the heap, and its length.
    Symlink(u32, u16),
    /// A device, FIFO or socket.
    Special,
    /// Nothing is known but type, number and layer: the layers are asked.
    Live,
}

/// An inode of the merged tree. In the file: number, size, blocks, device
/// number (8 bytes each), seconds of access, modification and change (8 each),
/// their nanoseconds, mode, links, owner, group, block size, xattr set (4 each),
/// directory, place of the data or heap offset of the target (4), layer, length
/// of the target, flags (2 each), 0 (2). Flag 1 = live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Its attributes in the layer, but for the device.
    pub stat: Stat,
    /// The layer that they are from.
    pub layer: u16,
    /// Its set of extended attributes.
    pub xattrs: Option<u32>,
    /// What it is.
    pub what: What,
}

impl Inode {
    pub(super) fn encode(&self) -> [u8; INODE] {
        let stat = &self.stat;
        let mut out = Fields::default();
        for word in [stat.ino, stat.size, stat.blocks, stat.rdev] {
            out.put(&word.to_le_bytes());
        }
        let times = [stat.atime, stat.mtime, stat.ctime];
        times.iter().for_each(|t| out.put(&t.sec.to_le_bytes()));
        times.iter().for_each(|t| out.put(&t.nsec.to_le_bytes()));
        let (more, target, flags) = match self.what {
            What::Dir(dir) => (dir, 0, 0),
            What::Metacopy(place) => (place, 0, 0),
            What::Symlink(at, len) => (at, len, 0),
            What::File | What::Special => (NONE, 0, 0),
            What::Live => (NONE, 0, LIVE),
        };
        let xattrs = self.xattrs.unwrap_or(NONE);
        let owner = [stat.mode, stat.nlink, stat.uid, stat.gid, stat.blksize];
        for half in owner.into_iter().chain([xattrs, more]) {
            out.put(&half.to_le_bytes());
        }
        for short in [self.layer, target, flags] {
            out.put(&short.to_le_bytes());
        }
        out.record()
    }

    pub(super) fn decode(record: &[u8; INODE]) -> Inode {
        let mut f = Cursor(record);
        let [ino, size, blocks, rdev] = std::array::from_fn(|_| u64::from_le_bytes(f.take()));
        let secs: [i64; 3] = std::array::from_fn(|_| i64::from_le_bytes(f.take()));
        let nsecs: [u32; 3] = std::array::from_fn(|_| u32::from_le_bytes(f.take()));
        let [mode, nlink, uid, gid, blksize, xattrs, more] =
            std::array::from_fn(|_| u32::from_le_bytes(f.take()));
        let [layer, target, flags] = std::array::from_fn(|_| u16::from_le_bytes(f.take()));
        let time = |(sec, nsec)| Time { sec, nsec };
        let [atime, mtime, ctime] = {
            let [a, m, c] = secs;
            let [an, mn, cn] = nsecs;
            [(a, an), (m, mn), (c, cn)].map(time)
        };
        let what = match mode & libc::S_IFMT {
            _ if flags & LIVE != 0 => What::Live,
            libc::S_IFDIR => What::Dir(more),
            libc::S_IFLNK => What::Symlink(more, target),
            libc::S_IFREG if more != NONE => What::Metacopy(more),
            libc::S_IFREG => What::File,
            _ => What::Special,
        };
        Inode {
            stat: Stat {
                dev: 0,
                ino,
                mode,
                nlink,
                uid,
                gid,
                rdev,
                size,
                blocks,
                blksize,
                atime,
                mtime,
                ctime,
            },
            layer,
            xattrs: (xattrs != NONE).then_some(xattrs),
            what,
        }
    }
}

/// The fields of a record, one after another; what is left over is zero.
#[derive(Default)]
pub(super) struct Fields(Vec<u8>);

impl Fields {
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn record<const N: usize>(mut self) -> [u8; N] {
        self.0.resize(N, 0);
        let mut out = [0; N];
        out.copy_from_slice(&self.0);
        out
    }
}

/// Reads fields one after another; zeros where there is nothing more.
pub(super) struct Cursor<'a>(pub &'a [u8]);

impl Cursor<'_> {
    pub(super) fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk() {
            Some((field, rest)) => {
                self.0 = rest;
                *field
            }
            None => [0; N],
        }
    }
}
