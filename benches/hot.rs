//! The union's part of frequent requests, without mount and kernel, for
//! scripts/bench-hot: `hot ROW COUNT DIR` does one so many times over three
//! layers made in DIR, an empty directory.

use capas::layer::open::{OpenDir, OpenLayers};
use capas::sys::{fs as sysfs, probe::Features};
use capas::union::{Caller, Union, options::Options};
use rustix::fs::CWD;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::Path;

const ROOT: u64 = 1;
const FILES: usize = 200;
const CALLER: Caller = Caller {
    uid: 0,
    gid: 0,
    pid: 0,
};

type Done = Result<(), Box<dyn std::error::Error>>;

fn layers(base: &Path) -> io::Result<OpenLayers> {
    for layer in ["top", "middle", "bottom", "upper"] {
        fs::create_dir_all(base.join(layer).join("merged"))?;
    }
    fs::create_dir(base.join("work"))?;
    for number in 0..FILES {
        fs::write(base.join(format!("bottom/merged/l{number}")), "lower")?;
        fs::write(base.join(format!("upper/merged/u{number}")), "upper")?;
    }
    let open = |name: &str| -> io::Result<OpenDir> {
        let path = base.join(name);
        Ok(OpenDir {
            fd: sysfs::open_dir_path(CWD, path.as_os_str())?,
            path,
            idmapped: false,
        })
    };
    Ok(OpenLayers {
        lower: ["top", "middle", "bottom"]
            .into_iter()
            .map(open)
            .collect::<io::Result<_>>()?,
        upper: Some(open("upper")?),
        work: Some(open("work")?),
        locks: Vec::new(),
        catalog: None,
    })
}

fn names(prefix: &str) -> Vec<OsString> {
    (0..FILES)
        .map(|number| format!("{prefix}{number}").into())
        .collect()
}

/// One row, so many times.
fn work(union: &Union, row: &str, count: usize) -> Done {
    let dir = union.lookup(ROOT, OsStr::new("merged"))?.id;
    let find = |name: &OsStr| -> Done {
        let attr = union.lookup(dir, name)?;
        union.forget(attr.id, 1);
        Ok(())
    };
    let (lower, upper, absent) = (names("l"), names("u"), names("absent"));
    let file = union.lookup(dir, OsStr::new("u0"))?.id;
    let each = |names: &[OsString], act: &dyn Fn(&OsStr) -> Done| -> Done {
        names.iter().cycle().take(count).try_for_each(|n| act(n))
    };
    match row {
        "lookup-lower" => each(&lower, &find),
        "lookup-upper" => each(&upper, &find),
        "lookup-absent" => each(&absent, &|name| {
            let found = union.lookup(dir, name).is_ok();
            found
                .then_some(())
                .map_or(Ok(()), |()| Err("it is there".into()))
        }),
        "getattr" => each(&upper, &|_| Ok(union.getattr(file).map(drop)?)),
        "open-release" => each(&upper, &|_| {
            let opened = union.open_file(file, libc::O_RDONLY, CALLER)?;
            union.release(file, opened.handle, libc::O_RDONLY);
            Ok(())
        }),
        "readdir" => each(&upper, &|_| Ok(union.readdir(dir, 0, |_| true)?)),
        "create-unlink" => each(&absent, &|name| {
            let flags = libc::O_WRONLY;
            let (attr, opened) = union.create(dir, name, 0o644, 0o022, flags, CALLER)?;
            union.release(attr.id, opened.handle, flags);
            union.unlink(dir, name)?;
            union.forget(attr.id, 1);
            Ok(())
        }),
        _ => Err(format!("no row {row}").into()),
    }
}

fn main() -> Done {
    let arguments: Vec<String> = env::args().skip(1).collect();
    // `cargo bench` and `cargo test --benches` start this program too.
    let [row, count, dir] = arguments.as_slice() else {
        return Ok(());
    };
    let union = Union::open(
        layers(Path::new(dir))?,
        &Options::default(),
        Features::all(),
    )?;
    work(&union, row, count.parse()?)?;
    union.close();
    Ok(())
}
