//! A full upper filesystem: the right errno, nothing half done, space given back.

use super::{Target, errno, names};
use crate::common::fixture::Fixture;
use crate::common::live::Mounted;
use crate::common::{pattern, sys};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

const PEER: (Target, &str) = (
    Target::FuseOverlayfs,
    "copies a file up to unlink it (reliability.md)",
);

fn on_small_upper(size: &str, spec: &str, not_on: &[(Target, &str)]) -> Option<(Fixture, Mounted)> {
    if !crate::common::able_to_mount() {
        return None;
    }
    let target = Target::from_env();
    if let Some((_, why)) = not_on.iter().find(|(t, _)| *t == target) {
        eprintln!("not on {target:?}: {why}");
        return None;
    }
    let fx = Fixture::new().lower(spec).small_upper(size);
    let m = fx.mount(target, "");
    Some((fx, m))
}

#[test]
fn a_quota_that_is_used_up_gives_edquot_and_nothing_half_done() {
    if !crate::common::able_to_mount() {
        return;
    }
    let spec = "/big file 0644 size=12000000 data=@1\n/d/f file data=\"x\"";
    let fx = Fixture::new().lower(spec).upper_with_quota("8M");
    let mut m = fx.mount(Target::from_env(), "");
    for _ in 0..3 {
        assert_eq!(errno(append(&m.at("big"))), Some(libc::EDQUOT));
    }
    assert!(names(&fx.upper()).is_empty(), "{:?}", names(&fx.upper()));
    assert!(names(&fx.work().join("work")).is_empty());
    let fill = fs::File::create(m.at("fill")).unwrap();
    let chunk = vec![1u8; 65_536];
    let full = (0..1000).find_map(|i| errno(fill.write_at(&chunk, i * 65_536)));
    assert_eq!(full, Some(libc::EDQUOT));
    drop(fill);
    assert!(fs::read(m.at("big")).unwrap() == pattern(1, 0, 12_000_000));
    m.remount();
    assert!(fs::read(m.at("big")).unwrap() == pattern(1, 0, 12_000_000));
    assert_eq!(names(m.path()), ["big", "d", "fill"]);
}

fn free(fx: &Fixture) -> u64 {
    let st = rustix::fs::statvfs(fx.upper()).unwrap();
    st.f_bfree * st.f_frsize
}

/// Opens and writes: either of them copies up.
fn append(path: &Path) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().append(true).open(path)?;
    file.write_all(b"x")
}

/// A removed file gives its space back when the kernel has let go of it, of which
/// the daemon hears a moment later where files are opened without a message.
fn wait_for_space(fx: &Fixture, bytes: u64) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while free(fx) < bytes {
        assert!(Instant::now() < deadline, "only {} B are free", free(fx));
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_copy_up_that_does_not_fit_gives_enospc_and_the_space_back() {
    let spec = "/big file 0644 size=12000000 data=@1\n/d/f file data=\"x\"";
    let Some((fx, mut m)) = on_small_upper("8m", spec, &[]) else {
        return;
    };
    let before = free(&fx);
    for _ in 0..3 {
        assert_eq!(errno(append(&m.at("big"))), Some(libc::ENOSPC));
    }
    // A page or two for directories made on the way.
    assert!(
        before - free(&fx) <= 64 * 1024,
        "{} B are gone",
        before - free(&fx)
    );
    assert!(fs::read(m.at("big")).unwrap() == pattern(1, 0, 12_000_000));
    fs::write(m.at("d/f"), "still works").unwrap();
    m.remount();
    assert!(fs::read(m.at("big")).unwrap() == pattern(1, 0, 12_000_000));
    assert_eq!(fs::read_to_string(m.at("d/f")).unwrap(), "still works");
}

/// Of the data of a file whose attributes are in the upper already.
#[test]
fn data_that_does_not_fit_gives_the_space_back() {
    let spec = "/big file 0644 size=12000000 data=@1\n/set file 6755 size=12000000 data=@2";
    let not = [PEER, (Target::OverlayBare, "no metacopy")];
    let Some((fx, mut m)) = on_small_upper("8m", spec, &not) else {
        return;
    };
    for (name, mode) in [("big", 0o600), ("set", 0o6711)] {
        fs::set_permissions(m.at(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let before = free(&fx);
    for (seed, name, mode) in [(1, "big", 0o600), (2, "set", 0o6711)] {
        for _ in 0..3 {
            let opened = fs::OpenOptions::new().append(true).open(m.at(name));
            let error = errno(opened.and_then(|mut file| file.write_all(b"x")));
            assert_eq!(error, Some(libc::ENOSPC), "{name}");
        }
        let gone = before - free(&fx);
        assert!(gone <= 64 * 1024, "{name}: {gone} B are gone");
        for _ in 0..2 {
            assert!(fs::read(m.at(name)).unwrap() == pattern(seed, 0, 12_000_000));
            // A write that fails may have cleared them, as the VFS does it before.
            let kept = match sys::in_user_namespace() {
                true => 0o777,
                false => 0o7777,
            };
            assert_eq!(super::mode(&m.at(name)) & kept, mode & kept);
            m.remount();
        }
    }
}

#[test]
fn a_full_upper_still_lets_names_go() {
    let spec = "/big file 0644 size=12000000 data=@1\n/trunc file size=9000000 data=@2\n/d/f file\n/x file";
    let Some((fx, mut m)) = on_small_upper("8m", spec, &[PEER]) else {
        return;
    };
    let fill = fs::File::create(m.at("fill")).unwrap();
    let chunk = vec![1u8; 65_536];
    let mut at = 0;
    while let Ok(n) = fill.write_at(&chunk, at) {
        at += n as u64;
    }
    assert_eq!(errno(fill.write_at(&chunk, at)), Some(libc::ENOSPC));
    drop(fill);
    // A whiteout needs no data block.
    fs::remove_file(m.at("big")).unwrap();
    fs::remove_file(m.at("x")).unwrap();
    assert!(!m.at("big").exists());
    // Nor does throwing the content away.
    fs::OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(m.at("trunc"))
        .unwrap();
    assert_eq!(fs::metadata(m.at("trunc")).unwrap().len(), 0);
    m.remount();
    assert_eq!(names(m.path()), ["d", "fill", "trunc"]);
    fs::remove_file(m.at("fill")).unwrap();
    wait_for_space(&fx, 7_000_000);
    fs::write(m.at("trunc"), "room again").unwrap();
    m.remount();
    assert_eq!(fs::read_to_string(m.at("trunc")).unwrap(), "room again");
}

#[test]
fn a_300_mib_lower_file_is_unlinked_without_a_copy() {
    let spec = "/d/big file size=314572800 data=@1";
    let Some((fx, mut m)) = on_small_upper("8m", spec, &[PEER]) else {
        return;
    };
    let before = free(&fx);
    let start = Instant::now();
    fs::remove_file(m.at("d/big")).unwrap();
    let took = start.elapsed();
    assert!(took < Duration::from_millis(100), "{took:?}");
    assert!(before - free(&fx) < 64 * 1024);
    m.remount();
    assert!(names(&m.at("d")).is_empty());
}

#[test]
fn a_rename_of_a_large_lower_file_needs_no_room_for_its_data() {
    let spec = "/big file 0644 size=12000000 data=@1";
    let not = [PEER, (Target::OverlayBare, "no metacopy")];
    let Some((_fx, mut m)) = on_small_upper("8m", spec, &not) else {
        return;
    };
    fs::rename(m.at("big"), m.at("moved")).unwrap();
    fs::set_permissions(m.at("moved"), fs::Permissions::from_mode(0o600)).unwrap();
    m.remount();
    assert!(fs::read(m.at("moved")).unwrap() == pattern(1, 0, 12_000_000));
    assert_eq!(errno(append(&m.at("moved"))), Some(libc::ENOSPC));
    m.remount();
    assert_eq!(names(m.path()), ["moved"]);
    assert!(fs::read(m.at("moved")).unwrap() == pattern(1, 0, 12_000_000));
}
