//! The workloads of scripts/bench: `work ROW DIR [ARG...]` does one and prints
//! how many nanoseconds it took and how many operations it was. What can be done
//! again without being another thing is done some times; the median counts.
//!
//! A program of its own, since what is measured is a few microseconds and an
//! interpreter would cost as much again.

use capas::catalog::Catalog;
use capas::layer::open::OpenDir;
use capas::sys::{self, probe::Features};
use capas::union::{catalog, options::Options};
use std::env;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{PermissionsExt, chroot, lchown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
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

/// The median of some passes.
fn again(passes: usize, mut work: impl FnMut() -> Done) -> Done {
    let mut done = (0..passes)
        .map(|_| work())
        .collect::<io::Result<Vec<_>>>()?;
    done.sort_unstable();
    done.get(passes / 2)
        .copied()
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn find(dir: &Path) -> Done {
    let before = Instant::now();
    let count = find_stat(dir)?;
    Ok((before.elapsed(), count))
}

/// Two processes that each look at everything, from when they are told to begin.
fn two_finds(dir: &Path) -> Done {
    let waiting = || {
        Command::new(env::current_exe()?)
            .arg("find-stat-told")
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
    };
    let mut finds: Vec<Child> = vec![waiting()?, waiting()?];
    // Their first line says that they wait.
    for find in &mut finds {
        let said = find.stdout.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        said.read_exact(&mut [0])?;
    }
    let before = Instant::now();
    for find in &mut finds {
        drop(find.stdin.take());
    }
    let mut total = 0;
    for find in finds {
        let out = find.wait_with_output()?;
        let text = String::from_utf8_lossy(&out.stdout);
        let count = text.split_whitespace().last().and_then(|n| n.parse().ok());
        total += count.unwrap_or(0_u64);
    }
    Ok((before.elapsed(), total))
}

fn find_when_told(dir: &Path) -> Done {
    writeln!(io::stdout())?;
    io::stdout().flush()?;
    io::copy(&mut io::stdin(), &mut io::sink())?;
    find(dir)
}

fn lstat(dir: &Path) -> Done {
    let mut paths = Vec::new();
    walk(dir, &mut paths)?;
    for path in &paths {
        fs::symlink_metadata(path)?;
    }
    again(5, || {
        timed(paths.len() as u64, || {
            paths
                .iter()
                .try_for_each(|path| fs::symlink_metadata(path).map(drop))
        })
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

/// The names `PREFIX0` and so on, each looked up for the first time.
fn lookup(dir: &Path, prefix: &str, count: u64) -> Done {
    let paths: Vec<PathBuf> = (0..count)
        .map(|number| dir.join(format!("{prefix}{number}")))
        .collect();
    timed(count, || {
        paths
            .iter()
            .try_for_each(|path| fs::symlink_metadata(path).map(drop))
    })
}

fn create_unlink(dir: &Path, count: u64) -> Done {
    let path = |number| dir.join(format!("f{number}"));
    timed(count, || {
        (0..count).try_for_each(|number| File::create(path(number))?.write_all(b"x"))?;
        (0..count).try_for_each(|number| fs::remove_file(path(number)))
    })
}

/// The catalog of these layers, top first, written to `file` as the store does;
/// how many names it has.
fn make_catalog(file: &Path, layers: &[OsString]) -> Done {
    let open = |path: &OsString| {
        let fd = sys::fs::open_dir_path(rustix::fs::CWD, path)?;
        let path = PathBuf::from(path);
        io::Result::Ok(OpenDir {
            fd,
            path,
            idmapped: false,
        })
    };
    let before = Instant::now();
    let layers = layers.iter().map(open).collect::<io::Result<_>>()?;
    let made = catalog::build(layers, &Options::default(), Features::all());
    let made = made.map_err(io::Error::other)?;
    let mut out = File::create(file)?;
    out.write_all(&made)?;
    out.sync_data()?;
    let took = before.elapsed();
    let entries = Catalog::parse(made).map_err(|why| io::Error::other(why.to_string()))?;
    Ok((took, entries.entries().into()))
}

fn row(name: &str, dir: &Path, arguments: &[OsString]) -> Done {
    let argument = |number: usize| {
        let given = arguments.get(number).and_then(|a| a.to_str());
        given.ok_or(io::Error::from(io::ErrorKind::InvalidInput))
    };
    let usr = dir.join("usr");
    let made = dir.join("made");
    match name {
        "find-stat-warm" => {
            find(dir)?;
            again(5, || find(dir))
        }
        "find-stat-cold" | "find-stat-first" => find(dir),
        "find-stat-2" => {
            find(dir)?;
            again(5, || two_finds(dir))
        }
        "find-stat-told" => find_when_told(dir),
        "lookup" => {
            let count = argument(1)?.parse();
            lookup(dir, argument(0)?, count.map_err(io::Error::other)?)
        }
        "lstat-warm" => lstat(dir),
        "open-read-close-warm" => {
            let paths = files(&usr, 3000)?;
            open_read_close(&paths)?;
            again(5, || timed(paths.len() as u64, || open_read_close(&paths)))
        }
        // The list comes from elsewhere: to make it here would warm the caches.
        "open-read-close-cold" => {
            let list = fs::read_to_string(argument(0)?)?;
            let paths: Vec<PathBuf> = list.lines().map(|line| dir.join(line)).collect();
            timed(paths.len() as u64, || open_read_close(&paths))
        }
        "negative-first" => timed(10_000, || absent(&usr.join("bin"), 10_000)),
        "negative-again" => {
            absent(&usr.join("bin"), 10_000)?;
            again(5, || timed(10_000, || absent(&usr.join("bin"), 10_000)))
        }
        "create-unlink" => {
            // Once: where files were deleted before, ext4 is slow to make new ones.
            fs::create_dir_all(&made)?;
            create_unlink(&made, 5000)
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
        "make-catalog" => make_catalog(dir, arguments),
        "rm-tree" => timed(1, || fs::remove_dir_all(&usr)),
        "untar" => {
            fs::create_dir_all(&made)?;
            let archive = argument(0)?;
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
            again(5, || timed(100, || run(100)))
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
    let rest: Vec<OsString> = arguments.collect();
    let (took, operations) = row(name, Path::new(&dir), &rest)?;
    writeln!(io::stdout(), "{} {operations}", took.as_nanos())
}
