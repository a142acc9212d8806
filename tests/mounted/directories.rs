//! Directories: removed, made again, renamed.

use super::{Target, ino, mounted, names, sh};
use rustix::fs::CWD;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

const NO_REDIRECT: [(Target, &str); 2] = [
    (Target::OverlayBare, "EXDEV without redirect_dir"),
    (Target::FuseOverlayfs, "EXDEV (peers.md 1b)"),
];

#[test]
fn a_directory_made_anew_is_empty_after_remount() {
    let Some((_fx, mut m)) = mounted(&["/d/a file data=\"old\"\n/d/e/f file\n/p/d/x file"], &[])
    else {
        return;
    };
    for d in ["d", "p/d"] {
        fs::remove_dir_all(m.at(d)).unwrap();
        fs::create_dir(m.at(d)).unwrap();
    }
    for _ in 0..2 {
        assert!(names(&m.at("d")).is_empty() && names(&m.at("p/d")).is_empty());
        m.remount();
    }
    fs::write(m.at("d/a"), "new").unwrap();
    m.remount();
    assert_eq!(names(&m.at("d")), ["a"]);
    assert_eq!(fs::read_to_string(m.at("d/a")).unwrap(), "new");
}

#[test]
fn a_file_takes_a_directorys_place_and_back() {
    let Some((_fx, mut m)) = mounted(&["/d/a file\n/f file data=\"x\""], &[]) else {
        return;
    };
    fs::remove_dir_all(m.at("d")).unwrap();
    fs::write(m.at("d"), "now a file").unwrap();
    fs::remove_file(m.at("f")).unwrap();
    fs::create_dir(m.at("f")).unwrap();
    m.remount();
    assert_eq!(fs::read_to_string(m.at("d")).unwrap(), "now a file");
    assert!(names(&m.at("f")).is_empty());
    fs::remove_file(m.at("d")).unwrap();
    fs::create_dir(m.at("d")).unwrap();
    m.remount();
    assert!(names(&m.at("d")).is_empty());
}

#[test]
fn lower_and_merged_directories_are_renamed() {
    let low = "/low/a file data=\"a\"\n/low/sub/b file data=\"b\"\n/mix/a file data=\"ma\"\n/to dir\n/gone/x file";
    let mid = "/mix/b file data=\"mb\"\n/gone whiteout";
    let Some((_fx, mut m)) = mounted(&[low, mid], &NO_REDIRECT) else {
        return;
    };
    fs::write(m.at("mix/c"), "mc").unwrap();
    let numbers = (
        ino(&m.at("low")),
        ino(&m.at("mix")),
        ino(&m.at("low/sub/b")),
    );
    fs::rename(m.at("low"), m.at("gone")).unwrap();
    fs::rename(m.at("mix"), m.at("to/mix")).unwrap();
    fs::rename(m.at("gone"), m.at("to/mix/low")).unwrap();
    fs::rename(m.at("to/mix/low/sub"), m.at("sub2")).unwrap();
    fs::rename(m.at("to"), m.at("low")).unwrap();
    for round in 0..2 {
        assert_eq!(names(m.path()), ["low", "sub2"], "round {round}");
        assert_eq!(names(&m.at("low/mix")), ["a", "b", "c", "low"]);
        assert_eq!(names(&m.at("low/mix/low")), ["a"]);
        assert_eq!(fs::read_to_string(m.at("low/mix/a")).unwrap(), "ma");
        assert_eq!(fs::read_to_string(m.at("low/mix/b")).unwrap(), "mb");
        assert_eq!(fs::read_to_string(m.at("low/mix/low/a")).unwrap(), "a");
        assert_eq!(fs::read_to_string(m.at("sub2/b")).unwrap(), "b");
        let now = (
            ino(&m.at("low/mix/low")),
            ino(&m.at("low/mix")),
            ino(&m.at("sub2/b")),
        );
        assert_eq!(now, numbers);
        m.remount();
    }
    fs::remove_dir_all(m.at("low")).unwrap();
    m.remount();
    assert_eq!(names(m.path()), ["sub2"]);
}

#[test]
fn a_directory_goes_over_one_that_holds_only_whiteouts() {
    let Some((_fx, mut m)) = mounted(
        &["/a/x file data=\"ax\"\n/b/y file\n/b/z file\n/c/w file"],
        &NO_REDIRECT,
    ) else {
        return;
    };
    assert_eq!(
        fs::rename(m.at("a"), m.at("b")).unwrap_err().raw_os_error(),
        Some(libc::ENOTEMPTY)
    );
    fs::remove_file(m.at("b/y")).unwrap();
    fs::remove_file(m.at("b/z")).unwrap();
    fs::rename(m.at("a"), m.at("b")).unwrap();
    fs::remove_file(m.at("c/w")).unwrap();
    fs::remove_dir(m.at("c")).unwrap();
    for _ in 0..2 {
        assert_eq!(names(m.path()), ["b"]);
        assert_eq!(names(&m.at("b")), ["x"]);
        m.remount();
    }
}

#[test]
fn rename_flags() {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let spec = "/d/a file data=\"a\"\n/f file data=\"f\"\n/e dir";
    let Some((_fx, mut m)) = mounted(&[spec], &NO_REDIRECT) else {
        return;
    };
    let rename = |m: &super::Mounted, a: &str, b: &str, flags| {
        renameat_with(CWD, m.at(a), CWD, m.at(b), flags).map_err(|e| e.raw_os_error())
    };
    let no = RenameFlags::NOREPLACE;
    let swap = RenameFlags::EXCHANGE;
    assert_eq!(rename(&m, "f", "d/a", no), Err(libc::EEXIST));
    assert_eq!(rename(&m, "f", "nothing", swap), Err(libc::ENOENT));
    assert_eq!(rename(&m, "f", "g", no), Ok(()));
    // A file and a lower directory change places.
    assert_eq!(rename(&m, "g", "d", swap), Ok(()));
    m.remount();
    assert_eq!(fs::read_to_string(m.at("d")).unwrap(), "f");
    assert_eq!(fs::read_to_string(m.at("g/a")).unwrap(), "a");
    assert_eq!(rename(&m, "g", "e", swap), Ok(()));
    m.remount();
    assert_eq!(names(&m.at("e")), ["a"]);
    assert!(names(&m.at("g")).is_empty());
    assert_eq!(
        rename(&m, "e", "e/sub", RenameFlags::empty()),
        Err(libc::EINVAL)
    );
    // Either right or refused, never half.
    match rename(&m, "d", "h", RenameFlags::WHITEOUT) {
        Ok(()) => assert!(m.at("h").exists()),
        Err(e) => {
            assert_eq!(e, libc::EINVAL);
            assert_eq!(fs::read_to_string(m.at("d")).unwrap(), "f");
        }
    }
}

#[test]
fn descriptors_and_working_directories_follow_a_rename() {
    let Some((_fx, m)) = mounted(&["/d/sub/f file data=\"text\"\n/o dir"], &NO_REDIRECT) else {
        return;
    };
    use rustix::fs::{Mode, OFlags, openat};
    let dir = fs::File::open(m.at("d/sub")).unwrap();
    let file = fs::File::open(m.at("d/sub/f")).unwrap();
    fs::rename(m.at("d"), m.at("o/moved")).unwrap();
    let f = openat(&dir, "f", OFlags::RDWR, Mode::empty()).unwrap();
    rustix::io::pwrite(f, b"TEXT", 0).unwrap();
    assert_eq!(fs::read_to_string(m.at("o/moved/sub/f")).unwrap(), "TEXT");
    assert_eq!(file.metadata().unwrap().ino(), ino(&m.at("o/moved/sub/f")));
    let out = sh(
        &m,
        "cd \"$1/o/moved/sub\"; mv \"$1/o\" \"$1/p\"; cat f; pwd -P",
    )
    .unwrap();
    assert!(
        out.starts_with("TEXT") && out.trim_end().ends_with("/p/moved/sub"),
        "{out}"
    );
}

#[test]
fn rm_rf_under_load_leaves_nothing() {
    let spec: String = (0..400)
        .map(|n| format!("/d/{}/f{n} file\n", n % 7))
        .collect();
    let Some((fx, mut m)) = mounted(&[&spec], &[]) else {
        return;
    };
    for n in 0..400 {
        fs::write(m.at(&format!("d/{}/g{n}", n % 7)), "x").unwrap();
    }
    std::thread::scope(|s| {
        let busy = s.spawn(|| {
            for n in 0..200 {
                let _ = fs::write(m.at(&format!("d/{}/f{n}", n % 7)), "again");
                let _ = fs::read_dir(m.at("d")).map(Iterator::count);
            }
        });
        while m.at("d").exists() {
            let _ = fs::remove_dir_all(m.at("d"));
        }
        busy.join().unwrap();
        let _ = fs::remove_dir_all(m.at("d"));
    });
    m.remount();
    assert!(names(m.path()).is_empty());
    m.unmount();
    let work = fx.work().join("work");
    let left = fs::read_dir(work).map_or(0, Iterator::count);
    if m.target() == Target::Capasfs {
        assert_eq!(left, 0, "the workdir is empty after a clean unmount");
    }
}

#[test]
fn what_the_workdir_held_before_does_no_harm() {
    let why = "a deep leftover makes the mount read-only";
    let not = [(Target::Overlay, why), (Target::OverlayBare, why)];
    let Some((fx, mut m)) = mounted(&["/f file data=\"lower\"\n/d/x file"], &not) else {
        return;
    };
    m.unmount();
    let work = fx.work().join("work");
    fs::create_dir_all(work.join("dir/deep")).unwrap();
    for n in ["1", "#1", "copyup", "dir/deep/f", ".hidden"] {
        fs::write(work.join(n), "left over").unwrap();
    }
    m.start().unwrap();
    fs::write(m.at("f"), "x").unwrap();
    fs::remove_dir_all(m.at("d")).unwrap();
    m.unmount();
    if m.target() == Target::Capasfs {
        assert_eq!(fs::read_dir(&work).map_or(0, Iterator::count), 0);
    }
}

/// Symlinks and fifos, which carry no marks in a user namespace.
#[test]
fn special_files_stay_what_they_are_over_renames() {
    let spec = "/l symlink -> t\n/p fifo 0600\n/f file data=\"x\"\n/d dir";
    let Some((_fx, mut m)) = mounted(&[spec], &[]) else {
        return;
    };
    for name in ["l", "p", "f"] {
        fs::symlink_metadata(m.at(name)).unwrap();
    }
    let flags = rustix::fs::RenameFlags::EXCHANGE;
    rustix::fs::renameat_with(CWD, m.at("l"), CWD, m.at("f"), flags).unwrap();
    fs::rename(m.at("p"), m.at("d/p")).unwrap();
    for _ in 0..2 {
        assert_eq!(fs::read_link(m.at("f")).unwrap(), Path::new("t"));
        assert_eq!(fs::read(m.at("l")).unwrap(), b"x");
        let kind = fs::symlink_metadata(m.at("d/p")).unwrap().file_type();
        assert!(std::os::unix::fs::FileTypeExt::is_fifo(&kind));
        m.remount();
    }
    fs::set_permissions(m.at("d/p"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(super::mode(&m.at("d/p")), 0o644);
}
