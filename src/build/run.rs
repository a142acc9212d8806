//! `RUN`.

use super::Build;
use super::copy::{From, How, Layer};
use super::dockerfile::{Command, Run};
use super::files::content;
use super::lines::Document;
use super::mounts::{self, Kind, Wish};
use super::stage::Built;
use super::tree::Tree;
use crate::container::record::Network;
use crate::container::runtime::Runtime;
use crate::container::step::Step;
use crate::container::volume::{self, Mount};
use crate::store::Digest;
use crate::store::change::{Words, in_shell, list};
use crate::store::error::{Context, Error, Result, invalid, show};
use crate::store::staging::Staging;
use crate::sys::At;
use crate::sys::fs as sfs;
use serde_json::json;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Where a document that is a program is found.
const PROGRAMS: &str = "/dev/pipes";

/// What is mounted for a command, as long as this lives.
#[derive(Default)]
struct Mounted {
    mounts: Vec<Mount>,
    _locks: Vec<File>,
    staging: Option<Staging>,
}

/// Where the files of a bind mount are.
enum Place<'a> {
    Context(&'a Tree),
    Other(Tree),
}

impl Place<'_> {
    fn tree(&self) -> &Tree {
        match self {
            Place::Context(tree) => tree,
            Place::Other(tree) => tree,
        }
    }
}

impl<'a> Build<'a> {
    pub(super) fn run(&mut self, at: usize, built: &mut Built<'a>, run: &Run) -> Result<()> {
        let begun = Instant::now();
        let words = built.words();
        let (wishes, network) = self.flags(built, run, &words)?;
        let (args, program) = command(built, run);
        let mut env = built.scope.set();
        let own = list(&built.run, "Env");
        env.extend(own.iter().cloned());
        // Where a mount's files are, and what they are.
        let mut places = Vec::new();
        let mut told = Vec::new();
        for wish in &wishes {
            let place = match &wish.kind {
                Kind::Bind {
                    from: Some(name), ..
                } => {
                    let name = words.expand(name)?;
                    Some(Place::Other(self.tree_of(at, &name)?))
                }
                Kind::Bind { from: None, .. } => Some(Place::Context(&self.sources.tree)),
                _ => None,
            };
            let digest = match (&wish.kind, &place) {
                (Kind::Bind { source, .. }, Some(place)) => {
                    let empty = self.tree(&[])?;
                    Some(content(&files(&empty, place.tree(), source)?)?)
                }
                _ => None,
            };
            told.push(json!([format!("{wish:?}"), digest]));
            places.push(place);
        }
        let what = json!({
            "run": args,
            "program": program.map(Document::content),
            "env": env,
            "user": built.told("User"),
            "dir": built.dir(),
            "network": network,
            "mounts": told,
        });
        let name = self.name(built, &what)?;
        let made_by = made_by(built, &args);
        if self.recall(built, &name, &made_by)? {
            return self.tell.end(None);
        }
        let mut mounted = Mounted {
            _locks: self.lock_caches(&wishes)?,
            ..Mounted::default()
        };
        for (wish, place) in wishes.iter().zip(&places) {
            self.mount(&mut mounted, wish, place.as_ref())?;
        }
        if let Some(document) = program {
            self.mount_program(&mut mounted, document)?;
        }
        mounted.mounts.sort_by(|a, b| a.target.cmp(&b.target));
        let targets: Vec<String> = mounted.mounts.iter().map(|m| m.target.clone()).collect();
        let step = Step {
            layers: &built.layers.clone(),
            args: args.clone(),
            env: [
                built.scope.environment(&self.given),
                own,
                self.secret_variables(&wishes)?,
            ]
            .concat(),
            user: built.told("User"),
            working_dir: built.dir(),
            network,
            mounts: std::mem::take(&mut mounted.mounts),
        };
        let runtime = Runtime::find(self.runtime)?;
        let tell = &mut *self.tell;
        let done = self
            .containers
            .run_step(step, &runtime, &mut |written| tell.output(written))?;
        if done.code != 0 {
            return invalid(format!(
                "the command '{}' returned a non-zero code: {}",
                show(args.join(" ").as_bytes()),
                done.code
            ));
        }
        let (store, latest, below) = (self.containers.store(), self.latest, built.layers.clone());
        self.add(built, &name, &made_by, |out| {
            done.write_layer(store, &below, &targets, latest, out)
        })?;
        self.tell.end(Some(begun.elapsed()))
    }

    fn flags(&self, built: &Built<'_>, run: &Run, words: &Words) -> Result<(Vec<Wish>, Network)> {
        let mut wishes = Vec::new();
        let mut network = self.options.network;
        let dir = built.dir();
        for (name, value) in &run.flags {
            let value = value.as_deref().map(|v| words.expand(v)).transpose()?;
            match (name.as_str(), value.as_deref()) {
                ("mount", Some(text)) => wishes.push(mounts::parse(text, &dir)?),
                ("network", Some("default")) => {}
                ("network", Some("none")) => network = Network::None,
                ("network", Some("host")) => network = Network::Host,
                ("network", Some(other)) => {
                    return invalid(format!(
                        "RUN --network={}: it is default, none or host",
                        show(other.as_bytes())
                    ));
                }
                ("security", Some("sandbox")) => {}
                ("security" | "device", _) => {
                    return invalid(format!("RUN --{name} is not done here"));
                }
                (name, _) => return invalid(format!("RUN has no option --{name}")),
            }
        }
        Ok((wishes, network))
    }

    /// Make ready what is to be mounted.
    fn mount(&self, out: &mut Mounted, wish: &Wish, place: Option<&Place<'_>>) -> Result<()> {
        let Some(target) = &wish.target else {
            return Ok(());
        };
        let mut mount = Mount {
            kind: volume::Kind::Bind,
            target: target.clone(),
            ..Mount::default()
        };
        match (&wish.kind, place) {
            (Kind::Memory { size }, _) => {
                mount.kind = volume::Kind::Tmpfs;
                mount
                    .options
                    .extend(size.iter().map(|s| format!("size={s}")));
            }
            (
                Kind::Cache {
                    id,
                    locked: _,
                    mode,
                    owner,
                    read_only,
                },
                _,
            ) => {
                let path = self.cache(id, *mode, *owner)?;
                mount.read_only = *read_only;
                mount.source = text(&path)?;
            }
            (
                Kind::Bind {
                    source, writable, ..
                },
                Some(place),
            ) => {
                mount.read_only = !writable;
                mount.source = text(&self.bind(out, place, source, *writable)?)?;
            }
            (Kind::Bind { .. }, None) => return invalid("nothing to mount"),
            (
                Kind::Secret {
                    id,
                    mode,
                    owner,
                    required,
                    ..
                },
                _,
            ) => {
                let Some(secret) = self.secret(id, *required)? else {
                    return Ok(());
                };
                let path = self.staging(out)?.join(out.mounts.len().to_string());
                let say = || "cannot write a secret".to_owned();
                let mut file = fs::OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o000)
                    .open(&path)
                    .context(say)?;
                file.write_all(secret).context(say)?;
                let at = At::Fd(file.as_fd());
                sfs::chown(at, Some(owner.0), Some(owner.1)).context(say)?;
                sfs::chmod(at, *mode).context(say)?;
                mount.read_only = true;
                mount.source = text(&path)?;
            }
        }
        out.mounts.push(mount);
        Ok(())
    }

    /// A secret that the build was given, if it was.
    fn secret(&self, id: &str, required: bool) -> Result<Option<&[u8]>> {
        match self.options.secrets.get(id) {
            Some(secret) => Ok(Some(secret)),
            None if !required => Ok(None),
            None => Err(Error::NotFound(format!(
                "secret {}: not found: give it with --secret",
                show(id.as_bytes())
            ))),
        }
    }

    /// The variables that secrets are in.
    fn secret_variables(&self, wishes: &[Wish]) -> Result<Vec<String>> {
        let mut out = Vec::new();
        for wish in wishes {
            if let Kind::Secret {
                id,
                env: Some(name),
                required,
                ..
            } = &wish.kind
                && let Some(secret) = self.secret(id, *required)?
            {
                match std::str::from_utf8(secret) {
                    Ok(text) if !text.contains('\0') => out.push(format!("{name}={text}")),
                    _ => {
                        return invalid(format!(
                            "secret {}: it is no text, and cannot be the value of a variable",
                            show(id.as_bytes())
                        ));
                    }
                }
            }
        }
        Ok(out)
    }

    /// The caches that are one step's at a time: each once, and by all in one
    /// order.
    fn lock_caches(&self, wishes: &[Wish]) -> Result<Vec<File>> {
        let mut paths = BTreeSet::new();
        for wish in wishes {
            if let Kind::Cache {
                id,
                locked: true,
                mode,
                owner,
                ..
            } = &wish.kind
            {
                paths.insert(self.cache(id, *mode, *owner)?);
            }
        }
        let lock = |path: PathBuf| {
            let say = || format!("cannot lock {}", path.display());
            let file = File::open(&path).context(say)?;
            file.lock().context(say)?;
            Ok(file)
        };
        paths.into_iter().map(lock).collect()
    }

    /// The directory of a cache: one for each of its owners and modes.
    fn cache(&self, id: &str, mode: u32, (uid, gid): (u32, u32)) -> Result<PathBuf> {
        let name = match (mode, uid, gid) {
            (mounts::CACHE_MODE, 0, 0) => format!("cache:{id}"),
            _ => format!("cache:{id}\0{mode:o}:{uid}:{gid}"),
        };
        let name = Digest::of(name.as_bytes());
        let store = self.containers.store();
        let is_new = !store.steps().join("mounts").join(name.hex()).exists();
        let path = store.step_mount(&name)?;
        if is_new {
            let say = || format!("cannot make {}", path.display());
            let dir = File::open(&path).context(say)?;
            sfs::chown(At::Fd(dir.as_fd()), Some(uid), Some(gid)).context(say)?;
            sfs::chmod(At::Fd(dir.as_fd()), mode).context(say)?;
        }
        Ok(path)
    }

    /// The files of a bind mount. Those of the context are where they are,
    /// unless something of it is left out or may be written.
    fn bind(
        &self,
        out: &mut Mounted,
        place: &Place<'_>,
        source: &str,
        writable: bool,
    ) -> Result<PathBuf> {
        if let (Place::Context(Tree::Directory { ignore, .. }), false) = (place, writable)
            && ignore.is_empty()
        {
            let real = place.tree().resolve(source, true)?;
            return Ok(self.sources.dir.join(OsStr::from_bytes(&real.path)));
        }
        let number = out.mounts.len();
        let staging = self.staging(out)?;
        let say = || "cannot make what is to be mounted".to_owned();
        let archive = staging.join(format!("{number}.tar"));
        let empty = self.tree(&[])?;
        let file = File::create_new(&archive).context(say)?;
        files(&empty, place.tree(), source)?
            .write(None, std::io::BufWriter::new(file))?
            .flush()
            .context(say)?;
        let dir = staging.join(number.to_string());
        super::context::unpack(File::open(&archive).context(say)?, &dir)?;
        fs::remove_file(&archive).context(say)?;
        Ok(dir.join("m"))
    }

    fn staging(&self, out: &mut Mounted) -> Result<PathBuf> {
        if out.staging.is_none() {
            out.staging = Some(Staging::new(&self.containers.store().tmp())?);
        }
        let path = out.staging.as_ref().map(|s| s.path().to_owned());
        Ok(path.unwrap_or_default())
    }

    fn mount_program(&self, out: &mut Mounted, document: &Document) -> Result<()> {
        let path = self.staging(out)?.join("program");
        let say = || format!("cannot write {}", path.display());
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(&path)
            .context(say)?;
        file.write_all(document.content().as_bytes()).context(say)?;
        let mode = fs::Permissions::from_mode(0o755);
        file.set_permissions(mode).context(say)?;
        out.mounts.push(Mount {
            kind: volume::Kind::Bind,
            source: text(&path)?,
            target: format!("{PROGRAMS}/{}", document.name),
            read_only: true,
            ..Mount::default()
        });
        Ok(())
    }
}

/// Program and arguments, and the document that is the program.
fn command<'r>(built: &Built<'_>, run: &'r Run) -> (Vec<String>, Option<&'r Document>) {
    let line = match &run.command {
        Command::Exec(args) => return (args.clone(), None),
        Command::Shell(line) => line,
    };
    let alone = !line.contains(char::is_whitespace) && line.starts_with("<<");
    match run.documents.as_slice() {
        [] => (in_shell(&built.run, line), None),
        // Nothing but a document is what the shell is told.
        [document] if alone => match document.content().starts_with("#!") {
            true => (
                vec![format!("{PROGRAMS}/{}", document.name)],
                Some(document),
            ),
            false => (in_shell(&built.run, &document.content()), None),
        },
        documents => {
            let mut text = line.clone();
            for document in documents {
                text.push('\n');
                text.push_str(&document.raw);
                text.push_str(&document.name);
            }
            (in_shell(&built.run, &text), None)
        }
    }
}

/// How the history tells of a command, as docker's does.
fn made_by(built: &Built<'_>, args: &[String]) -> String {
    let set = built.scope.set();
    let with = match set.len() {
        0 => String::new(),
        n => format!("|{n} {} ", set.join(" ")),
    };
    format!("RUN {with}{}", args.join(" "))
}

/// What is bound, as `m` in an empty tree.
fn files<'t>(empty: &'t Tree, tree: &'t Tree, source: &str) -> Result<Layer<'t>> {
    let mut layer = Layer::new(empty, How::default());
    layer.copy(vec![From::Path(tree, source.to_owned())], "/m")?;
    Ok(layer)
}

fn text(path: &Path) -> Result<String> {
    match path.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => invalid(format!(
            "{} is not UTF-8, and cannot be mounted",
            path.display()
        )),
    }
}
