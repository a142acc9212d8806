//! Is a file a catalog, and all of it in order.

use super::format::{
    BUILT, Built, CHECKSUM, COUNTS, Cursor, HEADER, Head, MAGIC, NO_DIR, NONE, SECTIONS, Section,
    VERSION, What, XATTR, XATTR_SET, XWHITEOUTS,
};
use super::read::View;
use std::ffi::CStr;
use std::fmt;

/// Why bytes are no catalog that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// They do not begin as one.
    Foreign,
    /// Of another version.
    Version(u32),
    /// It has features that this program does not know.
    Feature(u32),
    /// Its length or its checksum is wrong: it is cut off or damaged.
    Broken,
    /// Its content makes no sense.
    Content(&'static str),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Foreign => write!(f, "it is no catalog"),
            Damage::Version(n) => write!(f, "it has format {n}, this program knows {VERSION}"),
            Damage::Feature(bits) => {
                write!(
                    f,
                    "it has features that this program does not know ({bits:#x})"
                )
            }
            Damage::Broken => write!(f, "it is damaged"),
            Damage::Content(what) => write!(f, "it is damaged: {what}"),
        }
    }
}

/// The checksum that belongs at the end of these bytes.
pub fn checksum(bytes: &[u8]) -> [u8; 4] {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum().to_le_bytes()
}

/// Check all of a catalog, so that nothing that it says leads astray.
pub(super) fn check(bytes: &[u8]) -> Result<Head, Damage> {
    let head = header(bytes)?;
    let (content, sum) = bytes.split_last_chunk::<CHECKSUM>().ok_or(Damage::Broken)?;
    if checksum(content) != *sum {
        return Err(Damage::Broken);
    }
    let checker = Checker {
        view: View { bytes, head },
    };
    checker.places()?;
    checker.xattrs()?;
    checker.inodes()?;
    checker.dirs()?;
    Ok(head)
}

fn header(bytes: &[u8]) -> Result<Head, Damage> {
    let mut fields = Cursor(bytes.get(MAGIC.len()..HEADER).ok_or(Damage::Foreign)?);
    if !bytes.starts_with(&MAGIC) {
        return Err(Damage::Foreign);
    }
    let [version, _compatible, incompatible, built] =
        std::array::from_fn(|_| u32::from_le_bytes(fields.take()));
    if version != VERSION {
        return Err(Damage::Version(version));
    }
    if incompatible != 0 {
        return Err(Damage::Feature(incompatible));
    }
    debug_assert_eq!(fields.0.len(), HEADER - COUNTS);
    let mut head = Head::default();
    let mut at = HEADER;
    for ((_, size), section) in SECTIONS.iter().zip(&mut head.sections) {
        let count = u32::from_le_bytes(fields.take());
        *section = (at, count);
        let len = size.checked_mul(count as usize).ok_or(Damage::Broken)?;
        at = at.checked_add(len).ok_or(Damage::Broken)?;
    }
    if built > BUILT || at.checked_add(CHECKSUM) != Some(bytes.len()) {
        return Err(Damage::Broken);
    }
    head.built = Built::of(built, u32::from_le_bytes(fields.take()));
    Ok(head)
}

fn require(right: bool, wrong: &'static str) -> Result<(), Damage> {
    if right {
        Ok(())
    } else {
        Err(Damage::Content(wrong))
    }
}

/// Bytes of the longest name that any file system may have (FUSE's; others'
/// have 255).
const LONGEST: u32 = 4095;

struct Checker<'a> {
    view: View<'a>,
}

impl Checker<'_> {
    fn count(&self, section: Section) -> u32 {
        self.view.head.section(section).1
    }

    fn in_heap(&self, at: u32, len: u32) -> bool {
        let end = u64::from(at) + u64::from(len);
        end <= u64::from(self.count(Section::Heap))
    }

    fn is_name(&self, at: u32, len: u32) -> bool {
        if !(1..=LONGEST).contains(&len) || !self.in_heap(at, len) {
            return false;
        }
        let name = self.view.heap(at, len as usize);
        name != b"." && name != b".." && !name.iter().any(|b| matches!(b, 0 | b'/'))
    }

    fn places(&self) -> Result<(), Damage> {
        let (layers, places) = (self.count(Section::Layers), self.count(Section::Places));
        require(
            layers > 0 && layers <= u16::MAX.into() && layers <= places,
            "its layers",
        )?;
        for i in 0..places {
            let [first, parent, name, len] = self.view.words::<16, 4>(Section::Places, i);
            let place = self.view.place(i);
            let flags = first >> 16;
            let right = if i < layers {
                place.layer as u32 == i && flags == 0 && parent == NONE && len == 0
            } else {
                let known = flags <= u32::from(NO_DIR | XWHITEOUTS) && flags != 3;
                known && parent < i && self.is_name(name, len) && {
                    let above = self.view.place(parent);
                    above.is_dir && above.layer == place.layer
                }
            };
            require(right, "a place in a layer")?;
        }
        Ok(())
    }

    fn xattrs(&self) -> Result<(), Damage> {
        let count = self.count(Section::Xattrs);
        for i in 0..count {
            let [name, len, value, size] = self.view.words::<XATTR, 4>(Section::Xattrs, i);
            let named = (2..=256).contains(&len) && self.in_heap(name, len);
            let valued = size <= 1 << 16 && self.in_heap(value, size);
            let text = self.view.heap(name, len as usize);
            require(
                named && valued && CStr::from_bytes_with_nul(text).is_ok(),
                "an extended attribute",
            )?;
        }
        for i in 0..self.count(Section::XattrSets) {
            let [first, some] = self.view.words::<XATTR_SET, 2>(Section::XattrSets, i);
            let end = first.checked_add(some);
            require(end.is_some_and(|end| end <= count), "its attribute sets")?;
        }
        Ok(())
    }

    fn inodes(&self) -> Result<(), Damage> {
        let count = self.count(Section::Inodes);
        require(count > 0, "its inodes")?;
        for i in 0..count {
            let inode = self.view.inode(i);
            let stat = &inode.stat;
            let times = [stat.atime, stat.mtime, stat.ctime];
            let mut right = u32::from(inode.layer) < self.count(Section::Layers)
                && times.iter().all(|t| t.nsec < 1_000_000_000)
                && inode
                    .xattrs
                    .is_none_or(|set| set < self.count(Section::XattrSets));
            right &= matches!(
                stat.kind(),
                libc::S_IFREG
                    | libc::S_IFDIR
                    | libc::S_IFLNK
                    | libc::S_IFIFO
                    | libc::S_IFSOCK
                    | libc::S_IFCHR
                    | libc::S_IFBLK
            );
            right &= match inode.what {
                What::Dir(dir) => dir < self.count(Section::Dirs),
                What::Metacopy(place) => {
                    place < self.count(Section::Places) && !self.view.place(place).is_dir
                }
                What::Symlink(at, len) => {
                    (1..4096).contains(&len)
                        && self.in_heap(at, len.into())
                        && !self.view.heap(at, len.into()).contains(&0)
                }
                What::File | What::Special | What::Live => true,
            };
            require(right, "an inode")?;
        }
        require(self.view.inode(0).what == What::Dir(0), "its root")
    }

    /// Directories lie in the order in which a walk by levels meets them, so
    /// that each is met once and none contains itself.
    fn dirs(&self) -> Result<(), Damage> {
        let (mut entries, mut stacks, mut met) = (0u32, 0u32, 1u32);
        let layers = self.count(Section::Layers);
        // By layer the last directory that merges something of it, from 1.
        let mut merges = vec![0u32; layers as usize];
        for dir in 0..self.count(Section::Dirs) {
            let [first, some, stack, deep] = self.view.dir(dir);
            // One that comes before the name that leads to it could only be led
            // to by itself, or by what is in it.
            let led_to = dir < met;
            require(
                led_to && first == entries && stack == stacks && deep > 0 && deep <= layers,
                "a directory",
            )?;
            entries = first.checked_add(some).ok_or(Damage::Broken)?;
            stacks = stack.checked_add(deep).ok_or(Damage::Broken)?;
            require(
                entries <= self.count(Section::Entries) && stacks <= self.count(Section::Stacks),
                "a directory",
            )?;
            let mut above = None;
            for i in stack..stacks {
                let [place] = self.view.words::<4, 1>(Section::Stacks, i);
                let found = self.view.place(place);
                let right = place < self.count(Section::Places)
                    && found.is_dir
                    && above.is_none_or(|above| found.layer > above);
                require(right, "a stack of directories")?;
                above = Some(found.layer);
                if let Some(last) = merges.get_mut(usize::from(found.layer)) {
                    *last = dir + 1;
                }
            }
            self.entries(first..entries, dir + 1, &merges, &mut met)?;
        }
        require(
            entries == self.count(Section::Entries)
                && stacks == self.count(Section::Stacks)
                && met == self.count(Section::Dirs),
            "its directories",
        )
    }

    fn entries(
        &self,
        range: std::ops::Range<u32>,
        dir: u32,
        merges: &[u32],
        met: &mut u32,
    ) -> Result<(), Damage> {
        let mut before: &[u8] = &[];
        for i in range {
            let [name, number, len] = self.view.words::<12, 3>(Section::Entries, i);
            require(self.is_name(name, len), "a name")?;
            let name = self.view.heap(name, len as usize);
            require(before < name, "the order of names")?;
            before = name;
            let known = number > 0 && number < self.count(Section::Inodes);
            let inode = self.view.inode(number);
            let layer = merges.get(usize::from(inode.layer));
            let mut right = known && layer == Some(&dir);
            if let What::Dir(n) = inode.what {
                right &= n == *met;
                *met += 1;
            }
            require(right, "an entry")?;
        }
        Ok(())
    }
}
