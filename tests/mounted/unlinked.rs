//! Files that are open and have no name any more.

use super::{Target, mounted, names, sh};
use crate::common::sys::{fxattr_names, list};
use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

fn use_without_name(f: &fs::File, what: &str) {
    let st = f
        .metadata()
        .unwrap_or_else(|e| panic!("{what}: fstat: {e}"));
    assert_eq!(st.nlink(), 0, "{what}: nlink");
    f.write_all_at(b"written", 2)
        .unwrap_or_else(|e| panic!("{what}: write: {e}"));
    f.set_len(5)
        .unwrap_or_else(|e| panic!("{what}: ftruncate: {e}"));
    f.set_permissions(fs::Permissions::from_mode(0o641))
        .unwrap_or_else(|e| panic!("{what}: fchmod: {e}"));
    rustix::fs::fchown(f, Some(rustix::fs::Uid::from_raw(3)), None)
        .unwrap_or_else(|e| panic!("{what}: fchown: {e}"));
    rustix::fs::fsetxattr(f, "user.k", b"v", rustix::fs::XattrFlags::empty())
        .unwrap_or_else(|e| panic!("{what}: fsetxattr: {e}"));
    assert_eq!(fxattr_names(f).unwrap(), [b"user.k".to_vec()], "{what}");
    f.sync_all()
        .unwrap_or_else(|e| panic!("{what}: fsync: {e}"));
    let st = f.metadata().unwrap();
    assert_eq!(
        (st.len(), st.mode() & 0o7777, st.uid()),
        (5, 0o641, 3),
        "{what}"
    );
    let mut text = [0; 5];
    f.read_exact_at(&mut text, 0).unwrap();
    assert_eq!(&text[2..], b"wri", "{what}");
    let map = crate::common::sys::Mapping::new(f, 5, true).unwrap();
    map.write(0, b"mm").unwrap();
    assert_eq!(map.read(0, 5).unwrap(), b"mmwri", "{what}");
}

#[test]
fn a_new_a_small_and_a_large_lower_file_are_used_without_their_names() {
    let spec = "/small file 0644 data=\"lower\"\n/large file 0644 size=300000 data=@1\n/h1 file data=\"xx\"\n/h2 link /h1";
    let Some((_fx, mut m)) = mounted(
        &[spec],
        &[(Target::FuseOverlayfs, "ENOENT (reliability.md)")],
    ) else {
        return;
    };
    fs::write(m.at("new"), "upper").unwrap();
    for name in ["new", "small", "large"] {
        let f = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(m.at(name))
            .unwrap();
        fs::remove_file(m.at(name)).unwrap();
        // A new file under the old name is another one.
        fs::write(m.at(name), "other").unwrap();
        use_without_name(&f, name);
        assert_eq!(fs::read_to_string(m.at(name)).unwrap(), "other");
    }
    // One name left: the file goes on under it.
    let f = fs::OpenOptions::new().write(true).open(m.at("h1")).unwrap();
    fs::remove_file(m.at("h1")).unwrap();
    f.write_all_at(b"via fd", 0).unwrap();
    if m.target() != Target::OverlayBare {
        assert_eq!(fs::read_to_string(m.at("h2")).unwrap(), "via fd");
    }
    drop(f);
    m.remount();
    assert_eq!(list(m.path()).unwrap().len(), 4);
}

#[test]
fn a_read_only_descriptor_of_an_unlinked_lower_file() {
    let why = "fchmod of it is ENOENT or EEXIST, nlink 1";
    let spec = "/small file 0644 data=\"lower\"\n/large file 0644 size=300000 data=@1";
    let not = [
        (Target::Overlay, why),
        (Target::OverlayBare, why),
        (Target::FuseOverlayfs, "ENOENT"),
    ];
    let Some((_fx, m)) = mounted(&[spec], &not) else {
        return;
    };
    for name in ["small", "large"] {
        let mut f = fs::File::open(m.at(name)).unwrap();
        let st = f.metadata().unwrap();
        fs::remove_file(m.at(name)).unwrap();
        assert_eq!(f.metadata().unwrap().nlink(), 0, "{name}");
        assert_eq!(f.metadata().unwrap().ino(), st.ino(), "{name}");
        f.set_permissions(fs::Permissions::from_mode(0o600))
            .unwrap();
        assert_eq!(f.metadata().unwrap().mode() & 0o7777, 0o600, "{name}");
        let mut all = Vec::new();
        f.read_to_end(&mut all).unwrap();
        assert_eq!(all.len() as u64, st.len(), "{name}");
    }
}

#[test]
fn an_unlinked_file_is_opened_again_through_proc() {
    let Some((_fx, m)) = mounted(
        &["/f file data=\"lower\""],
        &[(Target::FuseOverlayfs, "ENOENT")],
    ) else {
        return;
    };
    let f = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(m.at("f"))
        .unwrap();
    fs::remove_file(m.at("f")).unwrap();
    f.write_all_at(b"LOWER", 0).unwrap();
    let again = fs::read_to_string(format!("/proc/self/fd/{}", f.as_raw_fd())).unwrap();
    assert_eq!(again, "LOWER");
}

#[test]
fn rename_over_an_open_file() {
    let Some((_fx, mut m)) = mounted(&["/a file data=\"aaa\"\n/b file size=300000 data=@1"], &[])
    else {
        return;
    };
    let b = fs::File::open(m.at("b")).unwrap();
    fs::rename(m.at("a"), m.at("b")).unwrap();
    let mut buf = [0; 100];
    b.read_exact_at(&mut buf, 200_000).unwrap();
    assert_eq!(buf.as_slice(), crate::common::pattern(1, 200_000, 100));
    assert_eq!(fs::read_to_string(m.at("b")).unwrap(), "aaa");
    drop(b);
    m.remount();
    assert_eq!(fs::read_to_string(m.at("b")).unwrap(), "aaa");
    assert!(!m.at("a").exists());
}

#[test]
fn a_removed_directory_that_is_still_open() {
    let Some((_fx, m)) = mounted(&["/d/sub/f file"], &[]) else {
        return;
    };
    let dir = fs::File::open(m.at("d/sub")).unwrap();
    fs::remove_dir_all(m.at("d")).unwrap();
    let st = dir.metadata().unwrap();
    assert_eq!(st.mode() & libc::S_IFMT, libc::S_IFDIR);
    assert!(
        crate::common::sys::getdents(&dir, 4096)
            .unwrap_or_default()
            .is_empty()
    );
    let made = rustix::fs::mkdirat(&dir, "x", rustix::fs::Mode::from_raw_mode(0o755));
    assert_eq!(made, Err(rustix::io::Errno::NOENT));
}

/// The kernel opens them without a word to a file system.
#[test]
fn an_unlinked_fifo_or_device_is_still_used() {
    let spec = "/low-p fifo 0600\n/low-c char 0600 dev=1:3";
    let Some((_fx, m)) = mounted(&[spec], &[]) else {
        return;
    };
    sh(
        &m,
        "cd \"$1\"; mkfifo up-p; mknod up-c c 1 3; chmod 600 up-*",
    )
    .unwrap();
    for name in ["low-p", "low-c", "up-p", "up-c"] {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(m.at(name))
            .unwrap();
        fs::remove_file(m.at(name)).unwrap();
        assert_eq!(file.metadata().unwrap().nlink(), 0, "{name}");
        file.set_permissions(fs::Permissions::from_mode(0o640))
            .unwrap();
        std::os::unix::fs::fchown(&file, Some(5), Some(6)).unwrap();
        let st = file.metadata().unwrap();
        let seen = (st.mode() & 0o7777, st.uid(), st.gid(), st.nlink());
        assert_eq!(seen, (0o640, 5, 6, 0), "{name}");
    }
    assert!(names(m.path()).is_empty());
}

#[test]
fn a_descriptor_from_before_the_copy_up_outlives_the_name() {
    let spec = "/large file 0644 size=300000 data=@1";
    let not = "keeps no attributes of what no directory holds";
    let Some((_fx, m)) = mounted(
        &[spec],
        &[(Target::Overlay, not), (Target::OverlayBare, not)],
    ) else {
        return;
    };
    let reader = fs::File::open(m.at("large")).unwrap();
    let cut = sh(&m, "truncate -s 0 \"$1/large\"");
    assert_eq!(cut, Ok(String::new()));
    fs::remove_file(m.at("large")).unwrap();
    reader
        .set_permissions(fs::Permissions::from_mode(0o640))
        .unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(5);
    reader.set_modified(time).unwrap();
    let st = reader.metadata().unwrap();
    assert_eq!((st.mode() & 0o7777, st.mtime(), st.nlink()), (0o640, 5, 0));
}

/// `O_PATH` opens nothing, so the file system is not told of it.
#[test]
fn attributes_through_a_path_descriptor_of_an_unlinked_file() {
    let spec = "/low file 0644 data=\"lower\"\n/h1 file 0644 data=\"x\"\n/h2 link /h1";
    let not = "not kept: ENOENT or ESTALE";
    let Some((_fx, m)) = mounted(
        &[spec],
        &[
            (Target::Overlay, not),
            (Target::OverlayBare, not),
            (Target::FuseOverlayfs, not),
        ],
    ) else {
        return;
    };
    fs::write(m.at("new"), "upper").unwrap();
    for name in ["new", "low", "h1", "h2"] {
        let path = rustix::fs::open(
            m.at(name),
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        );
        let path = fs::File::from(path.unwrap());
        let proc = format!("/proc/self/fd/{}", path.as_raw_fd());
        let before = path.metadata().unwrap();
        fs::remove_file(m.at(name)).unwrap();
        fs::set_permissions(&proc, fs::Permissions::from_mode(0o4751)).unwrap();
        let uid = Some(rustix::fs::Uid::from_raw(3));
        rustix::fs::chownat(&path, "", uid, None, rustix::fs::AtFlags::EMPTY_PATH).unwrap();
        let st = path.metadata().unwrap();
        let seen = (st.mode() & 0o7777, st.uid(), st.gid(), st.ino());
        assert_eq!(seen, (0o751, 3, before.gid(), before.ino()), "{name}");
        assert_eq!(st.nlink(), before.nlink() - 1, "{name}");
    }
    assert!(names(m.path()).is_empty());
}
