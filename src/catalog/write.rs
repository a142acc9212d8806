//! A catalog in the making.

use super::MOST_BYTES;
use super::check::checksum;
use super::format::{
    Built, COUNTS, HEADER, Inode, LayerId, MAGIC, NO_DIR, NONE, SECTIONS, Section, VERSION, What,
    XWHITEOUTS,
};
use std::collections::HashMap;
use std::ffi::CStr;

/// The tree has more than a catalog holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

/// What of a catalog is there so far. Directories are given by levels: the
/// entries of the root, then those of the first directory among them, and so
/// on; see [`Draft::next_dir`].
#[derive(Debug)]
pub struct Draft {
    built: Built,
    sections: [Vec<u8>; SECTIONS.len()],
    /// First entry, number of entries, first of the stack, number there.
    dirs: Vec<[u32; 4]>,
    /// Directories whose entries have been given, with that in the making.
    done: usize,
    /// What is in the heap already.
    known: HashMap<Vec<u8>, u32>,
    /// Sets of attributes by their records in `xattrs`.
    sets: HashMap<Vec<u8>, u32>,
    bytes: u64,
}

impl Draft {
    /// Nothing yet; the roots of the layers are the first places.
    pub fn new(built: Built, layers: &[LayerId]) -> Draft {
        let mut draft = Draft {
            built,
            sections: Default::default(),
            dirs: Vec::new(),
            done: 0,
            known: HashMap::new(),
            sets: HashMap::new(),
            bytes: 0,
        };
        for (i, layer) in (0u16..).zip(layers) {
            draft.put(Section::Layers, &layer.encode());
            draft.put_place(i, 0, NONE, (0, 0));
        }
        draft
    }

    fn put(&mut self, section: Section, record: &[u8]) {
        if let Some(section) = self.sections.get_mut(section as usize) {
            section.extend_from_slice(record);
        }
        self.bytes += record.len() as u64;
    }

    fn put_words<const N: usize>(&mut self, section: Section, words: [u32; N]) {
        for word in words {
            self.put(section, &word.to_le_bytes());
        }
    }

    fn count(&self, section: Section) -> u32 {
        let size = SECTIONS.get(section as usize).map_or(1, |(_, size)| *size);
        let bytes = self.sections.get(section as usize).map_or(0, Vec::len);
        // `too_large` sees to it that it fits.
        (bytes / size) as u32
    }

    fn too_large(&self) -> Result<(), TooLarge> {
        if self.bytes > MOST_BYTES / 2 {
            return Err(TooLarge);
        }
        Ok(())
    }

    fn heap(&mut self, bytes: &[u8]) -> u32 {
        if let Some(at) = self.known.get(bytes) {
            return *at;
        }
        let at = self.count(Section::Heap);
        self.put(Section::Heap, bytes);
        self.known.insert(bytes.to_vec(), at);
        at
    }

    fn put_place(&mut self, layer: u16, flags: u16, parent: u32, (name, len): (u32, u32)) -> u32 {
        let number = self.count(Section::Places);
        self.put(Section::Places, &layer.to_le_bytes());
        self.put(Section::Places, &flags.to_le_bytes());
        self.put_words(Section::Places, [parent, name, len]);
        number
    }

    /// A directory in a layer.
    pub fn dir_place(&mut self, layer: u16, parent: u32, name: &[u8], xwhiteouts: bool) -> u32 {
        let flags = if xwhiteouts { XWHITEOUTS } else { 0 };
        let at = self.heap(name);
        self.put_place(layer, flags, parent, (at, name.len() as u32))
    }

    /// Where a metacopy's data is in a layer.
    pub fn file_place(&mut self, layer: u16, parent: u32, name: &[u8]) -> u32 {
        let at = self.heap(name);
        self.put_place(layer, NO_DIR, parent, (at, name.len() as u32))
    }

    /// The target of a symlink.
    pub fn symlink(&mut self, target: &[u8]) -> What {
        What::Symlink(self.heap(target), target.len() as u16)
    }

    /// A set of extended attributes; none for an empty one.
    pub fn xattrs(&mut self, list: &[(&CStr, Vec<u8>)]) -> Option<u32> {
        if list.is_empty() {
            return None;
        }
        let mut records = Vec::new();
        for (name, value) in list {
            let name = name.to_bytes_with_nul();
            let place = [self.heap(name), name.len() as u32];
            let value = [self.heap(value), value.len() as u32];
            for word in place.into_iter().chain(value) {
                records.extend_from_slice(&word.to_le_bytes());
            }
        }
        if let Some(set) = self.sets.get(&records) {
            return Some(*set);
        }
        let set = self.count(Section::XattrSets);
        let first = self.count(Section::Xattrs);
        self.put_words(Section::XattrSets, [first, list.len() as u32]);
        self.put(Section::Xattrs, &records);
        self.sets.insert(records, set);
        Some(set)
    }

    /// An inode that is no directory.
    ///
    /// # Errors
    /// When there are too many.
    pub fn inode(&mut self, inode: &Inode) -> Result<u32, TooLarge> {
        self.too_large()?;
        let number = self.count(Section::Inodes);
        self.put(Section::Inodes, &inode.encode());
        Ok(number)
    }

    /// A directory that merges these places, top first. The root is the first
    /// of all inodes, others are given while they are met.
    ///
    /// # Errors
    /// When there are too many.
    pub fn dir(&mut self, mut inode: Inode, stack: &[u32]) -> Result<u32, TooLarge> {
        inode.what = What::Dir(self.dirs.len() as u32);
        let first = self.count(Section::Stacks);
        for place in stack {
            self.put_words(Section::Stacks, [*place]);
        }
        self.dirs.push([0, 0, first, stack.len() as u32]);
        self.inode(&inode)
    }

    /// Entries are from now on those of the next directory; its number.
    pub fn next_dir(&mut self) -> u32 {
        let first = self.count(Section::Entries);
        if let Some(dir) = self.dirs.get_mut(self.done) {
            *dir = [first, 0, dir[2], dir[3]];
        }
        self.done += 1;
        self.done as u32 - 1
    }

    /// A name, greater than those before it in the directory.
    pub fn entry(&mut self, name: &[u8], inode: u32) {
        let at = self.heap(name);
        self.put_words(Section::Entries, [at, inode, name.len() as u32]);
        if let Some([_, count, ..]) = self.dirs.get_mut(self.done.wrapping_sub(1)) {
            *count += 1;
        }
    }

    /// The file.
    pub fn finish(mut self) -> Vec<u8> {
        for dir in std::mem::take(&mut self.dirs) {
            self.put_words(Section::Dirs, dir);
        }
        let mut out = MAGIC.to_vec();
        for word in [VERSION, 0, 0, self.built.bits()] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        debug_assert_eq!(out.len(), COUNTS);
        for (section, _) in SECTIONS {
            out.extend_from_slice(&self.count(section).to_le_bytes());
        }
        out.extend_from_slice(&self.built.seen.owners.to_le_bytes());
        debug_assert_eq!(out.len(), HEADER);
        self.sections.iter().for_each(|s| out.extend_from_slice(s));
        let sum = checksum(&out);
        out.extend_from_slice(&sum);
        out
    }
}
