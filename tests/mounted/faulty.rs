//! Uppers that fail while they are mounted, and a daemon out of descriptors.

use super::{errno, names, ours};
use crate::common::fixture::Fixture;
use crate::common::live::Mounted;
use crate::common::pattern;
use crate::common::sys::NO_LOG_FLUSH;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

const SPEC: &str = "/d/big file size=300000 data=@1\n/d/small file data=\"small\"\n\
                    /d/link symlink -> small\n/e/x file data=\"x\"\n/e/y file 0600";

/// The daemon's warnings.
fn warnings(fx: &Fixture) -> Vec<String> {
    let log = fs::read_to_string(fx.path().join("daemon.log")).unwrap();
    let warns = log.lines().filter(|l| l.contains(" warn: "));
    warns.map(str::to_owned).collect()
}

fn append(m: &Mounted, name: &str) -> std::io::Result<()> {
    let mut f = fs::OpenOptions::new().append(true).open(m.at(name))?;
    f.write_all(b"+")
}

/// What the lower layers have can still be had.
fn lowers_can_be_read(m: &Mounted) {
    assert!(fs::read(m.at("d/big")).unwrap() == pattern(1, 0, 300_000));
    assert_eq!(fs::read_to_string(m.at("d/link")).unwrap(), "small");
    assert_eq!(fs::metadata(m.at("e/x")).unwrap().len(), 1);
}

#[test]
fn an_upper_that_dies_gives_eio_and_the_lowers_stay() {
    let lower = || Fixture::new().lower(SPEC).upper_on("ext4");
    let Some((fx, mut m)) = ours(lower, "") else {
        return;
    };
    fs::write(m.at("up"), "up").unwrap();
    lowers_can_be_read(&m);
    rustix::fs::syncfs(fs::File::open(fx.disk()).unwrap()).unwrap();
    fx.power_off(NO_LOG_FLUSH);
    let failing: [(&str, std::io::Result<()>); 6] = [
        ("open", append(&m, "d/small")),
        ("create", fs::write(m.at("new"), "x")),
        ("mkdir", fs::create_dir(m.at("d/new"))),
        ("unlink", fs::remove_file(m.at("e/x"))),
        ("rename", fs::rename(m.at("d/small"), m.at("d/other"))),
        (
            "setattr",
            fs::set_permissions(m.at("e/y"), fs::Permissions::from_mode(0o644)),
        ),
    ];
    for (what, result) in failing {
        assert_eq!(errno(result), Some(libc::EIO), "{what}");
    }
    // Not even asked for again.
    lowers_can_be_read(&m);
    fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
    lowers_can_be_read(&m);
    let said = warnings(&fx);
    for what in [
        " /d/small: ",
        "mkdir /d/new",
        "unlink /e/x",
        "rename /d/small",
    ] {
        let of_it: Vec<_> = said.iter().filter(|l| l.contains(what)).collect();
        assert_eq!(of_it.len(), 1, "{what}: {said:?}");
    }
    m.unmount();
    fx.power_on();
    m.start().unwrap();
    lowers_can_be_read(&m);
    fs::remove_file(m.at("e/x")).unwrap();
    assert_eq!(names(&m.at("e")), ["y"]);
}

#[test]
fn an_upper_that_turns_read_only_gives_erofs_and_is_served() {
    let lower = || Fixture::new().lower(SPEC).upper_on("ext4");
    let Some((fx, mut m)) = ours(lower, "") else {
        return;
    };
    fs::write(m.at("up"), "up").unwrap();
    fx.remount_disk("ro");
    for result in [
        append(&m, "d/small"),
        append(&m, "up"),
        fs::write(m.at("new"), "x"),
        fs::create_dir(m.at("d/new")),
        fs::remove_file(m.at("e/x")),
        fs::remove_file(m.at("up")),
        fs::rename(m.at("up"), m.at("d/up")),
        fs::set_permissions(m.at("e/y"), fs::Permissions::from_mode(0o644)),
    ] {
        assert_eq!(errno(result), Some(libc::EROFS));
    }
    lowers_can_be_read(&m);
    assert_eq!(fs::read_to_string(m.at("up")).unwrap(), "up");
    assert_eq!(names(m.path()), ["d", "e", "up"]);
    assert_eq!(names(&m.at("d")), ["big", "link", "small"]);
    fx.remount_disk("rw");
    append(&m, "d/small").unwrap();
    fs::remove_file(m.at("e/x")).unwrap();
    m.remount();
    assert_eq!(names(&m.at("e")), ["y"]);
}

/// With passthrough the kernel opens the upper's file after us, and makes EIO
/// of every error of that.
#[test]
fn a_file_that_may_not_be_written_is_refused_at_its_opening() {
    let lower = || Fixture::new().lower(SPEC).upper_on("ext4");
    let Some((_fx, mut m)) = ours(lower, "") else {
        return;
    };
    for name in ["never", "longer"] {
        fs::write(m.at(name), "text").unwrap();
    }
    super::sh(&m, "cd \"$1\"; chattr +i never; chattr +a longer").unwrap();
    for _ in 0..2 {
        assert_eq!(errno(append(&m, "never")), Some(libc::EPERM));
        let whole = fs::OpenOptions::new().write(true).open(m.at("longer"));
        let whole = whole.and_then(|mut f| f.write_all(b"-"));
        assert_eq!(errno(whole), Some(libc::EPERM));
        append(&m, "longer").unwrap();
        assert_eq!(fs::read_to_string(m.at("never")).unwrap(), "text");
        m.remount();
    }
    super::sh(&m, "cd \"$1\"; chattr -i never; chattr -a longer").unwrap();
    append(&m, "never").unwrap();
    fs::write(m.at("longer"), "short").unwrap();
}

#[test]
fn an_upper_without_inodes_gives_enospc_and_nothing_half_done() {
    let lower = || {
        let files: String = (0..40)
            .map(|n| format!("/f{n} file 0644 data=\"{n}\"\n"))
            .collect();
        Fixture::new()
            .lower(&format!("{SPEC}\n{files}"))
            .small_upper("8m,nr_inodes=32")
    };
    let Some((fx, mut m)) = ours(lower, "") else {
        return;
    };
    let full = (0..64).find_map(|n| errno(fs::write(m.at(&format!("new{n}")), "")));
    assert_eq!(full, Some(libc::ENOSPC));
    let made = names(m.path())
        .iter()
        .filter(|n| n.starts_with("new"))
        .count();
    assert!(made > 10, "{made}");
    // A whiteout is an inode too, a copy anyhow.
    for result in [
        fs::remove_file(m.at("f0")),
        fs::rename(m.at("f1"), m.at("g")),
        append(&m, "d/small"),
        fs::create_dir(m.at("d/new")),
    ] {
        assert_eq!(errno(result), Some(libc::ENOSPC));
    }
    for _ in 0..2 {
        assert_eq!(fs::read_to_string(m.at("f0")).unwrap(), "0");
        assert_eq!(fs::read_to_string(m.at("f1")).unwrap(), "1");
        assert_eq!(names(&m.at("d")), ["big", "link", "small"]);
        assert!(names(&fx.work().join("work")).is_empty());
        // Names of the upper alone go, which makes room again.
        m.remount();
    }
    for n in 0..6 {
        fs::remove_file(m.at(&format!("new{n}"))).unwrap();
    }
    fs::remove_file(m.at("f0")).unwrap();
    append(&m, "d/small").unwrap();
    m.remount();
    assert!(!m.at("f0").exists());
}

#[test]
fn a_used_up_quota_lets_names_go_or_says_edquot() {
    let lower = || {
        Fixture::new()
            .lower("/f file data=\"f\"\n/trunc file size=9000000 data=@2\n/d/x file")
            .upper_with_quota("8M")
    };
    let Some((fx, mut m)) = ours(lower, "") else {
        return;
    };
    fs::write(m.at("own"), "own").unwrap();
    let chunk = vec![1u8; 65_536];
    let fill = fs::File::create(m.at("fill")).unwrap();
    let full = (0..1000).find_map(|i| {
        use std::os::unix::fs::FileExt;
        errno(fill.write_at(&chunk, i * 65_536))
    });
    drop(fill);
    assert_eq!(full, Some(libc::EDQUOT));
    // btrfs itself counts a new name; whatever it says, nothing is half done.
    let trunc = fs::OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(m.at("trunc"));
    let done: Vec<Option<i32>> = vec![
        errno(fs::remove_file(m.at("f"))),
        errno(fs::remove_file(m.at("own"))),
        errno(trunc),
    ];
    for _ in 0..2 {
        for (name, done) in ["f", "own", "trunc"].iter().zip(&done) {
            let cut = *name == "trunc";
            match done {
                None if cut => assert_eq!(fs::metadata(m.at(name)).unwrap().len(), 0),
                None => assert!(!m.at(name).exists(), "{name}"),
                Some(libc::EDQUOT) if cut => {
                    assert!(fs::read(m.at(name)).unwrap() == pattern(2, 0, 9_000_000));
                }
                Some(libc::EDQUOT) => assert_eq!(fs::read_to_string(m.at(name)).unwrap(), *name),
                other => panic!("{name}: {other:?}"),
            }
        }
        assert!(names(&fx.work().join("work")).is_empty());
        m.remount();
    }
    // The large file can always go, and then there is room.
    fs::remove_file(m.at("fill")).unwrap();
    rustix::fs::syncfs(fs::File::open(fx.disk()).unwrap()).unwrap();
    let _ = fs::remove_file(m.at("f"));
    m.remount();
    assert!(!m.at("f").exists() && !m.at("fill").exists());
}

/// What is unlinked while it is open costs the daemon a descriptor each.
#[test]
fn a_daemon_out_of_descriptors_says_so_and_goes_on() {
    let files: String = (0..400)
        .map(|n| format!("/d{}/f{n} file\n", n % 20))
        .collect();
    let lower = || Fixture::new().lower(&files).descriptors(256);
    let Some((_fx, mut m)) = ours(lower, "") else {
        return;
    };
    let path = |n: usize| m.at(&format!("d{}/f{n}", n % 20));
    let mut held = Vec::new();
    let (mut refused, mut gone) = (0, Vec::new());
    for n in 0..400 {
        let opened = fs::OpenOptions::new().append(true).open(path(n));
        let removed = opened.and_then(|f| {
            held.push(f);
            fs::remove_file(path(n))
        });
        match errno(removed) {
            None => gone.push(n),
            Some(libc::EMFILE | libc::ENFILE) => refused += 1,
            other => panic!("{n}: {other:?}"),
        }
    }
    eprintln!("{} unlinked while open, {refused} refused", gone.len());
    assert!(gone.len() > 64, "{}", gone.len());
    // Those that are open go on, past the daemon; through it they need one of its
    // own. What needs no descriptor for long is done.
    for f in &held {
        f.metadata().unwrap();
        let written = errno((&mut &*f).write_all(b"more"));
        assert!(matches!(written, None | Some(libc::EMFILE)), "{written:?}");
    }
    for n in (0..400).filter(|n| !gone.contains(n)) {
        fs::metadata(path(n)).unwrap();
    }
    drop(held);
    for n in (0..400).filter(|n| !gone.contains(n)) {
        fs::remove_file(path(n)).unwrap();
    }
    m.remount();
    for n in 0..20 {
        assert!(names(&m.at(&format!("d{n}"))).is_empty());
    }
}
