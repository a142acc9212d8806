//! Are the records of containers what they must be, and what do they keep.

use super::{Containers, Held, is_id};
use crate::store::check::Finding;
use crate::store::error::{Context, Error, Result, show};
use crate::store::remove::User;
use crate::store::{Digest, read_file};
use std::fs;

/// Directories that every container has.
const DIRS: [&str; 5] = ["upper", "work", "merged", "empty", "bundle"];

impl Containers<'_> {
    /// Look at every container; each finding goes to `tell`. Returns how many
    /// there are, and what they use, if all their records can be read.
    ///
    /// # Errors
    /// When the directory of containers cannot be read.
    pub fn check(&self, tell: &mut dyn FnMut(Finding)) -> Result<(usize, Option<Vec<User>>)> {
        let dir = self.store.containers();
        let say = || format!("cannot read {}", dir.display());
        let mut count = 0;
        let mut known = true;
        for entry in fs::read_dir(&dir).context(say)? {
            let name = entry.context(say)?.file_name();
            let shown = show(name.as_encoded_bytes());
            let Some(id) = name.to_str().filter(|n| is_id(n)) else {
                let why = "it is no container, remove it by hand".to_owned();
                tell(Finding::Unused(format!("containers/{shown}"), why));
                continue;
            };
            count += 1;
            match self.check_one(id) {
                Ok(None) => {}
                // It was removed meanwhile: what it had is gone before its layers are.
                _ if !self.dir(id).exists() => count -= 1,
                Ok(Some(why)) => tell(Finding::Damaged(format!("container {shown}"), why)),
                Err(e) => {
                    known = false;
                    tell(Finding::Damaged(
                        format!("container {shown}"),
                        e.to_string(),
                    ));
                }
            }
        }
        let users = match known {
            true => Some(self.users()?),
            false => None,
        };
        Ok((count, users))
    }

    /// What is wrong with a container whose record can be read.
    fn check_one(&self, id: &str) -> Result<Option<String>> {
        let record = self.read(id)?;
        for name in DIRS {
            let dir = self.dir(id).join(name);
            // A mount whose daemon died cannot be looked at.
            let gone =
                fs::symlink_metadata(dir).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound);
            if gone {
                return Ok(Some(format!("its directory {name} is missing")));
            }
        }
        for layer in &record.layers {
            let json = self.store.layers().join(format!("{}.json", layer.hex()));
            if read_file(&json, 1 << 20).is_err() || !self.store.layer_dir(layer).is_dir() {
                return Ok(Some(format!("its layer {layer} is not in the store")));
            }
        }
        Ok(None)
    }

    /// Keep the layer called `layer` from being mounted, as long as the result
    /// lives and the caller holds the store's lock: nobody mounts a container
    /// without holding it, and none is made meanwhile.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it is mounted, which says by which container.
    pub fn claim_layer(&self, layer: &Digest) -> Result<Vec<Held>> {
        let mut held = Vec::new();
        for record in self.list_whole()? {
            if record.layers.contains(layer) {
                held.push(self.hold(&record)?);
                if self.is_mounted(&record)? {
                    return Err(Error::Conflict(format!(
                        "container {} has it mounted: stop or unmount it, and check again",
                        record.name
                    )));
                }
            }
        }
        Ok(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use std::process::Command;

    /// Between the reading of its record and the look at its directories.
    #[test]
    fn a_container_that_is_removed_meanwhile_is_not_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let containers = Containers::new(&store);
        let id = Digest::of(b"container").hex().to_owned();
        let own = containers.dir(&id);
        DIRS.iter()
            .for_each(|name| fs::create_dir_all(own.join(name)).unwrap());
        let image = Digest::of(b"");
        let record = format!(
            r#"{{"id":"{id}","name":"n","image":"{image}","image_name":"","image_size":0,
            "layers":[],"created":0,"args":[],"entrypoint":0,"env":[],"user":"",
            "working_dir":"/","network":"none","auto_remove":false}}"#
        );
        fs::write(own.join("config.json"), record).unwrap();
        let state = own.join("state.json");
        assert!(
            Command::new("mkfifo")
                .arg(&state)
                .status()
                .unwrap()
                .success()
        );
        let mut found = Vec::new();
        let counted = std::thread::scope(|scope| {
            let remover = scope.spawn(|| {
                // Opened once its state is read.
                let state = fs::OpenOptions::new().write(true).open(&state).unwrap();
                fs::rename(&own, dir.path().join("tmp/gone")).unwrap();
                drop(state);
            });
            let counted = containers
                .check(&mut |finding| found.push(finding))
                .unwrap();
            remover.join().unwrap();
            counted.0
        });
        assert_eq!((counted, found.len()), (0, 0), "{found:?}");
    }
}
