//! Layers on file systems that lack something, or that are unions themselves.

use super::{Target, errno, names, ours};
use crate::common::fixture::Fixture;
use crate::common::live::Mounted;
use crate::common::pattern;
use std::fs;
use std::path::Path;
use std::process::Command;

fn free(path: &Path) -> u64 {
    rustix::fs::syncfs(fs::File::open(path).unwrap()).unwrap();
    let st = rustix::fs::statvfs(path).unwrap();
    st.f_bfree * st.f_frsize
}

/// Lower and upper on one file system that shares blocks between files.
#[test]
fn a_copy_up_by_reflink_takes_no_room() {
    const SIZE: usize = 64 << 20;
    for kind in ["btrfs", "xfs"] {
        let lower = || {
            let mut fx = Fixture::new().upper_on(kind);
            let dir = fx.disk().join("lower");
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("f"), pattern(3, 0, SIZE)).unwrap();
            fx.add_lower_at(dir);
            fx
        };
        let Some((fx, mut m)) = ours(lower, "") else {
            return;
        };
        let before = free(&fx.disk());
        fs::OpenOptions::new().append(true).open(m.at("f")).unwrap();
        let copy = fx.upper().join("f");
        assert_eq!(fs::metadata(&copy).unwrap().len() as usize, SIZE);
        let taken = before.saturating_sub(free(&fx.disk()));
        // Room for names and extents.
        assert!(taken < 4 << 20, "{kind}: {taken} bytes");
        m.remount();
        assert!(fs::read(m.at("f")).unwrap() == pattern(3, 0, SIZE));
        // That it would have been seen.
        fs::write(fx.disk().join("other"), fs::read(&copy).unwrap()).unwrap();
        let taken = before.saturating_sub(free(&fx.disk())) as usize;
        assert!(taken > SIZE / 2, "{kind}: a plain copy takes {taken} bytes");
    }
}

/// Nothing but files and directories can be kept there: one line says what is
/// lost, and all else works.
#[test]
fn an_upper_without_attributes_is_served_after_one_warning() {
    let spec = "/d/f file 0640 5:6 data=\"f\"\n/d/g file data=\"g\"\n/e/x file\n/l1 file data=\"l\"\n\
                /l2 link /l1";
    for (options, marks) in [("", false), ("disable=mknod", true)] {
        let lower = || Fixture::new().lower(spec).upper_without_attributes();
        let Some((fx, mut m)) = ours(lower, options) else {
            return;
        };
        let said = fs::read_to_string(fx.path().join("mount.log")).unwrap();
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 1, "{said}");
        let wh = lines[0].contains("whiteouts are .wh. files");
        assert!(lines[0].contains("has no extended attributes: "), "{said}");
        assert_eq!(wh, marks, "{said}");
        fs::write(m.at("d/f"), "changed").unwrap();
        fs::remove_file(m.at("d/g")).unwrap();
        fs::create_dir(m.at("d/new")).unwrap();
        assert_eq!(errno(fs::rename(m.at("e"), m.at("h"))), Some(libc::EXDEV));
        fs::remove_dir_all(m.at("e")).unwrap();
        fs::write(m.at("l1"), "parted").unwrap();
        assert_eq!(fx.upper().join("d/.wh.g").exists(), marks);
        for _ in 0..2 {
            assert_eq!(names(m.path()), ["d", "l1", "l2"]);
            assert_eq!(names(&m.at("d")), ["f", "new"]);
            assert_eq!(fs::read_to_string(m.at("d/f")).unwrap(), "changed");
            assert_eq!(super::mode(&m.at("d/f")), 0o640);
            assert_eq!(fs::read_to_string(m.at("l2")).unwrap(), "l");
            m.remount();
        }
    }
}

/// Mounts a file system for a lower layer, which goes with the test.
struct LowerDisk(std::path::PathBuf);

impl LowerDisk {
    fn new(fx: &Fixture, script: &str) -> LowerDisk {
        let dir = fx.path().join(format!("disk{}", fx.lowers().len()));
        fs::create_dir(&dir).unwrap();
        let done = Command::new("sh")
            .args(["-ec", script, "sh"])
            .arg(&dir)
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        LowerDisk(dir)
    }
}

impl Drop for LowerDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

fn change_and_look(m: &mut Mounted) {
    assert!(fs::read(m.at("d/big")).unwrap() == pattern(1, 0, 300_000));
    assert_eq!(fs::read_to_string(m.at("d/f")).unwrap(), "f");
    let number = super::ino(&m.at("d/f"));
    fs::write(m.at("d/f"), "changed").unwrap();
    assert_eq!(super::ino(&m.at("d/f")), number);
    let big = fs::OpenOptions::new()
        .append(true)
        .open(m.at("d/big"))
        .unwrap();
    std::io::Write::write_all(&mut &big, b"tail").unwrap();
    drop(big);
    fs::remove_file(m.at("d/gone")).unwrap();
    fs::rename(m.at("sub"), m.at("sub2")).unwrap();
    for _ in 0..2 {
        assert_eq!(names(&m.at("d")), ["big", "f"]);
        assert_eq!(fs::read_to_string(m.at("d/f")).unwrap(), "changed");
        let mut want = pattern(1, 0, 300_000);
        want.extend(b"tail");
        assert!(fs::read(m.at("d/big")).unwrap() == want);
        assert_eq!(names(m.path()), ["d", "sub2"]);
        assert_eq!(names(&m.at("sub2")), ["x"]);
        m.remount();
    }
}

const TREE: &str =
    "mkdir -p l/d l/sub; cd l; echo -n f >d/f; >d/gone; >sub/x; cp \"$OLDPWD/../big\" d/big";

/// A mount of the layer that a script makes: it gets a directory,
/// mounts there, and leaves the layer in `l` of it. Then `seal` runs there.
fn over(script: &str, seal: &str) -> Option<(LowerDisk, Fixture, Mounted)> {
    if !crate::common::able_to_mount() || Target::from_env() != Target::Capasfs {
        return None;
    }
    let mut fx = Fixture::new();
    fs::write(fx.path().join("big"), pattern(1, 0, 300_000)).unwrap();
    let disk = LowerDisk::new(&fx, script);
    fx.add_lower_at(disk.0.join("l"));
    fx.seal();
    let done = Command::new("sh")
        .args(["-ec", seal, "sh"])
        .arg(&disk.0)
        .status();
    assert!(done.unwrap().success(), "{seal}");
    let m = fx.mount(Target::Capasfs, "");
    Some((disk, fx, m))
}

#[test]
fn a_lower_without_attributes_and_handles() {
    let script = format!("mount -t ramfs ramfs \"$1\"; cd \"$1\"; {TREE}");
    let Some((_disk, _fx, mut m)) = over(&script, "") else {
        return;
    };
    change_and_look(&mut m);
}

#[test]
fn a_lower_that_can_only_be_read() {
    let script = format!("mount -t tmpfs tmpfs \"$1\"; cd \"$1\"; {TREE}");
    let Some((_disk, _fx, mut m)) = over(&script, "mount -o remount,ro \"$1\"") else {
        return;
    };
    change_and_look(&mut m);
}

/// Images as they are packed for small machines and verified boots.
#[test]
fn a_lower_that_is_packed() {
    let script = format!("cd \"$1\"; {TREE}");
    for pack in [
        "mksquashfs . ../image -quiet -no-progress; mount -t squashfs -o loop ../image \"$1\"",
        "mkfs.erofs -zlz4hc ../image . >../pack.log; mount -t erofs -o loop ../image \"$1\"",
    ] {
        let Some((_disk, fx, mut m)) = over(&script, &format!("cd \"$1\"; {pack}")) else {
            return;
        };
        fx.seal_as_they_are();
        change_and_look(&mut m);
    }
}

/// Depth two: passthrough to what is a union of the kernel's itself.
#[test]
fn a_lower_on_overlayfs() {
    let script = format!(
        "cd \"$1\"; mkdir ../ol ../ou ../ow; (cd ../ol; {TREE}); \
         mount -t overlay o -o lowerdir=../ol,upperdir=../ou,workdir=../ow \"$1\""
    );
    let Some((_disk, _fx, mut m)) = over(&script, "") else {
        return;
    };
    change_and_look(&mut m);
}

/// And to a mount of ours, which itself passes its files on.
#[test]
fn a_lower_on_a_capasfs_mount() {
    let capasfs = crate::common::live::capasfs();
    let capasfs = capasfs.display();
    let script = format!(
        "cd \"$1\"; mkdir ../ol ../ou ../ow; (cd ../ol; {TREE}); \
         {capasfs} -o lowerdir=../ol,upperdir=../ou,workdir=../ow \"$1\""
    );
    let Some((_disk, _fx, mut m)) = over(&script, "") else {
        return;
    };
    change_and_look(&mut m);
}

/// Two layers whose files have the same numbers, on file systems that nothing
/// but their devices tells apart: neither is taken for the other.
#[test]
fn lowers_on_copies_of_one_file_system() {
    if !crate::common::able_to_mount() || Target::from_env() != Target::Capasfs {
        return;
    }
    // The names differ, the numbers do not.
    let mount = |kind: &str, names: [&str; 3]| {
        let [one, more, again] = names;
        let make = format!("echo {one} >{one}; echo {more} >{more}; ln {more} {again}");
        match kind {
            "squashfs" => format!(
                "mkdir \"$1\".d; cd \"$1\".d; mkdir l; (cd l; {make}); \
                 mksquashfs . \"$1\".img -quiet -no-progress; mount -t squashfs -o loop \"$1\".img \"$1\""
            ),
            _ => format!(
                "truncate -s 16M \"$1\".img; mkfs.ext4 -q -U 5b0b1b9e-5f0c-4a3e-9e57-1f4f0c4a0b6e \"$1\".img; \
                 mount -o loop \"$1\".img \"$1\"; mkdir \"$1\"/l; cd \"$1\"/l; {make}"
            ),
        }
    };
    for kind in ["squashfs", "ext4"] {
        let mut fx = Fixture::new();
        let disks = [["a", "m", "n"], ["b", "p", "q"]].map(|names| {
            let disk = LowerDisk::new(&fx, &mount(kind, names));
            fx.add_lower_at(disk.0.join("l"));
            disk
        });
        let number = |disk: usize, name: &str| {
            let path = disks[disk].0.join("l").join(name);
            std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap())
        };
        assert_eq!(number(0, "a"), number(1, "b"), "{kind}: not a trap");
        assert_eq!(number(0, "m"), number(1, "p"), "{kind}: not a trap");
        fx.seal_as_they_are();
        let mut m = fx.mount(Target::Capasfs, "");
        let append = |m: &Mounted, name: &str| {
            let mut file = fs::OpenOptions::new()
                .append(true)
                .open(m.at(name))
                .unwrap();
            std::io::Write::write_all(&mut file, b"new\n").unwrap();
        };
        let look = |m: &Mounted| {
            ["a", "c", "m", "n", "p", "q"].map(|name| fs::read_to_string(m.at(name)).unwrap())
        };
        let want = ["a\n", "b\nnew\n", "m\nnew\n", "", "p\nnew\n", ""];
        fs::metadata(m.at("a")).unwrap();
        append(&m, "b");
        fs::rename(m.at("b"), m.at("c")).unwrap();
        for name in ["m", "p"] {
            append(&m, name);
        }
        for _ in 0..2 {
            let got = look(&m);
            for (i, want) in want.iter().enumerate().filter(|(_, w)| !w.is_empty()) {
                assert_eq!(got[i], *want, "{kind}");
            }
            // The other names go their own way, as without an index.
            assert!(
                ["m\n", "m\nnew\n"].contains(&&*got[3]),
                "{kind}: {}",
                got[3]
            );
            assert!(
                ["p\n", "p\nnew\n"].contains(&&*got[5]),
                "{kind}: {}",
                got[5]
            );
            m.remount();
        }
        // Here, while they are mounted.
        m.unmount();
        assert_eq!(fx.lower_changes(), None);
        fx.no_lower_check();
    }
}
