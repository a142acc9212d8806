//! Hard links: one file stays one file.

use super::{Target, ino, mounted};
use crate::common::fixture::Fixture;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

const BARE: (Target, &str) = (
    Target::OverlayBare,
    "without index, copy-up breaks hard links",
);
const LINKED: &str = "/d/a file 0640 size=6 data=\"lower\\x0a\"\n/d/b link /d/a\n/e/c link /d/a";

#[test]
fn a_write_through_one_name_shows_under_all_live_and_after_remount() {
    let Some((_fx, mut m)) = mounted(&[LINKED], &[BARE]) else {
        return;
    };
    let numbers: Vec<u64> = ["d/a", "d/b", "e/c"]
        .iter()
        .map(|n| ino(&m.at(n)))
        .collect();
    assert!(numbers.iter().all(|n| *n == numbers[0]));
    fs::write(m.at("d/a"), "changed").unwrap();
    for round in 0..2 {
        for (n, name) in ["d/a", "d/b", "e/c"].iter().enumerate() {
            assert_eq!(
                fs::read_to_string(m.at(name)).unwrap(),
                "changed",
                "{name} round {round}"
            );
            let st = fs::metadata(m.at(name)).unwrap();
            assert_eq!(st.nlink(), 3, "{name} round {round}");
            assert_eq!(st.ino(), numbers[n], "{name} round {round}");
            assert_eq!(st.mode() & 0o7777, 0o640);
        }
        m.remount();
    }
}

#[test]
fn a_descriptor_of_another_name_sees_the_write() {
    let Some((_fx, m)) = mounted(&[LINKED], &[BARE]) else {
        return;
    };
    let old = fs::File::open(m.at("d/b")).unwrap();
    fs::write(m.at("d/a"), "changed").unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut &old, &mut text).unwrap();
    assert_eq!(text, "changed");
}

#[test]
fn unlinking_names_counts_down_over_remounts() {
    let Some((_fx, mut m)) = mounted(&[LINKED], &[BARE]) else {
        return;
    };
    let number = ino(&m.at("d/b"));
    fs::remove_file(m.at("d/a")).unwrap();
    assert_eq!(fs::metadata(m.at("d/b")).unwrap().nlink(), 2);
    m.remount();
    let st = fs::metadata(m.at("e/c")).unwrap();
    assert_eq!((st.nlink(), st.ino()), (2, number));
    fs::remove_file(m.at("d/b")).unwrap();
    m.remount();
    let st = fs::metadata(m.at("e/c")).unwrap();
    assert_eq!((st.nlink(), st.ino()), (1, number));
    assert_eq!(fs::read_to_string(m.at("e/c")).unwrap(), "lower\n");
    fs::remove_file(m.at("e/c")).unwrap();
    m.remount();
    assert!(!m.at("e/c").exists() && !m.at("d/a").exists());
}

#[test]
fn a_link_to_a_lower_file_is_the_same_file() {
    let Some((_fx, mut m)) = mounted(&["/f file data=\"text\""], &[]) else {
        return;
    };
    let number = ino(&m.at("f"));
    fs::hard_link(m.at("f"), m.at("g")).unwrap();
    for round in 0..2 {
        for name in ["f", "g"] {
            let st = fs::metadata(m.at(name)).unwrap();
            assert_eq!((st.nlink(), st.ino()), (2, number), "{name} round {round}");
        }
        m.remount();
    }
    fs::write(m.at("g"), "more").unwrap();
    assert_eq!(fs::read_to_string(m.at("f")).unwrap(), "more");
}

#[test]
fn a_new_link_joins_the_lower_group() {
    let Some((_fx, mut m)) = mounted(&[LINKED], &[BARE]) else {
        return;
    };
    fs::hard_link(m.at("e/c"), m.at("new")).unwrap();
    for _ in 0..2 {
        for name in ["d/a", "d/b", "e/c", "new"] {
            let st = fs::metadata(m.at(name)).unwrap();
            assert_eq!((st.nlink(), st.ino()), (4, ino(&m.at("d/a"))), "{name}");
        }
        m.remount();
    }
    fs::write(m.at("new"), "all of them").unwrap();
    assert_eq!(fs::read_to_string(m.at("d/b")).unwrap(), "all of them");
}

#[test]
fn two_names_of_different_size_stay_apart_after_remount() {
    // fuse-overlayfs 1.x shows one with the size of the other.
    let layer = "/a file size=2 data=\"aa\"\n/b link /a\n/c file size=5 data=\"ccccc\"";
    let Some((_fx, mut m)) = mounted(&[layer], &[]) else {
        return;
    };
    fs::remove_file(m.at("b")).unwrap();
    fs::write(m.at("b"), "bbbbb").unwrap();
    m.remount();
    assert_eq!(fs::read_to_string(m.at("a")).unwrap(), "aa");
    assert_eq!(fs::read_to_string(m.at("b")).unwrap(), "bbbbb");
    assert_ne!(ino(&m.at("a")), ino(&m.at("b")));
}

#[test]
fn rename_of_one_name_onto_another_of_the_same_file_does_nothing() {
    let Some((_fx, mut m)) = mounted(&[LINKED], &[BARE]) else {
        return;
    };
    fs::rename(m.at("d/a"), m.at("d/b")).unwrap();
    for _ in 0..2 {
        assert!(m.at("d/a").exists() && m.at("d/b").exists());
        assert_eq!(fs::metadata(m.at("d/a")).unwrap().nlink(), 3);
        m.remount();
    }
}

#[test]
fn sixteen_threads_copy_one_file_up_once() {
    let Some((_fx, m)) = mounted(&["/f file size=300000 data=@4"], &[]) else {
        return;
    };
    let number = ino(&m.at("f"));
    std::thread::scope(|s| {
        for n in 0..16u64 {
            let path = m.at("f");
            s.spawn(move || {
                let f = fs::OpenOptions::new().write(true).open(path).unwrap();
                std::os::unix::fs::FileExt::write_all_at(&f, &[n as u8; 100], n * 1000).unwrap();
            });
        }
    });
    let got = fs::read(m.at("f")).unwrap();
    assert_eq!(got.len(), 300_000);
    let mut want = crate::common::pattern(4, 0, 300_000);
    for n in 0..16usize {
        want[n * 1000..n * 1000 + 100].fill(n as u8);
    }
    assert!(got == want, "a write was lost");
    assert_eq!(ino(&m.at("f")), number);
}

/// The kernel still knows the others by the node of the descriptor that reads
/// the lower file.
#[test]
fn names_of_a_large_file_are_counted_while_its_lower_is_read() {
    let spec = "/a file 0644 size=300000 data=@1\n/b link /a\n/c link /a";
    let Some((_fx, m)) = mounted(&[spec], &[BARE]) else {
        return;
    };
    let reader = fs::File::open(m.at("a")).unwrap();
    assert_eq!(fs::metadata(m.at("b")).unwrap().nlink(), 3);
    let writer = fs::OpenOptions::new().append(true).open(m.at("a")).unwrap();
    assert_eq!(writer.metadata().unwrap().nlink(), 3);
    for (name, left) in [("b", 2), ("c", 1), ("a", 0)] {
        fs::remove_file(m.at(name)).unwrap();
        assert_eq!(writer.metadata().unwrap().nlink(), left, "{name}");
        assert_eq!(reader.metadata().unwrap().nlink(), left, "{name}");
    }
}

/// Without an index each name is a file of its own once it is changed. It stays
/// the one that callers have, whatever becomes of its name.
#[test]
fn without_an_index_a_name_that_was_moved_is_the_file_that_it_was() {
    if !crate::common::able_to_mount() || Target::from_env() == Target::FuseOverlayfs {
        return;
    }
    let fx = Fixture::new().lower("/a file data=\"x\"\n/b link /a\n/d dir");
    let mut m = fx.mount(Target::from_env(), "index=off");
    // As a caller of stat(2) the kernel knows the file by its old name.
    assert_eq!(fs::metadata(m.at("a")).unwrap().nlink(), 2);
    fs::rename(m.at("a"), m.at("c")).unwrap();
    let append = |name: &str| {
        let mut file = fs::OpenOptions::new()
            .append(true)
            .open(m.at(name))
            .unwrap();
        file.write_all(b"y").unwrap();
    };
    append("c");
    fs::set_permissions(m.at("c"), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(!m.at("a").exists());
    fs::hard_link(m.at("c"), m.at("e")).unwrap();
    fs::rename(m.at("c"), m.at("d/c")).unwrap();
    append("d/c");
    append("e");
    fs::remove_file(m.at("d/c")).unwrap();
    append("e");
    for round in ["live", "remounted"] {
        let st = fs::metadata(m.at("e")).unwrap();
        assert_eq!((st.nlink(), st.mode() & 0o777), (1, 0o600), "{round}");
        assert_ne!(st.ino(), ino(&m.at("b")), "{round}");
        assert_eq!(fs::read(m.at("e")).unwrap(), b"xyyyy", "{round}");
        assert_eq!(fs::read(m.at("b")).unwrap(), b"x", "{round}");
        m.remount();
    }
}
