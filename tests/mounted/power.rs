//! The machine stops, or the daemon is killed, while the mount is written to.

use super::{Target, mode, names, ours};
use crate::common::fixture::Fixture;
use crate::common::live::Mounted;
use crate::common::pattern;
use crate::common::sys::{LOG_FLUSH, NO_LOG_FLUSH};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

const FILES: u64 = 12;
/// Below and above what is read through the daemon.
const SIZES: [usize; 2] = [5000, 300_000];

fn lower() -> Fixture {
    let spec: String = (0..FILES)
        .flat_map(|n| {
            SIZES.map(|size| {
                format!(
                    "/d/old{n}.{size} file size={size} data=@{n}\n\
                     /d/kept{n}.{size} file size={size} data=@{n}\n"
                )
            })
        })
        .collect();
    Fixture::new().lower(&spec)
}

fn append(path: &Path, sync: bool) {
    let mut f = fs::OpenOptions::new().append(true).open(path).unwrap();
    f.write_all(b"tail").unwrap();
    if sync {
        f.sync_all().unwrap();
    }
}

fn change(m: &Mounted) {
    for n in 0..FILES {
        for size in SIZES {
            append(&m.at(&format!("d/old{n}.{size}")), false);
            append(&m.at(&format!("d/kept{n}.{size}")), true);
        }
        let f = fs::File::create(m.at(&format!("new{n}"))).unwrap();
        f.write_all_at(&pattern(n + 50, 0, 50_000), 0).unwrap();
        f.sync_all().unwrap();
    }
    // Nobody syncs these: they show that the cut is one.
    for n in 0..FILES {
        fs::write(m.at(&format!("lost{n}")), vec![b'x'; 50_000]).unwrap();
    }
}

/// How many of the files that nobody synced are not as they were written.
fn check(m: &Mounted, when: &str) -> usize {
    for n in 0..FILES {
        for size in SIZES {
            let old = pattern(n, 0, size);
            let mut new = old.clone();
            new.extend(b"tail");
            // What was appended and not synced may be there, or not, or be zeros
            // as the disk's file system likes; the copy before it is whole.
            let got = fs::read(m.at(&format!("d/old{n}.{size}"))).unwrap();
            let len = got.len();
            assert!(
                len == size || len == size + 4,
                "{when}: old{n}.{size}, {len} bytes"
            );
            assert!(got[..size] == old, "{when}: old{n}.{size} is a mix");
            let got = fs::read(m.at(&format!("d/kept{n}.{size}"))).unwrap();
            assert!(got == new, "{when}: kept{n}.{size}, {} bytes", got.len());
        }
        let got = fs::read(m.at(&format!("new{n}"))).unwrap();
        assert!(got == pattern(n + 50, 0, 50_000), "{when}: new{n}");
    }
    let whole = |n: &u64| fs::read(m.at(&format!("lost{n}"))).is_ok_and(|d| d == [b'x'; 50_000]);
    (0..FILES).filter(|n| !whole(n)).count()
}

#[test]
fn after_a_power_cut_copies_are_whole_and_what_was_synced_is_there() {
    let mut lost = 0;
    for kind in ["ext4", "xfs"] {
        for flags in [NO_LOG_FLUSH, LOG_FLUSH] {
            let Some((fx, mut m)) = ours(|| lower().upper_on(kind), "") else {
                return;
            };
            change(&m);
            fx.power_off(flags);
            m.unmount();
            fx.power_on();
            m.start().unwrap();
            lost += check(&m, &format!("{kind}, flags {flags}"));
            assert!(names(&fx.work().join("work")).is_empty());
            // And it goes on.
            append(&m.at("d/old0.5000"), true);
            m.remount();
        }
    }
    assert!(lost > 0, "the power was never cut");
}

#[test]
fn a_killed_daemon_loses_nothing_that_was_acknowledged() {
    let spec = "/d/f file size=300000 data=@1\n/d/s file size=5000 data=@2\n/d/gone file\n\
                /d/moved file data=\"m\"\n/set file 4755 data=\"set\"\n/dir/x file";
    let Some((fx, mut m)) = ours(|| Fixture::new().lower(spec), "") else {
        return;
    };
    for round in 0..5u8 {
        let (name, tail) = (format!("new{round}"), [round; 700]);
        for file in ["d/f", "d/s"] {
            let mut f = fs::OpenOptions::new()
                .append(true)
                .open(m.at(file))
                .unwrap();
            f.write_all(&tail).unwrap();
        }
        // Through the daemon.
        let set = fs::OpenOptions::new()
            .write(true)
            .open(m.at("set"))
            .unwrap();
        set.write_all_at(&[b'0' + round], 3).unwrap();
        fs::write(m.at(&name), tail).unwrap();
        fs::set_permissions(m.at(&name), fs::Permissions::from_mode(0o640)).unwrap();
        match round {
            0 => fs::remove_file(m.at("d/gone")).unwrap(),
            1 => fs::rename(m.at("d/moved"), m.at("away")).unwrap(),
            2 => fs::rename(m.at("dir"), m.at("dir2")).unwrap(),
            3 => fs::hard_link(m.at("d/s"), m.at("d/t")).unwrap(),
            _ => fs::create_dir_all(m.at("deep/er")).unwrap(),
        }
        // Held open, and unlinked: gone with the daemon.
        let held = fs::File::create(m.at("held")).unwrap();
        fs::remove_file(m.at("held")).unwrap();
        drop((set, held));
        m.kill();
        m.start().unwrap();
        for (file, seed, size) in [("d/f", 1, 300_000), ("d/s", 2, 5000)] {
            let mut want = pattern(seed, 0, size);
            (0..=round).for_each(|r| want.extend([r; 700]));
            assert!(fs::read(m.at(file)).unwrap() == want, "{file}, {round}");
        }
        assert_eq!(
            fs::read(m.at("set")).unwrap(),
            [b's', b'e', b't', b'0' + round]
        );
        for r in 0..=round {
            let path = m.at(&format!("new{r}"));
            assert_eq!(fs::read(&path).unwrap(), [r; 700]);
            assert_eq!(mode(&path), 0o640);
        }
        assert!(names(&fx.work().join("work")).is_empty());
    }
    assert_eq!(names(&m.at("d")), ["f", "s", "t"]);
    assert!(fs::read(m.at("d/s")).unwrap() == fs::read(m.at("d/t")).unwrap());
    assert_eq!(fs::read_to_string(m.at("away")).unwrap(), "m");
    assert!(m.at("dir2/x").exists() && !m.at("dir").exists());
    assert!(m.at("deep/er").is_dir() && !m.at("held").exists());
    assert_eq!(m.target(), Target::Capasfs);
}
