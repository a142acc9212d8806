//! What a catalog that is in order says.

use super::Catalog;
use super::format::{
    Built, Cursor, ENTRY, Head, INODE, Inode, LayerId, NO_DIR, NONE, Section, What, XWHITEOUTS,
};
use std::cmp::Ordering;
use std::ffi::CStr;

/// A name in a merged directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The name.
    pub name: &'a [u8],
    /// Its inode.
    pub inode: u32,
}

/// A name in a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// Which layer.
    pub layer: u16,
    /// The place it is in; none for the layer's root.
    pub parent: Option<u32>,
    /// The name there.
    pub name: &'a [u8],
    /// It is a directory.
    pub is_dir: bool,
    /// It has attribute whiteouts.
    pub xwhiteouts: bool,
}

/// Bytes of a catalog and where what is in them. Asked for what is not there it
/// answers with zeros: once the bytes are checked nobody does.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub bytes: &'a [u8],
    pub head: Head,
}

impl<'a> View<'a> {
    pub(super) fn record<const N: usize>(&self, section: Section, index: u32) -> &'a [u8; N] {
        let (start, count) = self.head.section(section);
        let found = if index < count {
            let at = start + index as usize * N;
            self.bytes.get(at..).and_then(|rest| rest.first_chunk())
        } else {
            None
        };
        found.unwrap_or(&[0; N])
    }

    /// Bytes of the heap.
    pub(super) fn heap(&self, at: u32, len: usize) -> &'a [u8] {
        let (start, count) = self.head.section(Section::Heap);
        let heap = self.bytes.get(start..start + count as usize);
        let rest = heap.and_then(|heap| heap.get(at as usize..));
        rest.and_then(|rest| rest.get(..len)).unwrap_or_default()
    }

    pub(super) fn words<const N: usize, const W: usize>(
        &self,
        section: Section,
        index: u32,
    ) -> [u32; W] {
        let mut fields = Cursor(self.record::<N>(section, index));
        std::array::from_fn(|_| u32::from_le_bytes(fields.take()))
    }

    pub(super) fn entry(&self, index: u32) -> Entry<'a> {
        let [name, inode, len] = self.words::<ENTRY, 3>(Section::Entries, index);
        Entry {
            name: self.heap(name, len as usize),
            inode,
        }
    }

    pub(super) fn place(&self, index: u32) -> Place<'a> {
        let mut fields = Cursor(self.record::<{ super::format::PLACE }>(Section::Places, index));
        let [layer, flags] = std::array::from_fn(|_| u16::from_le_bytes(fields.take()));
        let [parent, name, len] = std::array::from_fn(|_| u32::from_le_bytes(fields.take()));
        Place {
            layer,
            parent: (parent != NONE).then_some(parent),
            name: self.heap(name, len as usize),
            is_dir: flags & NO_DIR == 0,
            xwhiteouts: flags & XWHITEOUTS != 0,
        }
    }

    /// First entry, number of entries, first of the stack, number there.
    pub(super) fn dir(&self, index: u32) -> [u32; 4] {
        self.words::<{ super::format::DIR }, 4>(Section::Dirs, index)
    }

    pub(super) fn inode(&self, index: u32) -> Inode {
        Inode::decode(self.record::<INODE>(Section::Inodes, index))
    }
}

impl Catalog {
    fn view(&self) -> View<'_> {
        View {
            bytes: self.bytes.get(),
            head: self.head,
        }
    }

    /// How marks were read when it was made.
    pub fn built(&self) -> Built {
        self.head.built
    }

    /// The layers it was made of, top first.
    pub fn layers(&self) -> impl ExactSizeIterator<Item = LayerId> + '_ {
        let (_, count) = self.head.section(Section::Layers);
        let layer = move |i| LayerId::decode(self.view().record(Section::Layers, i));
        (0..count).map(layer)
    }

    /// How many entries all directories have together.
    pub fn entries(&self) -> u32 {
        self.head.section(Section::Entries).1
    }

    /// How many places there are.
    pub fn places(&self) -> u32 {
        self.head.section(Section::Places).1
    }

    /// How many entries a directory has.
    pub fn len(&self, dir: u32) -> u32 {
        let [_, count, ..] = self.view().dir(dir);
        count
    }

    /// Has a directory no entries.
    pub fn is_empty(&self, dir: u32) -> bool {
        self.len(dir) == 0
    }

    /// An entry of a directory by its position.
    pub fn entry(&self, dir: u32, position: u32) -> Option<Entry<'_>> {
        let view = self.view();
        let [first, count, ..] = view.dir(dir);
        (position < count).then(|| view.entry(first + position))
    }

    /// The inode of a name in a directory.
    pub fn find(&self, dir: u32, name: &[u8]) -> Option<u32> {
        let view = self.view();
        let [first, count, ..] = view.dir(dir);
        let (mut low, mut high) = (first, first + count);
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = view.entry(middle);
            match entry.name.cmp(name) {
                Ordering::Equal => return Some(entry.inode),
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// The places that a directory merges, top first.
    pub fn stack(&self, dir: u32) -> impl ExactSizeIterator<Item = u32> + '_ {
        let view = self.view();
        let [_, _, first, count] = view.dir(dir);
        (0..count).map(move |i| {
            let [place] = view.words::<4, 1>(Section::Stacks, first + i);
            place
        })
    }

    /// A place.
    pub fn place(&self, index: u32) -> Place<'_> {
        self.view().place(index)
    }

    /// An inode.
    pub fn inode(&self, index: u32) -> Inode {
        self.view().inode(index)
    }

    /// What a symlink points to; `None` for what is none.
    pub fn target(&self, inode: &Inode) -> Option<&[u8]> {
        match inode.what {
            What::Symlink(at, len) => Some(self.view().heap(at, len.into())),
            _ => None,
        }
    }

    /// The extended attributes of an inode as the layer has them, names and
    /// values.
    pub fn xattrs(&self, inode: &Inode) -> impl Iterator<Item = (&CStr, &[u8])> {
        let view = self.view();
        let [first, count] = match inode.xattrs {
            Some(set) => view.words::<{ super::format::XATTR_SET }, 2>(Section::XattrSets, set),
            None => [0, 0],
        };
        (first..first + count).filter_map(move |i| {
            let [name, len, value, size] =
                view.words::<{ super::format::XATTR }, 4>(Section::Xattrs, i);
            let name = view.heap(name, len as usize);
            let name = CStr::from_bytes_with_nul(name).ok()?;
            Some((name, view.heap(value, size as usize)))
        })
    }
}
