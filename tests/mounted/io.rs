//! Reading and writing.

use super::{Target, ino, mounted, sh};
use crate::common::pattern;
use rustix::fs::{FallocateFlags, Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::time::{Duration, Instant};

#[test]
fn two_processes_append_without_loss() {
    let Some((_fx, mut m)) = mounted(
        &["/log file 0666 data=\"start\\x0a\"\n/big file size=200000 data=@1"],
        &[],
    ) else {
        return;
    };
    for name in ["log", "big", "new"] {
        let script = format!(
            "for p in a b; do (for i in $(seq 300); do echo $p$i; done >> \"$1/{name}\") & done; wait"
        );
        sh(&m, &script).unwrap();
    }
    // O_APPEND per write, from two descriptors of one process.
    std::thread::scope(|s| {
        for p in ["c", "d"] {
            let path = m.at("log");
            s.spawn(move || {
                let mut f = fs::OpenOptions::new().append(true).open(path).unwrap();
                for i in 0..300 {
                    f.write_all(format!("{p}{i}\n").as_bytes()).unwrap();
                }
            });
        }
    });
    m.remount();
    let text = fs::read_to_string(m.at("log")).unwrap();
    assert_eq!(
        text.lines().filter(|l| l.starts_with(['c', 'd'])).count(),
        600
    );
    for (name, skip) in [("log", 6), ("big", 200_000), ("new", 0)] {
        let data = fs::read(m.at(name)).unwrap();
        let text = String::from_utf8_lossy(&data[skip..]).into_owned();
        for p in ["a", "b"] {
            let got: Vec<&str> = text.lines().filter(|l| l.starts_with(p)).collect();
            let want: Vec<String> = (1..=300).map(|i| format!("{p}{i}")).collect();
            assert_eq!(got, want, "{name}: all of {p}, once and in order");
        }
    }
}

#[test]
fn holes_can_be_found_and_made() {
    let spec = "/f file size=1048576 at=0:\"a\" at=524288:\"b\"";
    let not_on = [(Target::FuseOverlayfs, "no SEEK_HOLE in 1.x")];
    let Some((_fx, mut m)) = mounted(&[spec], &not_on) else {
        return;
    };
    for round in 0..2 {
        let f = fs::OpenOptions::new()
            .read(true)
            .write(round == 1)
            .open(m.at("f"))
            .unwrap();
        if round == 1 && m.target() != Target::Capasfs {
            eprintln!("kernel overlayfs fills holes that are near data at copy-up");
            break;
        }
        assert_eq!(
            rustix::fs::seek(&f, SeekFrom::Hole(0)),
            Ok(4096),
            "round {round}"
        );
        assert_eq!(rustix::fs::seek(&f, SeekFrom::Data(4096)), Ok(524_288));
        assert_eq!(rustix::fs::seek(&f, SeekFrom::Hole(524_288)), Ok(528_384));
        let none = rustix::fs::seek(&f, SeekFrom::Data(600_000));
        assert_eq!(none, Err(rustix::io::Errno::NXIO));
        if round == 1 {
            let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            rustix::fs::fallocate(&f, punch, 524_288, 4096).unwrap();
            assert_eq!(rustix::fs::seek(&f, SeekFrom::Hole(0)), Ok(4096));
            assert!(rustix::fs::seek(&f, SeekFrom::Data(4096)).is_err());
            assert_eq!(f.metadata().unwrap().len(), 1_048_576);
        }
    }
    m.remount();
    let f = fs::File::open(m.at("f")).unwrap();
    assert_eq!(rustix::fs::seek(&f, SeekFrom::Hole(0)), Ok(4096));
    if m.target() == Target::Capasfs {
        assert!(rustix::fs::seek(&f, SeekFrom::Data(4096)).is_err());
    }
}

#[test]
fn fallocate_modes() {
    let Some((_fx, mut m)) = mounted(&["/f file size=10000 data=@1"], &[]) else {
        return;
    };
    let f = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(m.at("f"))
        .unwrap();
    rustix::fs::fallocate(&f, FallocateFlags::KEEP_SIZE, 0, 100_000).unwrap();
    assert_eq!(f.metadata().unwrap().len(), 10_000);
    assert!(f.metadata().unwrap().blocks() * 512 >= 100_000);
    rustix::fs::fallocate(&f, FallocateFlags::empty(), 0, 50_000).unwrap();
    assert_eq!(f.metadata().unwrap().len(), 50_000);
    rustix::fs::fallocate(&f, FallocateFlags::ZERO_RANGE, 1000, 2000).unwrap();
    drop(f);
    m.remount();
    let mut want = pattern(1, 0, 10_000);
    want.resize(50_000, 0);
    want[1000..3000].fill(0);
    assert!(fs::read(m.at("f")).unwrap() == want);
}

#[test]
fn copy_file_range_between_layers() {
    let Some((_fx, mut m)) = mounted(&["/a file size=300000 data=@1\n/b file data=\"x\""], &[])
    else {
        return;
    };
    let a = fs::File::open(m.at("a")).unwrap();
    let b = fs::OpenOptions::new().write(true).open(m.at("b")).unwrap();
    let (mut from, mut to, mut left) = (1000, 10, 250_000);
    while left > 0 {
        let n = rustix::fs::copy_file_range(&a, Some(&mut from), &b, Some(&mut to), left).unwrap();
        assert!(n > 0);
        left -= n;
    }
    drop((a, b));
    sh(
        &m,
        "cp --reflink=auto \"$1/a\" \"$1/c\"; cp --sparse=always \"$1/a\" \"$1/d\"",
    )
    .unwrap();
    m.remount();
    let mut want = vec![b'x'];
    want.resize(10, 0);
    want.extend(pattern(1, 1000, 250_000));
    assert!(fs::read(m.at("b")).unwrap() == want);
    for n in ["c", "d"] {
        assert!(fs::read(m.at(n)).unwrap() == pattern(1, 0, 300_000), "{n}");
    }
}

#[test]
fn direct_io_reads_and_writes() {
    let Some((_fx, mut m)) = mounted(
        &["/f file size=65536 data=@1\n/big file size=1048576 data=@2"],
        &[],
    ) else {
        return;
    };
    for (name, seed) in [("f", 1), ("big", 2)] {
        let flags = libc::O_DIRECT;
        let f = fs::OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(m.at(name))
            .unwrap();
        let mut buf = Aligned([0; 4096]);
        f.read_exact_at(&mut buf.0, 8192).unwrap();
        assert!(buf.0.as_slice() == pattern(seed, 8192, 4096), "{name}");
        let f = fs::OpenOptions::new()
            .write(true)
            .custom_flags(flags)
            .open(m.at(name))
            .unwrap();
        buf.0.fill(7);
        f.write_all_at(&buf.0, 4096).unwrap();
        assert!(
            fs::read(m.at(name)).unwrap()[4096..8192]
                .iter()
                .all(|b| *b == 7),
            "{name}"
        );
    }
    m.remount();
    for name in ["f", "big"] {
        let mut how = fs::OpenOptions::new();
        let f = how.read(true).custom_flags(libc::O_DIRECT).open(m.at(name));
        let mut buf = Aligned([0; 4096]);
        f.unwrap().read_exact_at(&mut buf.0, 4096).unwrap();
        assert!(buf.0.iter().all(|b| *b == 7), "{name}");
    }
}

#[repr(align(4096))]
struct Aligned([u8; 4096]);

/// Runs a program that was written and closed here. A process that another test
/// has just forked has the descriptor, too, until it runs a program of its own.
fn once_closed<T>(run: impl Fn() -> std::io::Result<T>) -> T {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        match run() {
            Err(e) if e.raw_os_error() == Some(libc::ETXTBSY) => {
                assert!(std::time::Instant::now() < end, "it stays busy");
                std::thread::yield_now();
            }
            done => return done.unwrap(),
        }
    }
}

#[test]
fn a_running_program_is_busy() {
    let Some((_fx, m)) = mounted(&["/d dir"], &[]) else {
        return;
    };
    // A program in the upper and, after a remount, still the same one.
    fs::copy("/bin/sleep", m.at("d/prog")).unwrap();
    let mut child = once_closed(|| {
        let mut sleep = std::process::Command::new(m.at("d/prog"));
        sleep.arg("30").spawn()
    });
    std::thread::sleep(std::time::Duration::from_millis(100));
    let open = fs::OpenOptions::new().write(true).open(m.at("d/prog"));
    let cut = sh(&m, ": > \"$1/d/prog\"");
    let flags = OFlags::RDONLY | OFlags::TRUNC | OFlags::CLOEXEC;
    let cut_by_reader = rustix::fs::open(m.at("d/prog"), flags, Mode::empty());
    assert_eq!(
        child.try_wait().unwrap(),
        None,
        "the program is not disturbed"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(
        open.err().and_then(|e| e.raw_os_error()),
        Some(libc::ETXTBSY)
    );
    assert!(cut.unwrap_err().contains("busy"));
    assert_eq!(cut_by_reader.unwrap_err(), Errno::TXTBSY);
    let program = fs::metadata("/bin/sleep").unwrap().len();
    assert_eq!(fs::metadata(m.at("d/prog")).unwrap().len(), program);
    // It runs no more; the kernel says so some time after it has ended.
    let end = Instant::now() + Duration::from_secs(10);
    while rustix::fs::open(m.at("d/prog"), flags, Mode::empty()).is_err() {
        assert!(Instant::now() < end);
    }
    assert_eq!(fs::metadata(m.at("d/prog")).unwrap().len(), 0);
}

#[test]
fn a_running_program_of_a_lower_layer_is_busy_or_keeps_running() {
    if !crate::common::able_to_mount() {
        return;
    }
    let target = Target::from_env();
    let mut fx = crate::common::fixture::Fixture::new();
    let low = fx.add_lower();
    fs::copy("/bin/sleep", low.join("prog")).unwrap();
    let m = fx.mount(target, "");
    let mut child = std::process::Command::new(m.at("prog"))
        .arg("1")
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    let open = fs::OpenOptions::new().write(true).open(m.at("prog"));
    let e = open.err().and_then(|e| e.raw_os_error());
    assert!(
        child.wait().unwrap().success(),
        "the program is not disturbed"
    );
    assert_eq!(e, Some(libc::ETXTBSY));
}

#[test]
fn a_file_open_for_writing_is_not_run() {
    let Some((_fx, m)) = mounted(&["/d dir"], &[]) else {
        return;
    };
    fs::copy("/bin/true", m.at("d/prog")).unwrap();
    let writer = fs::OpenOptions::new()
        .write(true)
        .open(m.at("d/prog"))
        .unwrap();
    let run = std::process::Command::new(m.at("d/prog")).status();
    assert_eq!(
        run.err().and_then(|e| e.raw_os_error()),
        Some(libc::ETXTBSY)
    );
    drop(writer);
    assert!(once_closed(|| std::process::Command::new(m.at("d/prog")).status()).success());
}

#[test]
fn stores_through_mappings_change_content_and_mtime() {
    let spec = "/small file size=9000 data=@1 mtime=1000\n/big file size=400000 data=@2 mtime=1000";
    let Some((_fx, mut m)) = mounted(&[spec], &[]) else {
        return;
    };
    for (name, size) in [("small", 9000), ("big", 400_000)] {
        let f = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(m.at(name))
            .unwrap();
        let map = crate::common::sys::Mapping::new(&f, size, true).unwrap();
        let ctime = |path| {
            let st = fs::metadata(path).unwrap();
            (st.ctime(), st.ctime_nsec())
        };
        let before = ctime(m.at(name));
        std::thread::sleep(Duration::from_millis(12));
        map.write(size - 5, b"12345").unwrap();
        assert!(ctime(m.at(name)) > before, "{name}");
        drop(f);
        let mut other = fs::File::open(m.at(name)).unwrap();
        let mut all = Vec::new();
        other.read_to_end(&mut all).unwrap();
        assert_eq!(&all[size - 5..], b"12345", "{name}");
        drop(map);
        assert_ne!(fs::metadata(m.at(name)).unwrap().mtime(), 1000, "{name}");
    }
    m.remount();
    assert_eq!(&fs::read(m.at("big")).unwrap()[399_995..], b"12345");
    assert_eq!(&fs::read(m.at("small")).unwrap()[8995..], b"12345");
}

#[test]
fn mappings_and_truncation() {
    let Some((_fx, m)) = mounted(&["/f file size=20000 data=@1"], &[]) else {
        return;
    };
    let f = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(m.at("f"))
        .unwrap();
    let map = crate::common::sys::Mapping::new(&f, 20_000, true).unwrap();
    map.write(10_000, b"gone").unwrap();
    f.set_len(5000).unwrap();
    assert_eq!(
        map.read(12_288, 4),
        Err(rustix::io::Errno::FAULT),
        "beyond the end"
    );
    f.set_len(20_000).unwrap();
    assert_eq!(map.read(10_000, 4).unwrap(), [0; 4]);
    assert_eq!(
        map.read(4096, 10).unwrap(),
        [pattern(1, 4096, 904), vec![0; 10]].concat()[..10]
    );
}

#[test]
fn truncation_on_open_and_by_path() {
    let spec =
        "/a file size=300000 data=@1\n/b file size=5000 data=@2\n/c file size=300000 data=@3";
    let Some((_fx, mut m)) = mounted(&[spec], &[]) else {
        return;
    };
    let number = ino(&m.at("a"));
    let old = fs::File::open(m.at("b")).unwrap();
    fs::File::create(m.at("a")).unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(m.at("b"))
        .unwrap()
        .set_len(10)
        .unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(m.at("c"))
        .unwrap()
        .set_len(400_000)
        .unwrap();
    assert_eq!(old.metadata().unwrap().len(), 10);
    drop(old);
    m.remount();
    let len = |n: &str| fs::metadata(m.at(n)).unwrap().len();
    assert_eq!((len("a"), len("b"), len("c")), (0, 10, 400_000));
    assert_eq!(ino(&m.at("a")), number);
    let c = fs::read(m.at("c")).unwrap();
    assert!(c[..300_000] == pattern(3, 0, 300_000) && c[300_000..].iter().all(|b| *b == 0));
}

#[test]
fn fsync_of_everything_works() {
    let Some((_fx, m)) = mounted(&["/d/f file data=\"x\""], &[]) else {
        return;
    };
    let ro = fs::File::open(m.at("d/f")).unwrap();
    ro.sync_all().unwrap();
    fs::File::open(m.at("d")).unwrap().sync_all().unwrap();
    let rw = fs::OpenOptions::new()
        .write(true)
        .open(m.at("d/f"))
        .unwrap();
    rw.write_all_at(b"y", 0).unwrap();
    rw.sync_all().unwrap();
    rw.sync_data().unwrap();
    ro.sync_all().unwrap();
    fs::File::open(m.at("d")).unwrap().sync_all().unwrap();
}

#[test]
fn git_sqlite_style_write_patterns() {
    // Write aside, sync, rename over; many times, then look again after a remount.
    let Some((_fx, mut m)) = mounted(&["/conf file 0640 7:8 data=\"0\""], &[]) else {
        return;
    };
    for n in 1..=50 {
        let mut f = fs::File::create(m.at("conf.new")).unwrap();
        write!(f, "{n}").unwrap();
        f.sync_all().unwrap();
        fs::rename(m.at("conf.new"), m.at("conf")).unwrap();
        assert_eq!(fs::read_to_string(m.at("conf")).unwrap(), n.to_string());
    }
    m.remount();
    assert_eq!(fs::read_to_string(m.at("conf")).unwrap(), "50");
    assert_eq!(super::names(m.path()), ["conf"]);
}

/// Numbers of removed files are used again at once, and the kernel waits for no
/// answer to a release: nobody may get another's file by that.
#[test]
fn files_made_and_removed_by_several_threads() {
    let Some((_fx, m)) = mounted(&["/a dir\n/b dir\n/c dir\n/d dir"], &[]) else {
        return;
    };
    std::thread::scope(|s| {
        for dir in ["a", "b", "c", "d"] {
            let m = &m;
            s.spawn(move || {
                for n in 0..1000 {
                    let path = m.at(&format!("{dir}/f{}", n % 3));
                    let text = format!("{dir} {n}");
                    fs::write(&path, &text).unwrap_or_else(|e| panic!("{text}: {e}"));
                    let f = fs::OpenOptions::new().append(true).open(&path).unwrap();
                    assert_eq!(fs::read_to_string(&path).unwrap(), text);
                    assert_eq!(f.metadata().unwrap().nlink(), 1, "{text}");
                    fs::remove_file(&path).unwrap();
                    (&f).write_all(b"!").unwrap();
                    let st = f.metadata().unwrap();
                    assert_eq!((st.nlink(), st.len()), (0, text.len() as u64 + 1), "{text}");
                }
            });
        }
    });
}
