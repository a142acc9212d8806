//! The workloads of scripts/bench-meta: `meta ROW DIR [ARG]` does one and
//! prints how many nanoseconds it took and how many operations it was.
//!
//! A program of its own, since what is measured is a few microseconds and an
//! interpreter would cost as much again.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{PermissionsExt, chroot, lchown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

type Done = io::Result<(Duration, u64)>;

/// Every path below `dir`, directories before what they hold.
fn walk(dir: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        paths.push(entry.path());
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), paths)?;
        }
    }
    Ok(())
}

/// `find -printf %s`: every entry read and looked at.
fn find_stat(dir: &Path) -> io::Result<u64> {
    let mut count = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        count += 1;
        if entry.metadata()?.is_dir() {
            count += find_stat(&entry.path())?;
        }
    }
    Ok(count)
}

fn timed(operations: u64, work: impl FnOnce() -> io::Result<()>) -> Done {
    let before = Instant::now();
    work()?;
    Ok((before.elapsed(), operations))
}

fn find(dir: &Path) -> Done {
    let before = Instant::now();
    let count = find_stat(dir)?;
    Ok((before.elapsed(), count))
}

fn two_finds(dir: &Path) -> Done {
    let before = Instant::now();
    let counts = std::thread::scope(|scope| {
        let finds = [
            scope.spawn(|| find_stat(dir)),
            scope.spawn(|| find_stat(dir)),
        ];
        finds.map(|find| {
            find.join()
                .unwrap_or_else(|_| Err(io::Error::other("died")))
        })
    });
    let took = before.elapsed();
    let mut total = 0;
    for count in counts {
        total += count?;
    }
    Ok((took, total))
}

fn lstat(dir: &Path) -> Done {
    let mut paths = Vec::new();
    walk(dir, &mut paths)?;
    for path in &paths {
        fs::symlink_metadata(path)?;
    }
    timed(paths.len() as u64, || {
        paths
            .iter()
            .try_for_each(|path| fs::symlink_metadata(path).map(drop))
    })
}

/// Up to `most` regular files of at least a page below `dir`.
fn files(dir: &Path, most: usize) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    walk(dir, &mut paths)?;
    paths.retain(|path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file()));
    paths.truncate(most);
    Ok(paths)
}

fn open_read_close(paths: &[PathBuf]) -> io::Result<()> {
    let mut page = [0; 4096];
    for path in paths {
        let _ = File::open(path)?.read(&mut page)?;
    }
    Ok(())
}

fn absent(dir: &Path, names: u32) -> io::Result<()> {
    for number in 0..names {
        if fs::symlink_metadata(dir.join(format!("absent-{number}"))).is_ok() {
            return Err(io::Error::other("a name that nobody made exists"));
        }
    }
    Ok(())
}

fn mkdir_rename_rmdir(dir: &Path, count: u32) -> io::Result<()> {
    for number in 0..count {
        let (from, to) = (
            dir.join(format!("d{number}")),
            dir.join(format!("e{number}")),
        );
        fs::create_dir(&from)?;
        fs::rename(&from, &to)?;
        fs::remove_dir(&to)?;
    }
    Ok(())
}

fn row(name: &str, dir: &Path, argument: Option<OsString>) -> Done {
    let usr = dir.join("usr");
    let made = dir.join("made");
    match name {
        "find-stat-warm" => {
            find(dir)?;
            find(dir)
        }
        "find-stat-cold" => find(dir),
        "find-stat-2" => {
            find(dir)?;
            two_finds(dir)
        }
        "lstat-warm" => lstat(dir),
        "open-read-close-warm" => {
            let paths = files(&usr, 3000)?;
            open_read_close(&paths)?;
            timed(paths.len() as u64, || open_read_close(&paths))
        }
        // The list comes from elsewhere: to make it here would warm the caches.
        "open-read-close-cold" => {
            let list = fs::read_to_string(argument.ok_or(io::ErrorKind::InvalidInput)?)?;
            let paths: Vec<PathBuf> = list.lines().map(|line| dir.join(line)).collect();
            timed(paths.len() as u64, || open_read_close(&paths))
        }
        "negative-first" => timed(10_000, || absent(&usr.join("bin"), 10_000)),
        "negative-again" => {
            absent(&usr.join("bin"), 10_000)?;
            timed(10_000, || absent(&usr.join("bin"), 10_000))
        }
        "create-unlink" => {
            fs::create_dir_all(&made)?;
            timed(5000, || {
                (0..5000).try_for_each(|number| {
                    let path = made.join(format!("f{number}"));
                    File::create(&path)?.write_all(b"x")
                })?;
                (0..5000).try_for_each(|number| fs::remove_file(made.join(format!("f{number}"))))
            })
        }
        "mkdir-rename-rmdir" => {
            fs::create_dir_all(&made)?;
            timed(1000, || mkdir_rename_rmdir(&made, 1000))
        }
        "chown-tree" => {
            let mut paths = Vec::new();
            walk(&usr, &mut paths)?;
            timed(paths.len() as u64, || {
                paths
                    .iter()
                    .try_for_each(|path| lchown(path, Some(1000), Some(1000)))
            })
        }
        "rm-tree" => timed(1, || fs::remove_dir_all(&usr)),
        "untar" => {
            fs::create_dir_all(&made)?;
            let archive = argument.ok_or(io::ErrorKind::InvalidInput)?;
            timed(1, || {
                let status = Command::new("tar")
                    .arg("-C")
                    .arg(&made)
                    .arg("-xf")
                    .arg(archive)
                    .status()?;
                status
                    .success()
                    .then_some(())
                    .ok_or(io::Error::other("tar failed"))
            })
        }
        "exec" => {
            chroot(dir)?;
            env::set_current_dir("/")?;
            let run = |times: u32| {
                (0..times).try_for_each(|_| Command::new("/usr/bin/true").status().map(drop))
            };
            run(20)?;
            timed(200, || run(200))
        }
        "chmod-big" => timed(1, || {
            fs::set_permissions(dir.join("big"), fs::Permissions::from_mode(0o600))
        }),
        "append-big" => timed(1, || {
            OpenOptions::new()
                .append(true)
                .open(dir.join("big"))?
                .write_all(b"x")
        }),
        _ => Err(io::Error::other(format!("no row {name}"))),
    }
}

fn main() -> io::Result<()> {
    let mut arguments = env::args_os().skip(1);
    // `cargo bench` and `cargo test --benches` start this program too, with
    // options of their own; there is nothing to measure without a directory.
    let (Some(name), Some(dir)) = (arguments.next(), arguments.next()) else {
        return Ok(());
    };
    let Some(name) = name.to_str().filter(|name| !name.starts_with('-')) else {
        return Ok(());
    };
    let (took, operations) = row(name, Path::new(&dir), arguments.next())?;
    writeln!(io::stdout(), "{} {operations}", took.as_nanos())
}
