//! What options of the mount do to what callers see.

use super::{Mounted, Target, ino, mode, sh};
use crate::common::fixture::Fixture;
use crate::common::pattern;
use crate::common::sys::{idmapped_clone, xattr};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

/// A mount by capasfs with these options; nothing where the target is another.
fn with(lower: &str, options: &str) -> Option<(Fixture, Mounted)> {
    if !crate::common::able_to_mount() || Target::from_env() != Target::Capasfs {
        return None;
    }
    let fx = Fixture::new().lower(lower);
    let m = fx.mount(Target::Capasfs, options);
    Some((fx, m))
}

fn owner(path: &Path) -> (u32, u32) {
    let st = fs::symlink_metadata(path).unwrap();
    (st.uid(), st.gid())
}

#[test]
fn owners_are_squashed() {
    for (options, want) in [
        ("squash_to_root", (0, 0)),
        ("squash_to_uid=7,squash_to_gid=8", (7, 8)),
    ] {
        let Some((fx, m)) = with("/f file 0644 5:6 data=\"x\"\n/d dir 0755 3:4", options) else {
            return;
        };
        fs::write(m.at("new"), "").unwrap();
        fs::write(m.at("f"), "changed").unwrap();
        for name in ["f", "d", "new"] {
            assert_eq!(owner(&m.at(name)), want, "{options} {name}");
        }
        assert_eq!(owner(&fx.upper().join("f")), (5, 6), "kept as it was");
    }
}

#[test]
fn owners_are_mapped_both_ways() {
    let options = "uidmapping=100000:0:1000,gidmapping=200000:0:1000";
    let spec = "/f file 0644 100005:200006 data=\"x\"\n/out file 0644 5:6";
    let Some((fx, mut m)) = with(spec, options) else {
        return;
    };
    for _ in 0..2 {
        assert_eq!(owner(&m.at("f")), (5, 6));
        assert_eq!(owner(&m.at("out")), (65534, 65534));
        m.remount();
    }
    fs::write(m.at("new"), "").unwrap();
    assert_eq!(owner(&m.at("new")), (0, 0));
    assert_eq!(owner(&fx.upper().join("new")), (100_000, 200_000));
    chown(m.at("f"), Some(7), None).unwrap();
    assert_eq!(owner(&m.at("f")), (7, 6));
    assert_eq!(owner(&fx.upper().join("f")), (100_007, 200_006));
    let e = chown(m.at("f"), Some(1000), None).unwrap_err();
    assert_eq!(e.raw_os_error(), Some(libc::EOVERFLOW));
}

#[test]
fn owner_and_mode_are_kept_in_attributes() {
    for (number, name) in [
        (1, "user.fuseoverlayfs.override_stat"),
        (2, "user.containers.override_stat"),
    ] {
        let options = format!("xattr_permissions={number}");
        let Some((fx, mut m)) = with("/d dir", &options) else {
            return;
        };
        fs::write(m.at("d/f"), "x").unwrap();
        chown(m.at("d/f"), Some(5), Some(6)).unwrap();
        fs::set_permissions(m.at("d/f"), fs::Permissions::from_mode(0o4750)).unwrap();
        for _ in 0..2 {
            assert_eq!(owner(&m.at("d/f")), (5, 6), "{options}");
            assert_eq!(mode(&m.at("d/f")), 0o4750, "{options}");
            assert!(xattr(&m.at("d/f"), name.as_bytes()).is_err(), "{options}");
            m.remount();
        }
        let stored = fx.upper().join("d/f");
        assert_eq!(
            (owner(&stored), mode(&stored)),
            ((0, 0), 0o755),
            "{options}"
        );
        let value = String::from_utf8(xattr(&stored, name.as_bytes()).unwrap()).unwrap();
        assert!(value.starts_with("5:6:"), "{value}");
    }
}

/// All kinds that an attribute stands for, and those that have none.
#[test]
fn every_kind_has_owner_and_mode_in_attributes() {
    let lower = "/d dir 0755 1:2\n/d/f file 0640 3:4 data=\"f\"\n/d/link symlink -> f 5:6";
    let Some((fx, mut m)) = with(lower, "xattr_permissions=2") else {
        return;
    };
    sh(
        &m,
        r#"cd "$1"; mkdir dir; chown 7:8 dir; chmod 1770 dir; chown 7:8 d; chmod 2750 d
        ln -s target sym; mkfifo pipe; chown 9:10 pipe; chmod 0620 pipe
        mknod null c 1 3; chmod 0666 null; chown 1:1 null; mknod disk b 7 0
        echo more >>d/f; chmod 4755 d/f"#,
    )
    .unwrap();
    let said = |m: &Mounted| {
        let script =
            r#"cd "$1"; stat -c "%n %F %a %u:%g %t,%T" dir d sym pipe null disk d/f d/link"#;
        sh(m, script).unwrap()
    };
    let want = "dir directory 1770 7:8 0,0\nd directory 2750 7:8 0,0\n\
                sym symbolic link 777 0:0 0,0\npipe fifo 620 9:10 0,0\n\
                null character special file 666 1:1 1,3\ndisk block special file 644 0:0 7,0\n\
                d/f regular file 4755 3:4 0,0\nd/link symbolic link 777 5:6 0,0\n";
    for _ in 0..2 {
        assert_eq!(said(&m), want);
        m.remount();
    }
    for name in ["pipe", "null", "disk"] {
        let stored = fs::symlink_metadata(fx.upper().join(name)).unwrap();
        assert!(stored.is_file() && stored.uid() == 0, "{name}");
    }
    // Set-id bits go as they do without the option.
    fs::set_permissions(m.at("d"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(m.at("d/f"), fs::Permissions::from_mode(0o6777)).unwrap();
    crate::common::sys::as_user(1000, 1000, || {
        fs::OpenOptions::new()
            .append(true)
            .open(m.at("d/f"))
            .unwrap()
            .write_all(b"x")
            .unwrap();
    });
    assert_eq!(mode(&m.at("d/f")), 0o777);
    fs::set_permissions(m.at("d/f"), fs::Permissions::from_mode(0o6777)).unwrap();
    chown(m.at("d/f"), Some(3), Some(3)).unwrap();
    m.remount();
    assert_eq!((mode(&m.at("d/f")), owner(&m.at("d/f"))), (0o777, (3, 3)));
    // A copy-up takes the attribute of a lower over.
    let upper = fx.upper();
    m.unmount();
    let mut second = Fixture::new();
    second.add_lower_at(upper);
    let m2 = second.mount(Target::Capasfs, "xattr_permissions=2");
    super::copied_up(&m2.at("d/f"));
    fs::set_permissions(m2.at("pipe"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!((mode(&m2.at("d/f")), owner(&m2.at("d/f"))), (0o777, (3, 3)));
    let stat = sh(&m2, r#"cd "$1"; stat -c "%F %a %u:%g" pipe"#).unwrap();
    assert_eq!(stat, "fifo 600 9:10\n");
}

#[test]
fn without_metacopy_a_change_of_mode_copies_the_data() {
    for (options, copied) in [("metacopy=on", false), ("metacopy=off", true)] {
        let Some((fx, mut m)) = with("/f file 0644 size=300000 data=@5", options) else {
            return;
        };
        fs::set_permissions(m.at("f"), fs::Permissions::from_mode(0o600)).unwrap();
        let stored = fx.upper().join("f");
        let same = fs::read(&stored).unwrap() == pattern(5, 0, 300_000);
        assert_eq!(same, copied, "{options}");
        // In a user namespace it is an attribute of users.
        let marked = ["trusted", "user"]
            .iter()
            .any(|family| xattr(&stored, format!("{family}.overlay.metacopy").as_bytes()).is_ok());
        assert_eq!(!marked, copied, "{options}");
        m.remount();
        assert!(fs::read(m.at("f")).unwrap() == pattern(5, 0, 300_000));
        assert_eq!(mode(&m.at("f")), 0o600);
    }
}

/// On two file systems, whose own numbers may be the same.
#[test]
fn xino_says_which_filesystem_a_number_is_of() {
    for (options, composite) in [("xino=on", true), ("xino=auto", true), ("xino=off", false)] {
        if !crate::common::able_to_mount() || Target::from_env() != Target::Capasfs {
            return;
        }
        let fx = Fixture::new()
            .lower("/low file data=\"x\"\n/d/low file")
            .small_upper("8m");
        let mut m = fx.mount(Target::Capasfs, options);
        fs::write(m.at("up"), "").unwrap();
        let numbers = |m: &Mounted| [m.at("low"), m.at("d/low"), m.at("up")].map(|p| ino(&p));
        let own = [
            fx.lowers()[0].join("low"),
            fx.lowers()[0].join("d/low"),
            fx.upper().join("up"),
        ]
        .map(|p| ino(&p));
        let live = numbers(&m);
        // The upper is the first file system: nothing is added to its numbers.
        assert_eq!(live[2], own[2], "{options}");
        assert_eq!(
            live[..2] != own[..2],
            composite,
            "{options}: {live:?} {own:?}"
        );
        super::copied_up(&m.at("d/low"));
        assert_eq!(numbers(&m), live, "{options} over a copy-up");
        m.remount();
        assert_eq!(numbers(&m), live, "{options} over a remount");
    }
}

#[test]
fn directories_have_one_link_with_static_nlink() {
    for (options, want) in [("", 3), ("static_nlink", 1)] {
        let Some((_fx, m)) = with("/f file", options) else {
            return;
        };
        fs::create_dir_all(m.at("d/sub")).unwrap();
        assert_eq!(fs::metadata(m.at("d")).unwrap().nlink(), want, "{options}");
    }
}

#[test]
fn noacl_takes_no_acls() {
    let Some((_fx, m)) = with(
        "/f file 0640 0:0 acl=u::rw-,u:1000:rw-,g::---,m::rw-,o::---",
        "noacl",
    ) else {
        return;
    };
    let set = sh(&m, "touch \"$1/new\"; setfacl -m u:1000:rw \"$1/new\"");
    assert!(set.unwrap_err().contains("not supported"));
    let read = crate::common::sys::as_user(1000, 1000, || fs::read(m.at("f")));
    assert_eq!(read.unwrap_err().raw_os_error(), Some(libc::EACCES));
}

/// Nor does what the upper has of them count.
#[test]
fn noacl_gives_new_files_none() {
    let fx = || {
        let acl = "/d dir default=u::rwx,u:9:rwx,g::r-x,m::rwx,o::---";
        Fixture::new().lower("/x file").upper_spec(acl)
    };
    let Some((fx, m)) = super::ours(fx, "noacl") else {
        return;
    };
    let make = |name: &str| {
        fs::write(m.at(name), "").unwrap();
        fs::set_permissions(m.at(name), fs::Permissions::from_mode(0o644)).unwrap();
        let upper = fx.upper().join(name);
        xattr(&upper, b"system.posix_acl_access").is_ok()
    };
    crate::common::sys::with_umask(0o22, || assert!(!make("d/f")));
}

#[test]
fn names_and_attributes_are_asked_for_again_after_the_timeout() {
    for (options, again) in [("", false), (",timeout=0", true)] {
        let Some((fx, mut m)) = with("/d/f file", &format!("log_level=debug{options}")) else {
            return;
        };
        // What somebody else changes in the upper is then seen.
        fs::write(m.at("up"), "short").unwrap();
        assert_eq!(fs::metadata(m.at("up")).unwrap().len(), 5);
        assert!(!m.at("later").exists());
        fs::write(fx.upper().join("up"), "longer text").unwrap();
        fs::write(fx.upper().join("later"), "").unwrap();
        let seen = (
            fs::metadata(m.at("up")).unwrap().len(),
            m.at("later").exists(),
        );
        assert_eq!(
            seen,
            if again { (11, true) } else { (5, false) },
            "{options}"
        );
        for _ in 0..5 {
            fs::metadata(m.at("d/f")).unwrap();
        }
        m.unmount();
        let log = fs::read_to_string(fx.path().join("daemon.log")).unwrap();
        let lookups = log.lines().filter(|l| l.contains("lookup 0x1 \"d\": ok"));
        let count = lookups.count();
        assert_eq!(count > 1, again, "{options}: {count}");
    }
}

#[test]
fn a_volatile_upper_is_refused_after_a_kill() {
    let Some((fx, mut m)) = with("/f file", "volatile") else {
        return;
    };
    let mark = fx.work().join("work/incompat/volatile");
    assert!(mark.is_dir());
    fs::write(m.at("new"), "x").unwrap();
    fs::File::open(m.at("new")).unwrap().sync_all().unwrap();
    m.remount();
    assert!(mark.is_dir());
    m.unmount();
    assert!(!mark.exists());
    // As a kill leaves it.
    fs::create_dir_all(&mark).unwrap();
    let said = fx.try_mount(Target::Capasfs, "").err().unwrap();
    assert!(
        said.contains("a volatile mount of it was not ended cleanly"),
        "{said}"
    );
}

#[test]
fn an_idmapped_mount_of_it_maps_owners() {
    let Some((fx, m)) = with("/f file 0644 5:6 data=\"x\"", "") else {
        return;
    };
    // 0..1000 of the file system are 50000.. of those who come through it.
    let clone = idmapped_clone(m.path(), 0, 50_000, 1000).unwrap();
    let at = |name: &str| {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&clone).to_string();
        Path::new("/proc/self/fd").join(fd).join(name)
    };
    assert_eq!(owner(&at("f")), (50_005, 50_006));
    chown(at("f"), Some(50_007), None).unwrap();
    assert_eq!(owner(&m.at("f")), (7, 6));
    let made = crate::common::sys::as_user(50_000, 50_000, || fs::write(at("new"), "x"));
    made.unwrap();
    assert_eq!(owner(&at("new")), (50_000, 50_000));
    assert_eq!(owner(&fx.upper().join("new")), (0, 0));
    drop(clone);
}

#[test]
fn it_can_be_a_lower_of_kernel_overlayfs() {
    let Some((fx, m)) = with("/d/f file data=\"low\"\n/gone file", "") else {
        return;
    };
    fs::write(m.at("d/up"), "up").unwrap();
    fs::remove_file(m.at("gone")).unwrap();
    for dir in ["u2", "w2", "m2"] {
        fs::create_dir(fx.path().join(dir)).unwrap();
    }
    let out = sh(
        &m,
        "cd \"$1/..\"; exec unshare -m sh -ec 'mount -t overlay o -o lowerdir=merged,upperdir=u2,workdir=w2 m2
        cd m2; cat d/f d/up; ls; echo more >>d/f; rm d/up; cat d/f; ls d'",
    );
    assert_eq!(out.unwrap(), "lowupd\nlowmore\nf\n");
    assert_eq!(fs::read_to_string(m.at("d/f")).unwrap(), "low");
    assert!(m.at("d/up").exists());
}

/// Are access times of files of the upper the same after one more read.
fn access_times(option: &str, kept: bool) {
    if !crate::common::able_to_mount() || Target::from_env() == Target::FuseOverlayfs {
        return;
    }
    let fx = Fixture::new().lower("/low file 0644 data=\"x\"");
    let mut m = fx.mount(Target::from_env(), &format!(",{option}"));
    fs::write(m.at("small"), "x").unwrap();
    fs::write(m.at("big"), vec![1; 400_000]).unwrap();
    fs::write(m.at("low"), "copied up").unwrap();
    for round in ["live", "remounted"] {
        for name in ["small", "big", "low"] {
            // Read since it was written, so `relatime` has no reason to note more.
            fs::read(m.at(name)).unwrap();
            let time = |path: &Path| {
                let st = fs::metadata(path).unwrap();
                (st.atime(), st.atime_nsec())
            };
            let before = time(&fx.upper().join(name));
            std::thread::sleep(std::time::Duration::from_millis(20));
            fs::read(m.at(name)).unwrap();
            let after = time(&fx.upper().join(name));
            assert_eq!(before == after, kept, "{option} {name} {round}");
            assert_eq!(time(&m.at(name)), after, "{option} {name} {round}: shown");
        }
        m.remount();
    }
}

#[test]
fn noatime_and_relatime_note_no_second_read() {
    access_times("noatime", true);
    access_times("relatime", true);
}

#[test]
fn strictatime_notes_each_read() {
    access_times("strictatime", false);
}
