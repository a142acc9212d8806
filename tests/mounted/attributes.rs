//! Owners, modes, times, ACLs, capabilities.

use super::{Target, mode, mounted};
use crate::common::sys::{as_user, ioctl, with_umask, xattr, xattr_names};
use crate::common::tree::{DumpOptions, Mtime, assert_tree};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

const CAP: &str = "0x0100000200200000000000000000000000000000";

fn write_as_other(path: &Path) {
    as_user(1000, 1000, || {
        let f = fs::OpenOptions::new().write(true).open(path).unwrap();
        f.write_all_at(b"x", 0).unwrap();
    });
}

#[test]
fn a_write_by_another_user_clears_set_id_bits() {
    // One file per way, small and large: large ones are written by passthrough.
    let all = ["w", "t", "o", "f", "p", "c"];
    let spec: String = all
        .iter()
        .map(|n| format!("/{n} file 6777 size=20 data=@1\n/{n}big file 6777 size=400000 data=@2\n"))
        .collect();
    let Some((_fx, mut m)) = mounted(&[&spec], &[]) else {
        return;
    };
    for big in ["", "big"] {
        let at = |n: &str| m.at(&format!("{n}{big}"));
        write_as_other(&at("w"));
        as_user(1000, 1000, || {
            let open = |p| fs::OpenOptions::new().write(true).open(p).unwrap();
            open(at("t")).set_len(5).unwrap();
            let mut trunc = fs::OpenOptions::new();
            trunc.write(true).truncate(true).open(at("o")).unwrap();
            rustix::fs::fallocate(
                open(at("f")),
                rustix::fs::FallocateFlags::empty(),
                0,
                900_000,
            )
            .unwrap();
            let twice = open(at("p"));
            twice.write_all_at(b"1", 0).unwrap();
            twice.write_all_at(b"2", 1).unwrap();
            let from = fs::File::open(at("w")).unwrap();
            rustix::fs::copy_file_range(&from, None, open(at("c")), None, 3).unwrap();
        });
    }
    for _ in 0..2 {
        for n in all {
            for big in ["", "big"] {
                assert_eq!(mode(&m.at(&format!("{n}{big}"))), 0o777, "{n}{big}");
            }
        }
        m.remount();
    }
}

#[test]
fn set_id_bits_come_back_and_go_again_while_a_descriptor_is_open() {
    let Some((_fx, m)) = mounted(&["/f file 0777 size=300000 data=@2"], &[]) else {
        return;
    };
    let path = m.at("f");
    let f = as_user(1000, 1000, || {
        let f = fs::OpenOptions::new().write(true).open(&path).unwrap();
        f.write_all_at(b"x", 0).unwrap();
        f
    });
    for (at, bits) in [(1, 0o4000), (2, 0o2000), (3, 0o6000)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(bits | 0o777)).unwrap();
        assert_eq!(mode(&path), bits | 0o777);
        as_user(1000, 1000, || f.write_all_at(b"y", at).unwrap());
        assert_eq!(mode(&path), 0o777);
    }
}

/// The mode of a file of a plain directory that we have written to.
fn plain_after_a_write(mode: u32) -> u32 {
    let mut plain = tempfile::NamedTempFile::new().unwrap();
    fs::set_permissions(plain.path(), fs::Permissions::from_mode(mode)).unwrap();
    plain.write_all(b"y").unwrap();
    self::mode(plain.path())
}

#[test]
fn set_id_bits_stay_when_root_writes_and_setgid_without_x_stays() {
    let Some((_fx, m)) = mounted(&["/r file 6755 data=\"x\"\n/l file 2666 data=\"x\""], &[]) else {
        return;
    };
    // The root of a user namespace loses them on a plain directory too.
    let root = plain_after_a_write(0o6755);
    fs::OpenOptions::new()
        .append(true)
        .open(m.at("r"))
        .unwrap()
        .write_all(b"y")
        .unwrap();
    assert_eq!(mode(&m.at("r")), root);
    write_as_other(&m.at("l"));
    // Group 0 is not the writer's: a plain directory clears it too since Linux 6.2; compare.
    let plain = tempfile::NamedTempFile::new().unwrap();
    fs::set_permissions(plain.path(), fs::Permissions::from_mode(0o2666)).unwrap();
    write_as_other(plain.path());
    assert_eq!(mode(&m.at("l")), mode(plain.path()));
}

/// Both come to the daemon as the same message.
#[test]
fn a_write_that_drops_a_capability_is_no_chown() {
    let spec = format!(
        "/w file 6711 data=\"x\" cap={CAP}\n/c file 6711 cap={CAP}\n/d file 6755 data=\"x\""
    );
    let Some((_fx, m)) = mounted(&[&spec], &[]) else {
        return;
    };
    let f = fs::OpenOptions::new().write(true).open(m.at("w")).unwrap();
    f.write_all_at(b"y", 0).unwrap();
    assert!(xattr(&m.at("w"), b"security.capability").is_err());
    assert_eq!(mode(&m.at("w")), plain_after_a_write(0o6711));
    for (name, want) in [("c", 0o711), ("d", 0o755)] {
        std::os::unix::fs::chown(m.at(name), None, None).unwrap();
        assert!(xattr(&m.at(name), b"security.capability").is_err());
        assert_eq!(mode(&m.at(name)), want, "{name}");
    }
}

#[test]
fn a_write_or_chown_removes_file_capabilities() {
    let spec = format!(
        "/w file 0777 data=\"x\" cap={CAP}\n/big file 0777 size=300000 data=@1 cap={CAP}\n\
         /c file 0755 cap={CAP}\n/keep file 0755 cap={CAP}\n/t file 0777 data=\"xyz\" cap={CAP}\n\
         /fa file 0777 data=\"x\" cap={CAP}\n/ot file 0777 data=\"x\" cap={CAP}\n\
         /cf file 0777 data=\"x\" cap={CAP}\n/src file 0777 data=\"source\""
    );
    let Some((_fx, mut m)) = mounted(&[&spec], &[]) else {
        return;
    };
    write_as_other(&m.at("w"));
    let f = fs::OpenOptions::new()
        .write(true)
        .open(m.at("big"))
        .unwrap();
    f.write_all_at(b"root", 7).unwrap();
    drop(f);
    std::os::unix::fs::chown(m.at("c"), Some(1000), None).unwrap();
    fs::set_permissions(m.at("keep"), fs::Permissions::from_mode(0o700)).unwrap();
    as_user(1000, 1000, || {
        let f = fs::OpenOptions::new().write(true).open(m.at("t")).unwrap();
        f.set_len(1).unwrap();
        let open = |n: &str| fs::OpenOptions::new().write(true).open(m.at(n)).unwrap();
        let no_flags = rustix::fs::FallocateFlags::empty();
        rustix::fs::fallocate(open("fa"), no_flags, 0, 5000).unwrap();
        let mut cut = fs::OpenOptions::new();
        cut.write(true).truncate(true).open(m.at("ot")).unwrap();
        let from = fs::File::open(m.at("src")).unwrap();
        rustix::fs::copy_file_range(&from, None, open("cf"), None, 3).unwrap();
    });
    for _ in 0..2 {
        for gone in ["w", "big", "c", "t", "fa", "ot", "cf"] {
            let left = xattr_names(&m.at(gone)).unwrap();
            assert!(left.is_empty(), "{gone}: {left:?}");
        }
        assert_eq!(
            xattr(&m.at("keep"), b"security.capability").unwrap().len(),
            20
        );
        m.remount();
    }
}

#[test]
fn chown_clears_set_id_bits_of_files_only() {
    let Some((_fx, m)) = mounted(&["/f file 6755\n/d dir 2755"], &[]) else {
        return;
    };
    std::os::unix::fs::chown(m.at("f"), Some(5), Some(5)).unwrap();
    std::os::unix::fs::chown(m.at("d"), Some(5), Some(5)).unwrap();
    assert_eq!((mode(&m.at("f")), mode(&m.at("d"))), (0o755, 0o2755));
}

#[test]
fn directories_keep_all_they_have_when_a_child_is_copied_up() {
    let dirs = "/a dir 0700 1:2 mtime=1000.000000001 user.k=\"v\"\n\
                /a/b dir 0711 3:4 mtime=-5.25 acl=u::rwx,u:7:r-x,g::--x,m::r-x,o::--x\n\
                /a/b/c dir 1777 5:6 mtime=9000000000.5 default=u::rwx,g::rwx,o::---\n\
                /a/b/c/d dir 2750 7:8 mtime=77 trusted.k=\"v\"\n\
                /a/b/c/d/f file 0604 9:9 size=3 data=\"abc\" mtime=123.456";
    let Some((fx, mut m)) = mounted(&[dirs], &[]) else {
        return;
    };
    let now = crate::common::tree::dump(m.path(), &DumpOptions::default());
    // In place, so that no directory of the merged tree changes.
    let f = fs::OpenOptions::new()
        .write(true)
        .open(m.at("a/b/c/d/f"))
        .unwrap();
    f.write_all_at(b"xyz", 0).unwrap();
    let back = fs::FileTimes::new()
        .set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_nanos(123_456_000_000));
    f.set_times(back).unwrap();
    drop(f);
    let want = dirs.replace("\"abc\"", "\"xyz\"");
    // The root is not part of the text.
    let exact = DumpOptions {
        mtime: Mtime::Exact,
        ..DumpOptions::default()
    };
    for _ in 0..2 {
        let root = fs::metadata(m.path()).unwrap();
        assert_eq!(root.mode() & 0o7777, 0o755);
        assert_tree(
            &m.at("a"),
            &want.replace("/a/", "/").replace("/a dir", "/ dir"),
            &exact,
        );
        m.remount();
    }
    drop(now);
    assert!(fx.upper().join("a/b/c/d/f").exists());
    assert_eq!(mode(&fx.upper().join("a")), 0o700);
}

#[test]
fn the_callers_umask_counts_and_not_the_daemons() {
    let Some((_fx, m)) = mounted(&["/d dir 0777"], &[]) else {
        return;
    };
    for (mask, file, dir) in [
        (0o022, 0o644, 0o755),
        (0o077, 0o600, 0o700),
        (0, 0o666, 0o777),
    ] {
        with_umask(mask, || {
            let at = |n: &str| m.at(&format!("d/{n}{mask:o}"));
            let mut o = fs::OpenOptions::new();
            o.write(true)
                .create_new(true)
                .mode(0o666)
                .open(at("f"))
                .unwrap();
            fs::create_dir(at("d")).unwrap();
            let kind = rustix::fs::FileType::Fifo;
            let all = rustix::fs::Mode::from_raw_mode(0o666);
            rustix::fs::mknodat(rustix::fs::CWD, at("p"), kind, all, 0).unwrap();
            assert_eq!(mode(&at("f")), file);
            assert_eq!(mode(&at("d")), dir);
            assert_eq!(mode(&at("p")), file);
        });
    }
}

#[test]
fn new_files_belong_to_the_caller_and_to_the_group_of_a_setgid_directory() {
    let Some((_fx, mut m)) = mounted(&["/d dir 0777\n/g dir 2777 0:50"], &[]) else {
        return;
    };
    as_user(1000, 1001, || {
        fs::write(m.at("d/f"), "x").unwrap();
        fs::write(m.at("g/f"), "x").unwrap();
        fs::create_dir(m.at("g/d")).unwrap();
        std::os::unix::fs::symlink("x", m.at("g/s")).unwrap();
    });
    for _ in 0..2 {
        let owner = |n: &str| {
            let st = fs::symlink_metadata(m.at(n)).unwrap();
            (st.uid(), st.gid())
        };
        assert_eq!(owner("d/f"), (1000, 1001));
        assert_eq!(owner("g/f"), (1000, 50));
        assert_eq!(owner("g/d"), (1000, 50));
        assert_eq!(owner("g/s"), (1000, 50));
        assert_eq!(mode(&m.at("g/d")) & 0o2000, 0o2000, "setgid is inherited");
        m.remount();
    }
}

#[test]
fn default_acls_are_inherited_as_on_a_plain_directory() {
    let spec = "/d dir 0755 default=u::rwx,u:1000:rwx,g::r-x,m::rwx,o::---";
    let Some((fx, mut m)) = mounted(&[spec], &[]) else {
        return;
    };
    let plain = fx.path().join("model");
    fs::create_dir(&plain).unwrap();
    crate::common::tree::build(&plain, spec);
    for root in [plain.as_path(), m.path()] {
        with_umask(0o077, || {
            let mut o = fs::OpenOptions::new();
            o.write(true).create_new(true).mode(0o664);
            o.open(root.join("d/f")).unwrap();
            fs::create_dir(root.join("d/sub")).unwrap();
            o.open(root.join("d/sub/f")).unwrap();
        });
    }
    for _ in 0..2 {
        let dump = |p: &Path| crate::common::tree::dump(p, &DumpOptions::default());
        let diff = crate::common::tree::compare(&dump(&plain), &dump(m.path()));
        assert!(diff.is_none(), "{}", diff.unwrap_or_default());
        m.remount();
    }
}

#[test]
fn acls_decide_who_may_read() {
    let spec = "/f file 0600 data=\"x\" acl=u::rw-,u:1000:r--,g::---,m::r--,o::---\n\
                /d dir 0700 acl=u::rwx,u:1000:r-x,g::---,m::r-x,o::---\n/d/g file 0644 data=\"y\"";
    let Some((_fx, m)) = mounted(&[spec], &[]) else {
        return;
    };
    for round in 0..2 {
        as_user(1000, 1000, || {
            assert_eq!(fs::read_to_string(m.at("f")).unwrap(), "x", "round {round}");
            assert_eq!(fs::read_to_string(m.at("d/g")).unwrap(), "y");
            let denied = fs::OpenOptions::new().write(true).open(m.at("f"));
            assert_eq!(denied.unwrap_err().raw_os_error(), Some(libc::EACCES));
        });
        as_user(1001, 1001, || {
            assert!(fs::read(m.at("f")).is_err() && fs::read(m.at("d/g")).is_err());
        });
        // The same after copy-up.
        std::os::unix::fs::chown(m.at("f"), None, Some(3)).unwrap();
        fs::write(m.at("d/g"), "y").unwrap();
    }
}

#[test]
fn permissions_are_checked_as_shown() {
    let spec = "/root file 0600 data=\"x\"\n/mine file 0600 1000:1000 data=\"x\"\n/d dir 0755\n\
                /t dir 1777\n/t/f file 0666\n/d/f file 0666";
    let Some((_fx, m)) = mounted(&[spec], &[]) else {
        return;
    };
    as_user(1000, 1000, || {
        let denied =
            |e: std::io::Error| matches!(e.raw_os_error(), Some(libc::EACCES | libc::EPERM));
        assert!(denied(fs::read(m.at("root")).unwrap_err()));
        assert!(denied(fs::write(m.at("root"), "y").unwrap_err()));
        assert!(denied(fs::write(m.at("d/new"), "y").unwrap_err()));
        assert!(denied(fs::remove_file(m.at("d/f")).unwrap_err()));
        assert!(denied(fs::remove_file(m.at("t/f")).unwrap_err()), "sticky");
        assert!(
            denied(fs::rename(m.at("t/f"), m.at("t/g")).unwrap_err()),
            "sticky"
        );
        assert!(denied(
            fs::set_permissions(m.at("root"), fs::Permissions::from_mode(0o777)).unwrap_err()
        ));
        assert!(denied(
            std::os::unix::fs::chown(m.at("mine"), Some(1001), None).unwrap_err()
        ));
        fs::write(m.at("mine"), "y").unwrap();
        fs::set_permissions(m.at("mine"), fs::Permissions::from_mode(0o640)).unwrap();
    });
    assert_eq!(mode(&m.at("mine")), 0o640);
}

#[test]
fn times_before_1970_and_after_2038_to_the_nanosecond() {
    let spec =
        "/old file mtime=-2000000000.123456789\n/far file mtime=9999999999.987654321\n/n file";
    let Some((_fx, mut m)) = mounted(&[spec], &[]) else {
        return;
    };
    let t = |n: &str| {
        let st = fs::metadata(m.at(n)).unwrap();
        (st.mtime(), st.mtime_nsec())
    };
    assert_eq!(t("old"), (-2_000_000_000, 123_456_789));
    assert_eq!(t("far"), (9_999_999_999, 987_654_321));
    // Copied up without a change of the data.
    fs::set_permissions(m.at("old"), fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::chown(m.at("far"), Some(1), None).unwrap();
    assert_eq!(t("old"), (-2_000_000_000, 123_456_789));
    assert_eq!(t("far"), (9_999_999_999, 987_654_321));
    let before = rustix::fs::Timespec {
        tv_sec: -1,
        tv_nsec: 999_999_999,
    };
    let times = rustix::fs::Timestamps {
        last_access: before,
        last_modification: before,
    };
    let none = rustix::fs::AtFlags::empty();
    rustix::fs::utimensat(rustix::fs::CWD, m.at("n"), &times, none).unwrap();
    m.remount();
    let t = |n: &str| {
        let st = fs::metadata(m.at(n)).unwrap();
        (st.mtime(), st.mtime_nsec())
    };
    assert_eq!(t("n"), (-1, 999_999_999));
    assert_eq!(t("old"), (-2_000_000_000, 123_456_789));
    assert_eq!(t("far"), (9_999_999_999, 987_654_321));
}

#[test]
fn ctime_moves_with_every_change() {
    let Some((_fx, m)) = mounted(&["/f file 0644 data=\"x\""], &[]) else {
        return;
    };
    let ctime = || {
        let st = fs::metadata(m.at("f")).unwrap();
        (st.ctime(), st.ctime_nsec())
    };
    let mut last = ctime();
    let wait = || std::thread::sleep(std::time::Duration::from_millis(12));
    let mut moved = |what: &str| {
        let now = ctime();
        assert!(now > last, "{what}: {now:?} after {last:?}");
        last = now;
        wait();
    };
    wait();
    fs::set_permissions(m.at("f"), fs::Permissions::from_mode(0o600)).unwrap();
    moved("chmod");
    fs::hard_link(m.at("f"), m.at("g")).unwrap();
    moved("link");
    fs::write(m.at("g"), "y").unwrap();
    moved("write");
    rustix::fs::setxattr(m.at("f"), "user.k", b"v", rustix::fs::XattrFlags::empty()).unwrap();
    moved("setxattr");
    fs::remove_file(m.at("g")).unwrap();
    moved("unlink of the other name");
}

#[test]
fn xattrs_of_all_kinds_survive_copy_up() {
    let spec = "/f file 0644 data=\"x\" user.a=\"b\" user.\\xff\\xfe=0x0001ff trusted.x=\"y\" security.z=\"q\"\n\
                /s symlink -> nowhere trusted.link=\"own\"\n/d dir user.d=\"e\"";
    let Some((_fx, mut m)) = mounted(&[spec], &[]) else {
        return;
    };
    fs::write(m.at("f"), "y").unwrap();
    std::os::unix::fs::lchown(m.at("s"), Some(4), Some(4)).unwrap();
    fs::set_permissions(m.at("d"), fs::Permissions::from_mode(0o700)).unwrap();
    for _ in 0..2 {
        let want = spec
            .replace("data=\"x\"", "data=\"y\"")
            .replace("nowhere", "nowhere 4:4")
            .replace("/d dir", "/d dir 0700");
        assert_tree(m.path(), &want, &DumpOptions::default());
        m.remount();
    }
    let none = rustix::fs::XattrFlags::empty();
    let big = rustix::fs::setxattr(m.at("f"), "user.big", &vec![1u8; 60_000], none);
    assert!(big.is_err(), "ext4 has no room for it");
    assert_eq!(
        xattr(&m.at("f"), b"user.nothing"),
        Err(rustix::io::Errno::NODATA)
    );
}

#[test]
fn a_symlinks_xattr_never_lands_on_its_target() {
    let Some((fx, m)) = mounted(&["/f file\n/s symlink -> f"], &[]) else {
        return;
    };
    let outside = fx.path().join("outside");
    fs::write(&outside, "host").unwrap();
    std::os::unix::fs::symlink(&outside, m.at("out")).unwrap();
    let none = rustix::fs::XattrFlags::empty();
    for s in ["s", "out"] {
        rustix::fs::lsetxattr(m.at(s), "trusted.t", b"v", none).unwrap();
    }
    assert!(xattr_names(&m.at("f")).unwrap().is_empty());
    assert!(xattr_names(&outside).unwrap().is_empty());
    assert_eq!(xattr(&m.at("out"), b"trusted.t").unwrap(), b"v");
}

#[test]
fn access_times_of_lower_files_stay() {
    // The check itself is the fixture's: this only reads everything.
    let Some((_fx, m)) = mounted(
        &["/d/f file size=10 data=@1\n/d/big file size=500000 data=@2\n/d/s symlink -> f"],
        &[],
    ) else {
        return;
    };
    for name in ["d/f", "d/big", "d/s"] {
        fs::read(m.at(name)).unwrap();
    }
    fs::read_link(m.at("d/s")).unwrap();
    let map = crate::common::sys::Mapping::new(fs::File::open(m.at("d/big")).unwrap(), 4096, false);
    map.unwrap().read(0, 100).unwrap();
    assert_eq!(super::names(&m.at("d")).len(), 3);
}

#[test]
fn inode_flags_can_be_read_and_set() {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    let Some((fx, mut m)) = mounted(
        &["/f file data=\"x\"\n/d dir\n/g file data=\"y\""],
        &[(Target::FuseOverlayfs, "EIO (peers.md 1b)")],
    ) else {
        return;
    };
    let f = fs::File::open(m.at("f")).unwrap();
    ioctl_getflags(&f).unwrap();
    drop(f);
    let f = fs::OpenOptions::new().write(true).open(m.at("f")).unwrap();
    let flags = ioctl_getflags(&f).unwrap();
    ioctl_setflags(&f, flags | IFlags::NODUMP).unwrap();
    assert!(ioctl_getflags(&f).unwrap().contains(IFlags::NODUMP));
    drop(f);
    let dir = fs::File::open(m.at("d")).unwrap();
    ioctl_setflags(&dir, ioctl_getflags(&dir).unwrap() | IFlags::NOATIME).unwrap();
    drop(dir);
    // The other form of the same: struct fsxattr, which begins with the flags.
    const FSGETXATTR: u32 = 0x801c_581f;
    const FSSETXATTR: u32 = 0x401c_5820;
    const XFLAG_NODUMP: u32 = 0x80;
    let xflags = |path: &Path| {
        let (file, mut value) = (fs::File::open(path).unwrap(), [0; 28]);
        ioctl(&file, FSGETXATTR, &mut value).unwrap();
        (value, u32::from_ne_bytes(value[..4].try_into().unwrap()))
    };
    let (mut value, before) = xflags(&m.at("g"));
    assert_eq!(before & XFLAG_NODUMP, 0);
    value[..4].copy_from_slice(&(before | XFLAG_NODUMP).to_ne_bytes());
    ioctl(fs::File::open(m.at("g")).unwrap(), FSSETXATTR, &mut value).unwrap();
    for _ in 0..2 {
        let flags = |name: &str| ioctl_getflags(fs::File::open(m.at(name)).unwrap()).unwrap();
        assert!(flags("f").contains(IFlags::NODUMP));
        assert!(flags("d").contains(IFlags::NOATIME));
        assert!(flags("g").contains(IFlags::NODUMP));
        assert_eq!(xflags(&m.at("g")).1, before | XFLAG_NODUMP);
        assert_eq!(xflags(&fx.upper().join("g")).1 & XFLAG_NODUMP, XFLAG_NODUMP);
        m.remount();
    }
}

#[test]
fn protected_lower_files_are_not_changed() {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    let spec = "/i file data=\"x\"\n/a file data=\"x\"\n/d dir\n/d/f file\n/d/s/f file\n/f file data=\"x\"";
    let why = "copies what is protected";
    let Some((fx, mut m)) = mounted(&[spec], &[(Target::FuseOverlayfs, why)]) else {
        return;
    };
    let low = fx.lowers()[0].clone();
    let protect = |on: bool| {
        for (name, flag) in [
            ("i", IFlags::IMMUTABLE),
            ("a", IFlags::APPEND),
            ("d", IFlags::IMMUTABLE),
        ] {
            let file = fs::File::open(low.join(name)).unwrap();
            let was = ioctl_getflags(&file).unwrap();
            let now = if on { was | flag } else { was - flag };
            ioctl_setflags(&file, now).unwrap();
        }
    };
    m.unmount();
    protect(true);
    fx.seal_as_they_are();
    m.start().unwrap();
    let refused = std::panic::catch_unwind(|| {
        let denied = |r: std::io::Result<()>, what: &str| {
            let e = r.expect_err(what);
            assert_eq!(e.raw_os_error(), Some(libc::EPERM), "{what}");
        };
        for name in ["i", "a"] {
            let written = fs::OpenOptions::new()
                .write(true)
                .open(m.at(name))
                .and_then(|f| f.write_all_at(b"y", 0));
            denied(written, "write");
            let mode = fs::Permissions::from_mode(0o600);
            denied(fs::set_permissions(m.at(name), mode), "chmod");
            denied(fs::hard_link(m.at(name), m.at("link")), "link");
            denied(fs::rename(m.at(name), m.at("moved")), "rename");
            denied(fs::rename(m.at("f"), m.at(name)), "rename over");
            denied(fs::remove_file(m.at(name)), "unlink");
            assert_eq!(fs::read_to_string(m.at(name)).unwrap(), "x");
        }
        denied(fs::write(m.at("d/new"), ""), "create");
        denied(fs::remove_file(m.at("d/f")), "unlink inside");
        fs::write(m.at("d/s/new"), "those above it are not changed").unwrap();
        fs::write(m.at("f"), "not protected").unwrap();
    });
    m.unmount();
    let changed = fx.lower_changes();
    protect(false);
    fx.seal_as_they_are();
    assert_eq!(changed, None);
    m.start().unwrap();
    refused.unwrap();
    fs::remove_file(m.at("i")).unwrap();
}
