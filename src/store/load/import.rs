//! `import`: the archive of a root filesystem becomes an image of one layer.
//!
//! It is read twice: for its DiffID, which the image's configuration holds, and
//! as a layer like any other.

use super::Loaded;
use super::plan::{Plan, PlannedLayer};
use crate::store::archive::{Archive, WHOLE, spool};
use crate::store::change::{self, Config};
use crate::store::compressed;
use crate::store::digest::{Digest, Hasher};
use crate::store::document::{ImageConfig, Platform};
use crate::store::error::{Context, Result, invalid};
use crate::store::pipeline::{Encoding, decoder};
use crate::store::reference::Reference;
use crate::store::staging::{self, Staging};
use crate::store::{Store, to_json};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::os::unix::fs::FileExt;

/// What the image of an archive is to be.
#[derive(Debug)]
pub struct Import {
    /// Its name, if it gets one.
    pub name: Option<Reference>,
    /// Instructions, see [`change`].
    pub changes: Vec<String>,
    /// What its history says.
    pub comment: String,
    /// When it is made, RFC 3339.
    pub created: String,
    /// What it runs on.
    pub platform: Platform,
}

impl Store {
    /// Make an image of the uncompressed, gzip or zstd archive in `file`.
    ///
    /// # Errors
    /// For an archive or an instruction that is not as it must be, and when
    /// the store cannot be written.
    pub fn import(&self, mut file: File, wish: Import) -> Result<Loaded> {
        self.import_with(wish, |staging| match is_whole(&mut file)? {
            true => Ok(file),
            false => spooled(file, staging),
        })
    }

    /// As [`Store::import`], of an archive that comes as a stream.
    ///
    /// # Errors
    /// As [`Store::import`].
    pub fn import_stream(&self, stream: impl Read + Send, wish: Import) -> Result<Loaded> {
        self.import_with(wish, |staging| spooled(stream, staging))
    }

    fn import_with(
        &self,
        wish: Import,
        open: impl FnOnce(&Staging) -> Result<File>,
    ) -> Result<Loaded> {
        let _adding = self.lock_adding()?;
        staging::remove_stale(&self.tmp())?;
        let staging = Staging::new(&self.tmp())?;
        let mut file = open(&staging)?;
        let diff_id = diff_id(&mut file)?;
        let plan = plan(diff_id, wish)?;
        let loaded = self.take_in_to(&staging, &Archive::whole(file)?, vec![plan])?;
        match loaded.into_iter().next() {
            Some(loaded) => Ok(loaded),
            None => invalid("the archive became no image"),
        }
    }
}

/// Can the file be read again, from its beginning, and be a layer's blob.
fn is_whole(file: &mut File) -> Result<bool> {
    let again = file.metadata().is_ok_and(|m| m.is_file())
        && file.stream_position().is_ok_and(|at| at == 0);
    let mut magic = [0; 16];
    let n = match again {
        true => file
            .read_at(&mut magic, 0)
            .context(|| "cannot read the archive".to_owned())?,
        false => 0,
    };
    Ok(again && !compressed::is_foreign(magic.get(..n).unwrap_or_default()))
}

/// The stream as a file in staging; without a compression that layers do not
/// have.
fn spooled(stream: impl Read + Send, staging: &Staging) -> Result<File> {
    let say = || "cannot read the archive".to_owned();
    let (magic, input) = compressed::begin(stream).context(say)?;
    match compressed::is_foreign(&magic) {
        true => spool(compressed::plain(&magic, input).context(say)?, staging),
        false => spool(input, staging),
    }
}

/// The digest of what the file holds uncompressed, which must look like a tar
/// archive.
fn diff_id(file: &mut File) -> Result<Digest> {
    let say = || "cannot read the archive".to_owned();
    file.rewind().context(say)?;
    let mut input = BufReader::with_capacity(256 << 10, file);
    let magic = input.fill_buf().context(say)?;
    if magic.is_empty() {
        return invalid("the archive is empty: nothing was read");
    }
    if magic.starts_with(b"\x04\x22\x4d\x18") {
        return invalid(
            "the archive is compressed with lz4, which is not read here: try \"lz4 -dc FILE | capas import -\"",
        );
    }
    let mut plain = decoder(Encoding::of(magic), input).context(say)?;
    let mut hasher = Hasher::default();
    let mut buf = vec![0; 256 << 10];
    loop {
        let n = plain.read(&mut buf).context(say)?;
        match buf.get(..n).unwrap_or_default() {
            [] => return Ok(hasher.finish().0),
            data => hasher.update(data),
        }
    }
}

fn plan(diff_id: Digest, wish: Import) -> Result<Plan> {
    let mut config = Config::new();
    change::apply(&mut config, &wish.changes)?;
    let Platform {
        os,
        architecture,
        variant,
    } = wish.platform;
    let mut value: Value = json!({
        "architecture": architecture,
        "os": os,
        "created": wish.created,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": wish.created, "comment": wish.comment}],
    });
    if let (Some(variant), Some(map)) = (variant, value.as_object_mut()) {
        map.insert("variant".to_owned(), variant.into());
    }
    let config_data = to_json(&value)?;
    Ok(Plan {
        config: ImageConfig::parse(&config_data)?,
        config_data,
        manifest: None,
        layers: vec![PlannedLayer {
            diff_id,
            described: None,
            member: WHOLE.to_owned(),
        }],
        names: wish.name.into_iter().collect(),
        origin: None,
    })
}
