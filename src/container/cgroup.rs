//! Limits, and whether control groups can enforce them here.

use crate::store::error::{Context, Result, invalid};
use crate::sys::creds;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

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
    all: usize,
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
            out.all += 1;
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
        self.all > 0 && self.all == self.writable
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
