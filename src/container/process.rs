//! Is a process that was written down still the same one.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The exit code of a container of which nobody saw the end.
pub const UNKNOWN_EXIT: i32 = 255;

/// The process of a pid file, if it is alive and the one that was meant: a
/// process that began after the file was written only has its number.
pub fn from_pid_file(path: &Path) -> Option<u32> {
    let written = fs::metadata(path).ok()?.modified().ok()?;
    let pid: u32 = fs::read_to_string(path).ok()?.trim().parse().ok()?;
    let began = start_time(pid)?;
    (began <= written + Duration::from_secs(2)).then_some(pid)
}

/// When a process that is no zombie began.
fn start_time(pid: u32) -> Option<SystemTime> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let mut fields = stat.get(stat.rfind(')')? + 2..)?.split(' ');
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    let ticks: u64 = fields.nth(18)?.parse().ok()?;
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let boot = boot.lines().find_map(|l| l.strip_prefix("btime "))?;
    // USER_HZ is 100 on every architecture that Linux supports for this file.
    let since_boot = Duration::from_millis(ticks.saturating_mul(10));
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(boot.trim().parse().ok()?) + since_boot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_pid_is_not_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        fs::write(&path, std::process::id().to_string()).unwrap();
        assert_eq!(from_pid_file(&path), Some(std::process::id()));
        let old = SystemTime::now() - Duration::from_secs(1_000_000_000);
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(old)
            .unwrap();
        assert_eq!(from_pid_file(&path), None);
        fs::write(&path, "4194304999").unwrap();
        assert_eq!(from_pid_file(&path), None);
    }
}
