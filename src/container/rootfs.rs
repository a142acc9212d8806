//! A container's root: the image's layers and its own, mounted by capasfs.

use super::{Containers, Record, cgroup};
use crate::store::error::{Context, Error, Result, show};
use crate::sys::{Errno, stream, tree};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Names another capasfs than the one that is found.
const DRIVER_VARIABLE: &str = "CAPAS_CAPASFS";

impl Containers<'_> {
    /// Where a container's root is mounted.
    pub fn mount_point(&self, record: &Record) -> PathBuf {
        self.dir(&record.id).join("merged")
    }

    /// Is it mounted.
    ///
    /// # Errors
    /// When the mount table cannot be read.
    pub fn is_mounted(&self, record: &Record) -> Result<bool> {
        let table = std::fs::read("/proc/self/mountinfo")
            .context(|| "cannot read the mount table".to_owned())?;
        let point = self.mount_point(record);
        let point = escape(point.as_os_str().as_bytes());
        Ok(table
            .split(|b| *b == b'\n')
            .any(|line| line.split(|b| *b == b' ').nth(4) == Some(&point)))
    }

    /// Is it mounted, and its driver alive.
    ///
    /// # Errors
    /// When the mount table cannot be read.
    pub fn is_served(&self, record: &Record) -> Result<bool> {
        Ok(self.is_mounted(record)? && !stream::disconnected(&self.mount_point(record)))
    }

    /// Mount a container's root, which is usable on return.
    ///
    /// # Errors
    /// When capasfs is missing or refuses.
    pub fn mount(&self, record: &Record) -> Result<PathBuf> {
        let point = self.mount_point(record);
        if self.is_served(record)? {
            return Ok(point);
        }
        // Of a driver that has died, if any.
        self.unmount(record)?;
        let driver = driver();
        let chain = record.chain.as_ref();
        let catalog = chain.and_then(|chain| self.store.ready_catalog(chain, &record.layers));
        let refused =
            |why: &str| Error::Invalid(format!("cannot mount container {}: {why}", record.name));
        // Layers are named relative to their directory: short, so that a
        // thousand fit, and free of whatever the store's own path contains.
        let output = Command::new(&driver)
            .current_dir(self.store.layers())
            .arg("-o")
            .arg(options(
                record,
                catalog.as_deref(),
                cgroup::devices_guarded()?,
            ))
            .arg(&point)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .map_err(|e| refused(&format!("{}: {e}", driver.display())))?;
        if !output.status.success() {
            let text = show(output.stderr.trim_ascii());
            let why = if text.is_empty() {
                output.status.to_string()
            } else {
                text
            };
            return Err(refused(&why));
        }
        Ok(point)
    }

    /// Unmount a container's root; nothing if it is not mounted.
    ///
    /// # Errors
    /// When it is in use.
    pub fn unmount(&self, record: &Record) -> Result<()> {
        if !self.is_mounted(record)? {
            return Ok(());
        }
        let point = self.mount_point(record);
        let say = || format!("cannot unmount container {}", record.name);
        match tree::unmount(&point) {
            Err(Errno::PERM) => {
                let done = Command::new("fusermount3")
                    .arg("-u")
                    .arg(&point)
                    .stdin(Stdio::null())
                    .output()
                    .context(say)?;
                if done.status.success() {
                    return Ok(());
                }
                let why = show(done.stderr.trim_ascii());
                Err(Error::Conflict(format!("{}: {why}", say())))
            }
            done => done.context(say),
        }
    }
}

/// The options of capasfs, as seen from the layers' directory. Device nodes of
/// the image are dead where nobody guards devices. Hard links of the image are
/// not kept together (`index`): a name that is not in the writable layer has not
/// changed, so a commit finds all that has in there.
fn options(record: &Record, catalog: Option<&Path>, guarded: bool) -> String {
    let own = |dir: &str| format!("../containers/{}/{dir}", record.id);
    let lower = if record.layers.is_empty() {
        own("empty")
    } else {
        let names: Vec<String> = record.layers.iter().map(|l| l.hex()).collect();
        names.join(":")
    };
    let devices = if guarded { "" } else { "nodev," };
    // Of a build that did not come to its end nothing is kept.
    let volatile = match record.builder {
        Some(_) => "volatile,",
        None => "",
    };
    let catalog = catalog.and_then(|file| file.file_name()?.to_str());
    let catalog = catalog.map_or(String::new(), |name| format!("catalog={name},"));
    format!(
        "{devices}{volatile}{catalog}index=off,lowerdir={lower},upperdir={},workdir={}",
        own("upper"),
        own("work")
    )
}

/// The capasfs that belongs to this program, or else the one in PATH.
pub fn driver() -> PathBuf {
    if let Some(chosen) = std::env::var_os(DRIVER_VARIABLE).filter(|v| !v.is_empty()) {
        return std::path::absolute(&chosen).unwrap_or_else(|_| chosen.into());
    }
    std::env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.parent()?.join("capasfs")))
        .filter(|beside| beside.is_file())
        .unwrap_or_else(|| PathBuf::from("capasfs"))
}

/// A path as the kernel writes it in mount tables.
fn escape(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for b in path {
        match b {
            b' ' | b'\t' | b'\n' | b'\\' => out.extend_from_slice(format!("\\{b:03o}").as_bytes()),
            b => out.push(*b),
        }
    }
    out
}

/// The program `name` in PATH, or as a path if it has a slash.
pub fn find_program(name: &Path) -> Option<PathBuf> {
    if name.as_os_str().as_bytes().contains(&b'/') {
        return name.is_file().then(|| name.to_owned());
    }
    let usual = || OsString::from("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let path = std::env::var_os("PATH").unwrap_or_else(usual);
    // Where root's programs are is not in everybody's PATH.
    std::env::split_paths(&path)
        .chain(std::env::split_paths(&usual()))
        .map(|dir| dir.join(name))
        .find(|p| p.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Digest;

    #[test]
    fn devices_are_dead_where_nobody_guards_them() {
        let text = r#"{"id":"i","name":"n","image":"","image_name":"","image_size":0,
            "layers":[],"created":0,"args":[],"entrypoint":0,"env":[],"user":"",
            "working_dir":"/","network":"none","auto_remove":false}"#;
        let text = text.replacen(
            "\"image\":\"\"",
            &format!("\"image\":\"{}\"", Digest::of(b"")),
            1,
        );
        let record: Record = serde_json::from_str(&text).unwrap();
        assert!(
            options(&record, None, false)
                .split(',')
                .any(|o| o == "nodev")
        );
        assert!(!options(&record, None, true).contains("nodev"));
    }

    #[test]
    fn mount_tables_write_blanks_as_octal() {
        assert_eq!(escape(b"/a b\\c"), b"/a\\040b\\134c");
    }
}
