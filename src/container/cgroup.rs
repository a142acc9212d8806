//! Limits, and whether control groups can enforce them here.

use super::signal;
use crate::store::error::{Context, Result, invalid};
use crate::sys::child::Handle;
use crate::sys::creds;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The group of all containers, in each hierarchy.
const PARENT: &str = "/capas";
/// How long killed processes may take to leave their groups.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a container may use; nothing is limited that is not given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<i64>,
    /// Billionths of processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nano_cpus: Option<i64>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<i64>,
}

impl Limits {
    /// The options that were given, with the controllers that they need.
    fn wanted(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        [
            self.memory.map(|_| ("--memory", "memory")),
            self.nano_cpus.map(|_| ("--cpus", "cpu")),
            self.pids.map(|_| ("--pids-limit", "pids")),
        ]
        .into_iter()
        .flatten()
    }

    /// Refuse limits that cannot be had here.
    ///
    /// # Errors
    /// For the first such.
    pub fn check(&self) -> Result<()> {
        let mut wanted = self.wanted().peekable();
        if wanted.peek().is_none() {
            return Ok(());
        }
        let hierarchies = Hierarchies::read()?;
        for (option, controller) in wanted {
            if !hierarchies.usable() || !hierarchies.has(controller) {
                return invalid(format!(
                    "{option} cannot be had: the control group controller \"{controller}\" cannot be used here; leave {option} out, or run where it is there"
                ));
            }
        }
        Ok(())
    }
}

/// The control group hierarchies that are mounted.
#[derive(Debug, Default)]
struct Hierarchies {
    points: Vec<PathBuf>,
    writable: usize,
    controllers: Vec<String>,
}

impl Hierarchies {
    fn read() -> Result<Hierarchies> {
        let table = fs::read_to_string("/proc/self/mountinfo")
            .context(|| "cannot read the mount table".to_owned())?;
        Ok(Hierarchies::parse(&table, |point| {
            fs::read_to_string(Path::new(point).join("cgroup.controllers")).unwrap_or_default()
        }))
    }

    /// `controllers` gives those of a hierarchy of version 2.
    fn parse(table: &str, controllers: impl Fn(&str) -> String) -> Hierarchies {
        let mut out = Hierarchies::default();
        for line in table.lines() {
            let Some((mount, source)) = line.split_once(" - ") else {
                continue;
            };
            let mut source = source.split(' ');
            let kind = source.next().unwrap_or_default();
            if !kind.starts_with("cgroup") {
                continue;
            }
            let mut mount = mount.split(' ');
            let point = mount.nth(4).unwrap_or_default();
            let options = mount.next().unwrap_or_default();
            out.points.push(point.into());
            out.writable += usize::from(options.split(',').any(|o| o == "rw"));
            if kind == "cgroup2" {
                let all = controllers(point);
                out.controllers
                    .extend(all.split_whitespace().map(str::to_owned));
            } else {
                let all = source.nth(1).unwrap_or_default();
                out.controllers.extend(all.split(',').map(str::to_owned));
            }
        }
        out
    }

    fn usable(&self) -> bool {
        !self.points.is_empty() && self.points.len() == self.writable
    }

    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }
}

/// Is it enforced which devices a container may use.
///
/// # Errors
/// When the mount table cannot be read.
pub fn devices_guarded() -> Result<bool> {
    let hierarchies = Hierarchies::read()?;
    // Version 2 does it by a program in the kernel, for whose memory runtimes
    // raise a limit.
    let possible = hierarchies.has("devices") || creds::has_capability(creds::cap::SYS_RESOURCE);
    Ok(hierarchies.usable() && possible)
}

/// The control groups of a container, as runtimes are told.
pub fn path(id: &str) -> PathBuf {
    Path::new(PARENT).join(id)
}

/// Remove the control groups of a container that has ended, with what is still
/// in them: a runtime that was killed has left them, and perhaps itself.
///
/// # Errors
/// When one stays.
pub fn remove(id: &str) -> Result<()> {
    let hierarchies = Hierarchies::read()?;
    if !hierarchies.usable() {
        return Ok(());
    }
    let begun = Instant::now();
    for point in hierarchies.points {
        let group = point.join(PARENT.trim_start_matches('/')).join(id);
        loop {
            match fs::remove_dir(&group) {
                Ok(()) => break,
                Err(e) if e.kind() == ErrorKind::NotFound => break,
                Err(e) if e.kind() != ErrorKind::ResourceBusy || begun.elapsed() > PATIENCE => {
                    return Err(e).context(|| format!("cannot remove {}", group.display()));
                }
                Err(_) => end(&group),
            }
        }
    }
    Ok(())
}

/// Kill what is in a group, and wait a little.
fn end(group: &Path) {
    let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    for pid in processes.lines().filter_map(|line| line.parse().ok()) {
        // One that has just left the group may have given its number away.
        let member = || {
            let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            let id = group.file_name().map(|name| name.to_string_lossy());
            id.is_some_and(|id| groups.contains(&*id))
        };
        if let Ok(process) = Handle::open(pid)
            && member()
        {
            let _ = process.signal(signal::KILL);
        }
    }
    std::thread::sleep(Duration::from_millis(5));
}

/// Let what is in a container's groups go on, whoever has stopped it and died:
/// in version 1 not even a kill reaches what stands still.
pub fn thaw(id: &str) {
    let Ok(hierarchies) = Hierarchies::read() else {
        return;
    };
    for point in hierarchies.points {
        let group = point.join(PARENT.trim_start_matches('/')).join(id);
        for (file, text) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
            let opened = fs::OpenOptions::new().write(true).open(group.join(file));
            // Where there is none there is nothing to be done.
            if let Ok(mut file) = opened
                && let Err(e) = file.write_all(text.as_bytes())
            {
                log::warn!("cannot let container {id} go on: {e}");
            }
        }
    }
}

/// Is swap counted, so that it can be limited.
///
/// # Errors
/// When the mount table cannot be read.
pub fn swap_counted() -> Result<bool> {
    let two = |point: &Path| {
        // The topmost group has no limits.
        let groups = fs::read_dir(point).ok()?;
        let mut groups = groups.flatten().map(|group| group.path());
        Some(groups.any(|group| group.join("memory.swap.max").exists()))
    };
    let hierarchies = Hierarchies::read()?;
    Ok(hierarchies.points.iter().any(|point| {
        point.join("memory.memsw.limit_in_bytes").exists() || two(point).unwrap_or_default()
    }))
}

/// Was something of a container killed for want of memory; asked before its
/// groups are removed.
pub fn oom_killed(id: &str) -> bool {
    let killed = |text: String| {
        let count = text.lines().find_map(|l| l.strip_prefix("oom_kill "));
        count.is_some_and(|count| count.trim() != "0")
    };
    let files = ["memory.events", "memory.oom_control"];
    Hierarchies::read().is_ok_and(|hierarchies| {
        hierarchies.points.iter().any(|point| {
            let group = point.join(PARENT.trim_start_matches('/')).join(id);
            let mut texts = files
                .iter()
                .map(|file| fs::read_to_string(group.join(file)));
            texts.any(|text| text.is_ok_and(killed))
        })
    })
}

/// Is there a hierarchy, and may it be written.
///
/// # Errors
/// When the mount table cannot be read.
pub fn usable() -> Result<bool> {
    Ok(Hierarchies::read()?.usable())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_found() {
        let one = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
                   35 31 0:32 / /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
                   1 2 0:3 / / rw - ext4 /dev/x rw\n";
        let found = Hierarchies::parse(one, |_| String::new());
        assert!(!found.usable() && found.has("cpuacct") && found.has("memory"));
        assert!(!found.has("pids"));
        let two = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        let found = Hierarchies::parse(two, |point| {
            assert_eq!(point, "/sys/fs/cgroup");
            "cpu memory pids\n".to_owned()
        });
        assert!(found.usable() && found.has("pids") && !found.has("io"));
        assert!(!Hierarchies::parse("", |_| String::new()).usable());
    }
}
