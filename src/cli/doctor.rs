//! `doctor`: can containers be run here, what is missing, and what that costs.

use super::info::{features, filesystem, kernel};
use super::{Failure, Outcome, Output, units};
use crate::container::Containers;
use crate::container::rootfs::{driver, find_program};
use crate::container::runtime::Runtime;
use crate::container::{cgroup, network};
use crate::store::Store;
use crate::store::error::{Context, Error, Result, invalid, show};
use crate::store::staging::Staging;
use crate::sys::offer::{self, ABILITIES, Offer};
use crate::sys::probe::Features;
use crate::sys::{creds, mount, tree};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How grave it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// As it should be.
    Good,
    /// It works without.
    Lacks,
    /// No container runs.
    Fails,
}

/// One thing that was looked at.
struct Line(Verdict, String, String);

fn line(verdict: Verdict, what: &str, why: impl Into<String>) -> Line {
    Line(verdict, what.to_owned(), why.into())
}

/// Good, or lacking with what that costs.
fn either(there: bool, what: &str, good: &str, cost: &str) -> Line {
    match there {
        true => line(Verdict::Good, what, good),
        false => line(Verdict::Lacks, what, cost),
    }
}

/// Look at all that containers need; a line each.
///
/// # Errors
/// When the store cannot be used; exit code 1 when no container can be run.
pub fn doctor(
    containers: &Containers<'_>,
    runtime: Option<&Path>,
    output: &mut Output<'_>,
) -> Outcome {
    let store = containers.store();
    let mut lines = vec![line(Verdict::Good, "kernel", kernel())];
    lines.extend(privileges());
    lines.extend(fuse(store));
    lines.push(match trial(store) {
        Ok(()) => line(Verdict::Good, "mounting with capasfs", "works"),
        Err(e) => line(Verdict::Fails, "mounting with capasfs", e.to_string()),
    });
    lines.extend(backing(containers)?);
    lines.extend(runtimes(runtime));
    lines.extend(resources(store)?);
    for Line(verdict, what, why) in &lines {
        let word = match verdict {
            Verdict::Good => "ok",
            Verdict::Lacks => "missing",
            Verdict::Fails => "FAILED",
        };
        writeln!(output.out, "{word:8}{what}: {why}")?;
    }
    match lines.iter().any(|l| l.0 == Verdict::Fails) {
        false => {
            writeln!(output.out, "Containers can be run.")?;
            Ok(0)
        }
        true => {
            writeln!(
                output.out,
                "Containers cannot be run: see the lines that FAILED."
            )?;
            Err(Failure::Said(1))
        }
    }
}

fn privileges() -> Vec<Line> {
    let first = creds::in_first_user_namespace();
    let root = creds::effective_uid() == 0;
    let mut lines = vec![match (root, first) {
        (true, true) => line(Verdict::Good, "user", "root"),
        (true, false) => line(
            Verdict::Lacks,
            "user",
            "root of a user namespace: no passthrough, no devices, marks are user.overlay.* attributes",
        ),
        (false, _) => line(
            Verdict::Lacks,
            "user",
            "not root: mounts need fusermount3, owners and devices of images are left out",
        ),
    }];
    lines.push(either(
        creds::has_capability(creds::cap::SYS_ADMIN),
        "CAP_SYS_ADMIN",
        "there",
        "mounts need fusermount3, file data passes through the daemon",
    ));
    lines.push(either(
        creds::has_capability(creds::cap::DAC_READ_SEARCH),
        "CAP_DAC_READ_SEARCH",
        "there",
        "inode numbers of copied files change with a new mount",
    ));
    lines
}

/// /dev/fuse, and what the kernel offers over it.
fn fuse(store: &Store) -> Vec<Line> {
    let helper = find_program(Path::new("fusermount3"));
    let mut lines = vec![
        match mount::open_device() {
            Ok(_) => line(Verdict::Good, "/dev/fuse", "can be opened"),
            Err(e) if helper.is_some() && creds::effective_uid() != 0 => line(
                Verdict::Lacks,
                "/dev/fuse",
                format!("cannot be opened ({e}), fusermount3 may"),
            ),
            Err(e) => line(
                Verdict::Fails,
                "/dev/fuse",
                format!(
                    "cannot be opened: {e} (modprobe fuse, or give the device to this container)"
                ),
            ),
        },
        match &helper {
            Some(path) => line(Verdict::Good, "fusermount3", path.display().to_string()),
            None => line(
                Verdict::Lacks,
                "fusermount3",
                "only root can mount (install fuse3)",
            ),
        },
    ];
    match asked(store) {
        Err(e) => lines.push(line(
            Verdict::Lacks,
            "FUSE protocol",
            format!("the kernel cannot be asked: {e}"),
        )),
        Ok(offer) => {
            let (major, minor) = offer.version;
            lines.push(line(
                Verdict::Good,
                "FUSE protocol",
                format!("{major}.{minor}"),
            ));
            // The kernel offers it to all, and registers files for few.
            let registers =
                creds::in_first_user_namespace() && creds::has_capability(creds::cap::SYS_ADMIN);
            for (name, bit) in ABILITIES {
                let usable = name != "passthrough" || registers;
                let cost = match name {
                    "passthrough" if offer.has(bit) => {
                        "data of large files passes through the daemon (only the machine's root may do without)"
                    }
                    "passthrough" => {
                        "data of large files passes through the daemon (Linux 6.9 has it)"
                    }
                    "killpriv_v2" => {
                        "writes by unprivileged users are checked by the daemon (5.12)"
                    }
                    "no_opendir" => "opening a directory takes a message (5.1)",
                    "posix_acl" => "no POSIX ACLs (4.9)",
                    _ => "no idmapped mounts of containers' roots (6.12)",
                };
                lines.push(either(
                    offer.has(bit) && usable,
                    &format!("FUSE {name}"),
                    "offered",
                    cost,
                ));
            }
        }
    }
    lines
}

/// What the kernel says it can do.
fn asked(store: &Store) -> std::result::Result<Offer, String> {
    let staging = Staging::new(&store.tmp()).map_err(|e| e.to_string())?;
    let place = staging.subdir("trial").map_err(|e| e.to_string())?;
    offer::ask(&place).map_err(|e| e.to_string())
}

/// Mount two layers for a trial, and write through the mount.
fn trial(store: &Store) -> Result<()> {
    let staging = Staging::new(&store.tmp())?;
    for dir in ["lower", "upper", "work", "mnt"] {
        staging.subdir(dir)?;
    }
    let at = |name: &str| staging.path().join(name);
    let say = || "the trial mount cannot be used".to_owned();
    fs::write(at("lower/file"), "below").context(say)?;
    let program = driver();
    let mounted = Command::new(&program)
        .current_dir(staging.path())
        .args(["-o", "lowerdir=lower,upperdir=upper,workdir=work", "mnt"])
        .stdin(Stdio::null())
        .output()
        .context(|| format!("{}", program.display()))?;
    if !mounted.status.success() {
        return invalid(show(mounted.stderr.trim_ascii()));
    }
    let used = || -> std::io::Result<bool> {
        let below = fs::read(at("mnt/file"))?;
        fs::write(at("mnt/file"), "above")?;
        Ok(below == b"below" && fs::read(at("mnt/file"))? == b"above")
    };
    let used = used();
    // Its daemon lets go of the layers a moment later.
    mount::detach(&at("mnt")).context(say)?;
    let kept = fs::read(at("lower/file")).context(say)?;
    match used.context(say)? && kept == b"below" {
        true => Ok(()),
        false => invalid("what was written to the trial mount is not what was read"),
    }
}

/// What the store's filesystem can do.
fn backing(containers: &Containers<'_>) -> Result<Vec<Line>> {
    let mut lines = vec![line(
        Verdict::Good,
        "store",
        format!(
            "{} on {}",
            containers.store().root().display(),
            filesystem(containers.store().root())?
        ),
    )];
    let have = match features(containers) {
        Ok(have) => have,
        Err(e) => {
            lines.push(line(Verdict::Fails, "writing to the store", e.to_string()));
            return Ok(lines);
        }
    };
    let costs = [
        (
            Features::TRUSTED,
            "trusted.* attributes",
            "marks are user.overlay.* attributes or files",
        ),
        (
            Features::XATTR,
            "user.* attributes",
            "images with such attributes lose them",
        ),
        (
            Features::MKNOD,
            "whiteouts (devices 0:0)",
            "whiteouts are attributes or .wh. files",
        ),
        (
            Features::WHITEOUT_RENAME,
            "RENAME_WHITEOUT",
            "a rename of a lower file is two steps",
        ),
        (
            Features::EXCHANGE,
            "RENAME_EXCHANGE",
            "damaged layers cannot be swapped by 'capas check --repair'",
        ),
        (
            Features::TMPFILE,
            "O_TMPFILE",
            "copied files have a name in the work directory meanwhile",
        ),
        (
            Features::REFLINK,
            "reflink",
            "a file that is changed is copied, not shared (btrfs and xfs have it)",
        ),
        (
            Features::HANDLES,
            "file handles",
            "inode numbers of copied files change with a new mount",
        ),
    ];
    for (feature, what, cost) in costs {
        lines.push(either(have.has(feature), what, "there", cost));
    }
    Ok(lines)
}

/// The runtimes that are there and start.
fn runtimes(chosen: Option<&Path>) -> Vec<Line> {
    let mut lines = Vec::new();
    let names = match chosen {
        Some(name) => vec![name.to_owned()],
        None => vec![PathBuf::from("runc"), PathBuf::from("crun")],
    };
    let mut any = false;
    for name in names {
        let what = format!("runtime {}", name.display());
        lines.push(
            match Runtime::find(Some(&name)).and_then(|r| version(r.program())) {
                Ok(version) => {
                    any = true;
                    line(Verdict::Good, &what, version)
                }
                Err(e) => line(Verdict::Lacks, &what, e.to_string()),
            },
        );
    }
    if !any {
        let why = "no runtime starts: install runc or crun, or name one with --runtime";
        lines.push(line(Verdict::Fails, "runtime", why));
    }
    lines.push(match cgroup::usable() {
        Ok(true) => line(Verdict::Good, "cgroups", "can be written"),
        Ok(false) => line(Verdict::Lacks, "cgroups", "containers run without limits"),
        Err(e) => line(Verdict::Lacks, "cgroups", e.to_string()),
    });
    lines.push(either(
        network::program().is_ok(),
        "pasta",
        "there",
        "no published ports and no private networks: install passt",
    ));
    lines
}

/// The first line of a runtime's `--version`.
fn version(program: &Path) -> Result<String> {
    let say = || format!("{} does not start", program.display());
    let out = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .context(say)?;
    match out.status.success() {
        true => {
            let first = out.stdout.split(|b| *b == b'\n').next().unwrap_or_default();
            Ok(format!("{} ({})", program.display(), show(first)))
        }
        false => Err(Error::Invalid(say())),
    }
}

fn resources(store: &Store) -> Result<Vec<Line>> {
    let say = || "cannot look at the store's filesystem".to_owned();
    let root = File::open(store.root()).context(say)?;
    let free = tree::free_bytes(&root).context(say)?;
    let files = creds::open_files_limit();
    Ok(vec![
        match files {
            0..1024 => line(
                Verdict::Lacks,
                "open files",
                format!("at most {files}: mounts of many layers may fail"),
            ),
            _ => line(Verdict::Good, "open files", format!("at most {files}")),
        },
        match free {
            0..1_000_000_000 => line(
                Verdict::Lacks,
                "free space",
                format!("{}: little room for images", units::size(free)),
            ),
            _ => line(Verdict::Good, "free space", units::size(free)),
        },
    ])
}
