use super::*;
use crate::sys::fs::{Stat, Time};

const SEEN: Seen = Seen {
    trusted: true,
    owners: 0x8765_4321,
};

fn stat(mode: u32, ino: u64) -> Stat {
    let time = |sec, nsec| Time { sec, nsec };
    Stat {
        dev: 0,
        ino,
        mode,
        nlink: 1,
        uid: 1000,
        gid: 100,
        rdev: 5,
        size: 1 << 40,
        blocks: 8,
        blksize: 4096,
        atime: time(-1, 1),
        mtime: time(1 << 35, 999_999_999),
        ctime: time(0, 0),
    }
}

fn inode(mode: u32, ino: u64, layer: u16, what: What) -> Inode {
    Inode {
        stat: stat(mode, ino),
        layer,
        xattrs: None,
        what,
    }
}

/// Two layers: `/a` of the first, `/d` of both with a symlink `s`, a metacopy
/// `m` and a name `l` that only the layers can tell of.
fn sample() -> Vec<u8> {
    let layer = |ino| LayerId {
        uuid: [3; 16],
        ino,
        ctime: Time { sec: 9, nsec: 8 },
    };
    let built = Built {
        userxattr: true,
        no_redirects: false,
        seen: SEEN,
    };
    let mut draft = Draft::new(built, &[layer(2), layer(7)]);
    let dir = |ino, layer| inode(libc::S_IFDIR | 0o755, ino, layer, What::Live);
    let root = draft.dir(dir(2, 0), &[0, 1]).unwrap();
    assert_eq!((root, draft.next_dir()), (0, 0));
    let mut file = inode(libc::S_IFREG | 0o4711, 20, 0, What::File);
    file.xattrs = draft.xattrs(&[
        (c"user.a", b"1".to_vec()),
        (c"security.capability", vec![0; 20]),
    ]);
    let a = draft.inode(&file).unwrap();
    draft.entry(b"a", a);
    let up = draft.dir_place(0, 0, b"d", true);
    let down = draft.dir_place(1, 1, b"d", false);
    let d = draft.dir(dir(30, 0), &[up, down]).unwrap();
    draft.entry(b"d", d);
    assert_eq!(draft.next_dir(), 1);
    let link = draft.symlink(b"../a");
    let data = draft.file_place(1, down, b"data");
    for (name, mode, what) in [
        ("l", libc::S_IFREG, What::Live),
        ("m", libc::S_IFREG | 0o600, What::Metacopy(data)),
        ("s", libc::S_IFLNK | 0o777, link),
    ] {
        let n = draft.inode(&inode(mode, 40, 1, what)).unwrap();
        draft.entry(name.as_bytes(), n);
    }
    draft.finish()
}

#[test]
fn what_is_written_is_read() {
    let catalog = Catalog::parse(sample()).unwrap();
    assert!(catalog.built().userxattr && !catalog.built().no_redirects);
    assert_eq!(catalog.built().seen, SEEN);
    let layers: Vec<u64> = catalog.layers().map(|l| l.ino).collect();
    assert_eq!(layers, [2, 7]);
    assert_eq!(catalog.layers().next().unwrap().ctime.nsec, 8);
    assert_eq!((catalog.len(0), catalog.len(1)), (2, 3));
    let a = catalog.inode(catalog.find(0, b"a").unwrap());
    assert_eq!(a.stat, stat(libc::S_IFREG | 0o4711, 20));
    let xattrs: Vec<_> = catalog.xattrs(&a).collect();
    assert_eq!(xattrs[0], (c"user.a", &b"1"[..]));
    assert_eq!(xattrs[1].1.len(), 20);
    let d = catalog.inode(catalog.find(0, b"d").unwrap());
    assert_eq!(d.what, What::Dir(1));
    let stack: Vec<u32> = catalog.stack(1).collect();
    let up = catalog.place(stack[0]);
    assert_eq!((up.layer, up.parent, up.name), (0, Some(0), &b"d"[..]));
    assert!(up.is_dir && up.xwhiteouts);
    let s = catalog.inode(catalog.find(1, b"s").unwrap());
    assert_eq!(catalog.target(&s).unwrap(), b"../a");
    let m = catalog.inode(catalog.find(1, b"m").unwrap());
    let What::Metacopy(data) = m.what else {
        panic!("no metacopy: {m:?}");
    };
    assert_eq!(catalog.place(data).name, b"data");
    assert!(!catalog.place(data).is_dir);
    let l = catalog.inode(catalog.find(1, b"l").unwrap());
    assert_eq!((l.what, l.stat.ino), (What::Live, 40));
    for absent in ["", "0", "aa", "e", "z"] {
        assert_eq!(catalog.find(0, absent.as_bytes()), None, "{absent}");
    }
    let names: Vec<&[u8]> = (0..4)
        .filter_map(|i| catalog.entry(1, i))
        .map(|e| e.name)
        .collect();
    assert_eq!(names, [b"l", b"m", b"s"]);
}

/// Whatever bit is wrong, the checksum sees it.
#[test]
fn a_damaged_one_is_refused() {
    let good = sample();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        assert!(Catalog::parse(bad).is_err(), "byte {at}");
    }
    for len in 0..good.len() {
        assert!(Catalog::parse(good[..len].to_vec()).is_err(), "{len} bytes");
    }
    assert!(Catalog::parse([good, vec![0]].concat()).is_err());
}

fn sealed(mut content: Vec<u8>) -> Vec<u8> {
    content.truncate(content.len() - 4);
    let sum = check::checksum(&content);
    [content, sum.to_vec()].concat()
}

/// With a checksum that fits, the content must still make sense: nothing that
/// is accepted leads out of its bounds or round in a circle.
#[test]
fn a_forged_one_is_refused_or_harmless() {
    let good = sample();
    let (mut refused, mut taken) = (0, 0);
    for at in 0..good.len() - 4 {
        for value in [0, 1, 0xff] {
            let mut forged = good.clone();
            forged[at] = value;
            match Catalog::parse(sealed(forged)) {
                Err(_) => refused += 1,
                Ok(catalog) => {
                    taken += 1;
                    walk(&catalog);
                }
            }
        }
    }
    assert!(refused > 500 && taken > 500, "{refused} {taken}");
}

/// Found by the fuzzer: a directory that nothing leads to but itself.
#[test]
fn each_directory_is_met_before_its_turn() {
    let good = Catalog::parse(sample()).unwrap();
    let (start, count) = good.head.section(format::Section::Entries);
    assert_eq!(count, 5, "a and d; l, m and s");
    let number = |entry: usize| start + entry * format::ENTRY + 4;
    let mut forged = sample();
    let (a, d) = (number(0), number(1));
    let dir: [u8; 4] = forged[d..d + 4].try_into().unwrap();
    forged.copy_within(a..a + 4, d);
    forged[number(2)..number(2) + 4].copy_from_slice(&dir);
    let refused = Catalog::parse(sealed(forged)).map(drop);
    assert_eq!(refused, Err(Damage::Content("a directory")));
}

/// Follow all that a catalog says; ends for each that is in order.
fn walk(catalog: &Catalog) {
    let mut dirs = vec![0];
    let mut met = 0;
    while let Some(dir) = dirs.pop() {
        for place in catalog.stack(dir) {
            let mut at = Some(place);
            while let Some(place) = at {
                at = catalog.place(place).parent;
            }
        }
        for position in 0..catalog.len(dir) {
            met += 1;
            let entry = catalog.entry(dir, position).unwrap();
            assert_eq!(catalog.find(dir, entry.name), Some(entry.inode));
            let inode = catalog.inode(entry.inode);
            assert!(catalog.xattrs(&inode).count() < 1 << 16);
            assert!(catalog.target(&inode).is_none_or(|t| !t.is_empty()));
            if let What::Dir(n) = inode.what {
                assert!(n > dir);
                dirs.push(n);
            }
        }
    }
    assert_eq!(met, catalog.entries());
}

#[test]
fn versions_and_features_are_told() {
    let with = |at: usize, value| {
        let mut bytes = sample();
        bytes[at] = value;
        Catalog::parse(sealed(bytes)).map(drop)
    };
    assert_eq!(with(0, b'x'), Err(Damage::Foreign));
    assert_eq!(with(8, 2), Err(Damage::Version(2)));
    assert_eq!(with(12, 1), Ok(()));
    assert_eq!(with(16, 4), Err(Damage::Feature(4)));
}

/// FUSE allows names that others do not.
#[test]
fn a_name_may_be_long() {
    let parsed = |len: usize| {
        let mut draft = Draft::new(
            Built::default(),
            &[LayerId {
                uuid: [0; 16],
                ino: 1,
                ctime: Time { sec: 0, nsec: 0 },
            }],
        );
        draft
            .dir(inode(libc::S_IFDIR, 1, 0, What::Live), &[0])
            .unwrap();
        draft.next_dir();
        let file = draft
            .inode(&inode(libc::S_IFREG, 2, 0, What::File))
            .unwrap();
        draft.entry(&vec![b'n'; len], file);
        Catalog::parse(draft.finish())
    };
    for len in [255, 256, 4095] {
        let catalog = parsed(len).unwrap();
        assert_eq!(catalog.find(0, &vec![b'n'; len]), Some(1), "{len}");
    }
    assert_eq!(parsed(4096).unwrap_err(), Damage::Content("a name"));
}
