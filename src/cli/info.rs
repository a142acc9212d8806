//! `info`.

use super::format::{self, Format};
use super::{Outcome, Output};
use crate::container::runtime::Runtime;
use crate::container::{Containers, Status};
use crate::store::error::{Context, Result};
use crate::store::staging::Staging;
use crate::sys::fs as sfs;
use crate::sys::probe::{self, Features};
use clap::Args;
use serde::Serialize;
use std::fs::File;
use std::path::Path;

/// Arguments of `info`.
#[derive(Debug, Args)]
pub struct Info {
    /// Print `json` or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<String>,
}

/// What there is and what it runs on.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Facts {
    store_root: String,
    backing_filesystem: String,
    images: usize,
    containers: usize,
    containers_running: usize,
    containers_stopped: usize,
    driver: &'static str,
    server_version: &'static str,
    features: Vec<&'static str>,
    missing_features: Vec<&'static str>,
    runtime: Option<String>,
    kernel_version: String,
    architecture: &'static str,
    #[serde(rename = "OSType")]
    os_type: &'static str,
    /// What docker's scripts ask for besides.
    #[serde(flatten)]
    machine: Machine,
}

/// What can be known without the store.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Machine {
    /// The store's root by docker's word for it.
    docker_root_dir: String,
    mem_total: u64,
    name: String,
    #[serde(rename = "NCPU")]
    processors: usize,
    operating_system: String,
}

impl Machine {
    fn new(root: &Path) -> Machine {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let memory = read("/proc/meminfo");
        let kilobytes = memory.lines().find_map(|line| {
            let number = line.strip_prefix("MemTotal:")?.strip_suffix("kB")?;
            number.trim().parse::<u64>().ok()
        });
        let release = read("/etc/os-release");
        let pretty = release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
        Machine {
            docker_root_dir: root.display().to_string(),
            mem_total: kilobytes.unwrap_or(0) * 1024,
            name: read("/proc/sys/kernel/hostname").trim().to_owned(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            operating_system: pretty
                .map_or("Linux", |name| name.trim_matches('"'))
                .to_owned(),
        }
    }
}

impl format::Row for Facts {}

/// Show what there is and what it runs on.
///
/// # Errors
/// When the store is damaged.
pub fn info(
    containers: &Containers<'_>,
    args: &Info,
    runtime: Option<&Path>,
    output: &mut Output<'_>,
) -> Outcome {
    let facts = facts(containers, runtime)?;
    if let Some(format) = &args.format {
        return Format::parse(Some(format), "")?.print(&[], &[facts], output);
    }
    let runtime = facts
        .runtime
        .as_deref()
        .unwrap_or("none, so no container runs");
    let features = match (facts.features.as_slice(), facts.missing_features.as_slice()) {
        ([], []) => "not known, as the store cannot be written".to_owned(),
        (there, _) => there.join(" "),
    };
    let lines = [
        ("Version", facts.server_version.to_owned()),
        ("Store Root", facts.store_root),
        ("Backing Filesystem", facts.backing_filesystem),
        ("Images", facts.images.to_string()),
        ("Containers", facts.containers.to_string()),
        (" Running", facts.containers_running.to_string()),
        (" Stopped", facts.containers_stopped.to_string()),
        ("Storage Driver", facts.driver.to_owned()),
        (" Features", features),
        (" Missing", facts.missing_features.join(" ")),
        ("Runtime", runtime.to_owned()),
        ("Kernel Version", facts.kernel_version),
        ("Architecture", facts.architecture.to_owned()),
    ];
    for (name, value) in lines {
        writeln!(output.out, "{}", format!("{name}: {value}").trim_end())?;
    }
    Ok(0)
}

fn facts(containers: &Containers<'_>, runtime: Option<&Path>) -> Result<Facts> {
    let store = containers.store();
    let records = containers.list()?;
    let running = |r: &&_| containers.status(r).0 == Status::Running;
    let running = records.iter().filter(running).count();
    // Where nothing can be written nothing can be tried.
    let have = features(containers).ok();
    let names = |there: bool| {
        let all = Features::NAMES.iter();
        let chosen = all.filter(|(_, bit)| have.is_some_and(|have| have.has(*bit) == there));
        chosen.map(|(name, _)| *name).collect()
    };
    Ok(Facts {
        store_root: store.root().display().to_string(),
        backing_filesystem: filesystem(store.root())?,
        images: store.images()?.len(),
        containers: records.len(),
        containers_running: running,
        containers_stopped: records.len() - running,
        driver: "capasfs",
        server_version: env!("CARGO_PKG_VERSION"),
        features: names(true),
        missing_features: names(false),
        runtime: Runtime::find(runtime)
            .ok()
            .map(|r| r.program().display().to_string()),
        kernel_version: kernel(),
        architecture: std::env::consts::ARCH,
        os_type: "linux",
        machine: Machine::new(store.root()),
    })
}

/// What capasfs can make use of in the store.
pub(super) fn features(containers: &Containers<'_>) -> Result<Features> {
    let staging = Staging::new(&containers.store().tmp())?;
    let say = || "cannot look at the store's filesystem".to_owned();
    let dir = File::open(staging.path()).context(say)?;
    let work = sfs::path_of(crate::sys::At::Fd(std::os::fd::AsFd::as_fd(&dir))).context(say)?;
    Ok(probe::probe_store(Features::all(), &work))
}

/// The running kernel's release.
pub(super) fn kernel() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease");
    text.map_or_else(|_| "unknown".to_owned(), |t| t.trim().to_owned())
}

/// The type of the filesystem that holds `path`, by its usual name.
pub(super) fn filesystem(path: &Path) -> Result<String> {
    let say = || format!("cannot look at {}", path.display());
    let magic = sfs::statfs(File::open(path).context(say)?)
        .context(say)?
        .magic;
    let known = [
        (0xef53, "extfs"),
        (0x5846_5342, "xfs"),
        (0x9123_683e, "btrfs"),
        (0x0102_1994, "tmpfs"),
        (0x2fc1_2fc1, "zfs"),
        (0xf2f5_2010, "f2fs"),
        (0xca45_1a4e, "bcachefs"),
        (0x794c_7630, "overlayfs"),
        (0x6573_5546, "fuse"),
        (0x6969, "nfs"),
    ];
    let name = known.iter().find(|(m, _)| *m == magic);
    Ok(name.map_or_else(|| format!("{magic:#x}"), |(_, name)| (*name).to_owned()))
}
