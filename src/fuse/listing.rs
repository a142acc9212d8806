//! Listings with attributes, and such requests answered by names alone.

use super::{adapter::Adapter, convert::file_attr};
use crate::sys::{Errno, Result, fs::Stat, stream};
use crate::union::{Attr, Entry, Taken};
use fuser::{Generation, INodeNo, ReplyDirectoryPlus, Request};
use std::os::unix::ffi::OsStrExt;

/// The kernel has room for so much at least; fuser does not tell how much.
const ROOM: usize = 4096;
/// `fuse_out_header`: length, error, request.
const HEADER: usize = 16;
/// `fuse_entry_out`, which is of no node if it is all 0.
const NO_NODE: [u8; 128] = [0; 128];

/// A reply of names without nodes, which fuser cannot make.
struct Bare {
    bytes: Vec<u8>,
    /// Names of what is no directory.
    others: u32,
}

impl Bare {
    fn new() -> Bare {
        Bare {
            bytes: vec![0; HEADER],
            others: 0,
        }
    }

    fn add(&mut self, entry: &Entry) -> Taken {
        let name = entry.name.as_bytes();
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&NO_NODE);
        // `fuse_dirent`: number, next position, length of the name, type.
        self.bytes.extend_from_slice(&entry.ino.to_ne_bytes());
        self.bytes.extend_from_slice(&entry.next.to_ne_bytes());
        let length = u32::try_from(name.len()).unwrap_or_default();
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes
            .extend_from_slice(&(entry.kind >> 12).to_ne_bytes());
        self.bytes.extend_from_slice(name);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        if self.bytes.len() > HEADER + ROOM {
            self.bytes.truncate(start);
            return Taken::No;
        }
        self.others += u32::from(entry.kind != libc::S_IFDIR);
        Taken::Name
    }

    /// The message that answers a request.
    fn message(mut self, request: u64) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or_default();
        let header = [
            &length.to_ne_bytes()[..],
            &0_u32.to_ne_bytes(),
            &request.to_ne_bytes(),
        ];
        self.bytes.splice(..HEADER, header.concat());
        self.bytes
    }
}

impl Adapter {
    /// Answer a request for a listing with attributes: by them where the caller
    /// is known to look at them.
    pub(super) fn list(
        &self,
        req: &Request,
        dir: INodeNo,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let process = req.pid();
        let result = match self.habits.wants(process) {
            true => self.list_nodes(dir, offset, &mut reply),
            false => self.list_names(dir, offset).map(Some),
        };
        self.asked(req, "readdirplus", dir)
            .answer(result, reply, |reply, bare| {
                let Some(bare) = bare else { return reply.ok() };
                self.habits.listed(process, dir.0, bare.others);
                let message = bare.message(req.unique().0);
                match stream::write(self.device(), &message) {
                    // So fuser's reply is none any more. It holds no memory, but a
                    // share of the device, which is open until the process ends.
                    Ok(_) | Err(Errno::NOENT) => std::mem::forget(reply),
                    Err(_) => reply.error(fuser::Errno::EIO),
                }
            });
    }

    fn list_names(&self, dir: INodeNo, offset: u64) -> Result<Bare> {
        let mut bare = Bare::new();
        self.union
            .readdir(dir.0, offset, |entry| bare.add(entry) != Taken::No)?;
        Ok(bare)
    }

    /// Into fuser's reply. It has one number for the node and for `st_ino`, and
    /// one time for which name and attributes hold, so it ends before an entry
    /// that needs two; where it would be empty then, names are the answer.
    fn list_nodes(
        &self,
        dir: INodeNo,
        offset: u64,
        reply: &mut ReplyDirectoryPlus,
    ) -> Result<Option<Bare>> {
        let mut bare: Option<Bare> = None;
        let mut empty = true;
        let listed = self.union.readdir_plus(dir.0, offset, |entry, attr| {
            let simple = |attr: &&Attr| attr.id == attr.stat.ino && !attr.volatile;
            // The number is the node's, also where a listing cannot know it: in an
            // upper directory that lost its impure mark.
            let (id, stat, taken) = match (attr.filter(simple), entry.is_dot()) {
                (Some(attr), _) if bare.is_none() => (attr.id, attr.stat, Taken::Node),
                // The kernel takes no node of these two.
                (_, true) => (entry.ino, of_kind(entry), Taken::Name),
                _ if empty => return bare.get_or_insert_with(Bare::new).add(entry),
                _ => return Taken::No,
            };
            let (ino, file) = (INodeNo(id), file_attr(&stat, id));
            let (name, next) = (&entry.name, entry.next);
            if reply.add(ino, next, name, &self.ttl, &file, Generation(0)) {
                return Taken::No;
            }
            empty = false;
            taken
        });
        // Nodes that the kernel is not told of it would never forget: what there is
        // is told, and the error by the request that begins behind it.
        match (listed, empty) {
            (Err(e), true) => Err(e),
            _ => Ok(bare),
        }
    }
}

fn of_kind(entry: &Entry) -> Stat {
    Stat {
        mode: entry.kind,
        ..Stat::default()
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn names_without_nodes() {
        let mut bare = Bare::new();
        let entry = |name: &str, kind| Entry {
            ino: 7,
            kind,
            next: 3,
            name: name.into(),
        };
        assert_eq!(bare.add(&entry("abc", libc::S_IFREG)), Taken::Name);
        assert_eq!(bare.add(&entry("d", libc::S_IFDIR)), Taken::Name);
        let long = entry(&"x".repeat(255), libc::S_IFREG);
        let more = (0..100).take_while(|_| bare.add(&long) != Taken::No);
        assert_eq!(more.count(), 9, "of 408 bytes each");
        assert_eq!(bare.others, 10);
        let bytes = bare.message(99);
        assert_eq!(bytes.len(), HEADER + 2 * 160 + 9 * 408);
        let number = |at: usize, len: usize| {
            let mut le = bytes[at..at + len].to_vec();
            le.resize(8, 0);
            u64::from_ne_bytes(le.try_into().unwrap_or_default())
        };
        let header = [number(0, 4), number(4, 4), number(8, 8)];
        assert_eq!(header, [bytes.len() as u64, 0, 99]);
        let first = HEADER + NO_NODE.len();
        let dirent = [(0, 8), (8, 8), (16, 4), (20, 4)].map(|(at, len)| number(first + at, len));
        assert_eq!(dirent, [7, 3, 3, 8]);
        assert_eq!(&bytes[first + 24..first + 32], b"abc\0\0\0\0\0");
    }
}
