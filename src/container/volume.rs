//! What is mounted in a container besides its root.

use super::volumes;
use crate::store::error::{Result, invalid, show};
use crate::store::staging::random_hex;
use serde::{Deserialize, Serialize};
use std::path::{Component, Path, PathBuf};

/// Where what is mounted comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A file or directory of the machine.
    #[default]
    Bind,
    /// Memory.
    Tmpfs,
    /// A directory of the store, see [`super::volumes`].
    Volume,
}

impl Kind {
    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Bind => "bind",
            Kind::Tmpfs => "tmpfs",
            Kind::Volume => "volume",
        }
    }
}

/// One thing that is mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where it comes from.
    pub kind: Kind,
    /// Its path on the machine, or the volume's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Where it is in the container, absolute.
    pub target: String,
    /// It is not written.
    #[serde(default)]
    pub read_only: bool,
    /// A source that is not there is made, as a directory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub make_source: bool,
    /// What else is told to the kernel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// A volume that was made for this container and that nobody has named.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anonymous: bool,
    /// A volume that is not given what the image has in its place.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_copy: bool,
}

/// Words that say how mounts made later are seen on the other side.
const PROPAGATION: [&str; 6] = [
    "private", "rprivate", "shared", "rshared", "slave", "rslave",
];
/// What `--tmpfs` may be given besides sizes and the like.
const TMPFS_WORDS: [&str; 10] = [
    "rw", "ro", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "sync", "noatime",
];

impl Mount {
    /// Read `[SOURCE:]TARGET[:OPTIONS]`, the value of `-v`. A directory of the
    /// machine that is not there is to be made.
    ///
    /// # Errors
    /// For anything else.
    pub fn parse_volume(text: &str) -> Result<Mount> {
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, options) = match parts.as_slice() {
            [target] => (None, *target, ""),
            [source, target] => (Some(*source), *target, ""),
            [source, target, options] => (Some(*source), *target, *options),
            _ => return bad(text, "give [SOURCE:]TARGET[:OPTIONS]"),
        };
        let mut mount = Mount {
            kind: Kind::Volume,
            target: target_path(text, target)?,
            ..Mount::default()
        };
        match source {
            None => {}
            Some(source) if !source.contains('/') && source != "." && source != ".." => {
                volumes::check_name(source)?;
                mount.source = source.to_owned();
            }
            Some(source) => {
                mount.kind = Kind::Bind;
                mount.make_source = true;
                mount.source = source_path(text, source)?;
            }
        }
        for option in options.split(',').filter(|o| !o.is_empty()) {
            match option {
                "ro" => mount.read_only = true,
                // Labels of SELinux are not changed here, and how docker's virtual
                // machines keep files the same is nothing on Linux.
                "rw" | "z" | "Z" | "consistent" | "cached" | "delegated" => {}
                "nocopy" if mount.kind == Kind::Volume => mount.no_copy = true,
                word if PROPAGATION.contains(&word) && mount.kind == Kind::Bind => {
                    mount.options.push(word.to_owned());
                }
                other => {
                    return bad(
                        text,
                        &format!("the option {} is not known", show(other.as_bytes())),
                    );
                }
            }
        }
        Ok(mount)
    }

    /// Read `type=bind,source=…,target=…[,readonly]`, the value of `--mount`.
    ///
    /// # Errors
    /// For anything else, and a source that is not there.
    pub fn parse_mount(text: &str) -> Result<Mount> {
        let mut kind = Kind::Volume;
        let (mut source, mut target) = (None, None);
        let (mut read_only, mut no_copy) = (false, false);
        let mut options = Vec::new();
        // Options of one kind alone: how it is called, and which it is.
        let mut of_kind = Vec::new();
        for field in text.split(',') {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            of_kind.extend(
                [
                    ("bind", Kind::Bind),
                    ("tmpfs", Kind::Tmpfs),
                    ("volume", Kind::Volume),
                ]
                .into_iter()
                .find(|(of, _)| key.strip_prefix(of).is_some_and(|k| k.starts_with('-'))),
            );
            match (key, value) {
                ("type", "bind") => kind = Kind::Bind,
                ("type", "tmpfs") => kind = Kind::Tmpfs,
                ("type", "volume") => kind = Kind::Volume,
                ("source" | "src", value) => source = Some(value),
                ("target" | "dst" | "destination", value) => target = Some(value),
                ("readonly" | "ro", "" | "true" | "1") => read_only = true,
                ("readonly" | "ro", "false" | "0") => read_only = false,
                ("volume-nocopy", "" | "true" | "1") => no_copy = true,
                ("volume-nocopy", "false" | "0") => no_copy = false,
                ("consistency", "default" | "consistent" | "cached" | "delegated") => {}
                ("bind-propagation", word) if PROPAGATION.contains(&word) => {
                    options.push(word.to_owned());
                }
                ("tmpfs-size", size) if is_size(size) => options.push(format!("size={size}")),
                ("tmpfs-mode", mode) if u32::from_str_radix(mode, 8).is_ok() => {
                    options.push(format!("mode={mode}"));
                }
                _ => return bad(text, &format!("{} is not known", show(field.as_bytes()))),
            }
        }
        if let Some((of, _)) = of_kind.iter().find(|(_, of)| *of != kind) {
            let kind = kind.name();
            let why = format!("cannot mix '{of}-*' options with mount type '{kind}'");
            return bad(text, &why);
        }
        let Some(target) = target else {
            return bad(text, "it has no target");
        };
        let source = match (kind, source) {
            (Kind::Bind, None) => return bad(text, "it has no source"),
            (Kind::Bind, Some(source)) => {
                let source = source_path(text, source)?;
                if !Path::new(&source).exists() {
                    return invalid(format!(
                        "invalid mount config for type \"bind\": bind source path does not exist: {}",
                        show(source.as_bytes())
                    ));
                }
                source
            }
            (Kind::Tmpfs, None) | (Kind::Volume, None) => String::new(),
            (Kind::Volume, Some(name)) => {
                volumes::check_name(name)?;
                name.to_owned()
            }
            (Kind::Tmpfs, Some(_)) => return bad(text, "memory has no source"),
        };
        Ok(Mount {
            kind,
            source,
            target: target_path(text, target)?,
            read_only,
            options,
            no_copy,
            ..Mount::default()
        })
    }

    /// Read `TARGET[:OPTIONS]`, the value of `--tmpfs`.
    ///
    /// # Errors
    /// For anything else.
    pub fn parse_tmpfs(text: &str) -> Result<Mount> {
        let (target, options) = text.split_once(':').unwrap_or((text, ""));
        let mut mount = Mount {
            kind: Kind::Tmpfs,
            target: target_path(text, target)?,
            ..Mount::default()
        };
        for option in options.split(',').filter(|o| !o.is_empty()) {
            let known = match option.split_once('=') {
                Some(("size", size)) => is_size(size),
                Some(("mode" | "uid" | "gid" | "nr_inodes", value)) => {
                    !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric())
                }
                Some(_) => false,
                None => TMPFS_WORDS.contains(&option),
            };
            if !known {
                return bad(
                    text,
                    &format!("the option {} is not known", show(option.as_bytes())),
                );
            }
            mount.options.push(option.to_owned());
        }
        Ok(mount)
    }

    /// A directory of its own for what the image says must not be in its layer:
    /// whatever the text is, nothing of the machine's.
    ///
    /// # Errors
    /// When the path is none.
    pub fn of_image(target: &str) -> Result<Mount> {
        Ok(Mount {
            kind: Kind::Volume,
            target: target_path(target, target)?,
            ..Mount::default()
        })
    }

    /// How docker's `-v` names it.
    pub fn bind_text(&self) -> Option<String> {
        let suffix = if self.read_only { ":ro" } else { "" };
        let named = self.kind == Kind::Volume && !self.anonymous;
        (self.kind == Kind::Bind || named)
            .then(|| format!("{}:{}{suffix}", self.source, self.target))
    }
}

/// Those that are mounted, parents before what is in them. What was given goes
/// before what the image says. Volumes without a name get one.
///
/// # Errors
/// When two have the same place, or the system has no randomness.
pub fn settle(given: Vec<Mount>, of_image: Vec<Mount>) -> Result<Vec<Mount>> {
    let mut out: Vec<Mount> = Vec::new();
    for mount in given {
        if out.iter().any(|m| m.target == mount.target) {
            return invalid(format!(
                "Duplicate mount point: {}",
                show(mount.target.as_bytes())
            ));
        }
        out.push(mount);
    }
    for mount in of_image {
        if !out.iter().any(|m| m.target == mount.target) {
            out.push(mount);
        }
    }
    out.sort_by_key(|m| m.target.matches('/').count());
    for mount in &mut out {
        if mount.kind == Kind::Volume && mount.source.is_empty() {
            mount.source = random_hex(32)?;
            mount.anonymous = true;
        }
    }
    Ok(out)
}

fn bad<T>(text: &str, why: &str) -> Result<T> {
    invalid(format!("invalid mount '{}': {why}", show(text.as_bytes())))
}

/// Is it a size as tmpfs takes it.
pub fn is_size(text: &str) -> bool {
    let digits = text.trim_end_matches(['k', 'K', 'm', 'M', 'g', 'G', '%']);
    text.len() - digits.len() <= 1 && digits.parse::<u64>().is_ok()
}

/// Where something is mounted: absolute, without `.` and `..`, not the root.
fn target_path(text: &str, target: &str) -> Result<String> {
    if !target.starts_with('/') {
        return bad(text, "the mount path must be absolute");
    }
    let mut clean = PathBuf::from("/");
    for part in Path::new(target).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => return bad(text, "the mount path must not go up by '..'"),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if clean.parent().is_none() {
        return bad(text, "destination can't be '/'");
    }
    Ok(clean.to_string_lossy().into_owned())
}

/// What is mounted: absolute, or relative to where we are and said so.
fn source_path(text: &str, source: &str) -> Result<String> {
    if source.starts_with('/') {
        return Ok(source.to_owned());
    }
    if (source == "." || source.starts_with("./") || source.starts_with("../"))
        && let Ok(here) = std::env::current_dir()
    {
        return Ok(here.join(source).to_string_lossy().into_owned());
    }
    bad(
        text,
        "give a volume's name, or the path of a directory, absolute or beginning with './'",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_as_docker_reads_them() {
        let m = Mount::parse_volume("/a/b:/c/./d/:ro,z").unwrap();
        assert_eq!(
            (m.kind, m.source.as_str(), m.target.as_str()),
            (Kind::Bind, "/a/b", "/c/d")
        );
        assert!(m.read_only);
        assert_eq!(m.bind_text().unwrap(), "/a/b:/c/d:ro");
        for ways in ["/a:/c:cached", "/a:/c:ro,delegated", "name:/c:consistent"] {
            let m = Mount::parse_volume(ways).unwrap();
            assert_eq!((m.target.as_str(), m.options.len()), ("/c", 0), "{ways}");
        }
        assert_eq!(Mount::parse_volume("/data").unwrap().kind, Kind::Volume);
        let m = Mount::parse_volume("name:/x:nocopy").unwrap();
        assert_eq!(
            (m.kind, m.source.as_str(), m.no_copy),
            (Kind::Volume, "name", true)
        );
        assert_eq!(m.bind_text().unwrap(), "name:/x");
        assert!(
            Mount::parse_volume("./x:/y")
                .unwrap()
                .source
                .starts_with('/')
        );
        for bad in [
            "",
            "x",
            "n@me:/x",
            "a/b:/x",
            "/a:b",
            "/a:/",
            "/a:/b/../../c",
            "/a:/b:no",
            "/a:/b:ro:x",
            "name:/b:shared",
        ] {
            assert!(Mount::parse_volume(bad).is_err(), "{bad}");
        }
        let m = Mount::parse_mount("type=bind,source=/,target=/host,readonly").unwrap();
        assert!(m.read_only && m.target == "/host");
        let m = Mount::parse_mount("type=bind,src=/,dst=/host,consistency=cached").unwrap();
        assert!(m.options.is_empty());
        let m = Mount::parse_mount("type=tmpfs,dst=/t,tmpfs-size=1m").unwrap();
        assert_eq!(m.options, ["size=1m"]);
        let e = Mount::parse_mount("type=bind,src=/no/such,dst=/x").unwrap_err();
        assert!(e.to_string().contains("bind source path does not exist"));
        for bad in [
            "",
            "type=x,target=/a",
            "type=bind,target=/a",
            "type=tmpfs",
            "type=tmpfs,target=/a,x=y",
        ] {
            assert!(Mount::parse_mount(bad).is_err(), "{bad}");
        }
        for (text, of, kind) in [
            ("type=bind,src=/,dst=/x,volume-nocopy", "volume", "bind"),
            ("dst=/x,bind-propagation=shared", "bind", "volume"),
            ("tmpfs-size=1m,type=volume,dst=/x", "tmpfs", "volume"),
            ("type=tmpfs,dst=/x,volume-nocopy=false", "volume", "tmpfs"),
        ] {
            let e = Mount::parse_mount(text).unwrap_err().to_string();
            let why = format!("cannot mix '{of}-*' options with mount type '{kind}'");
            assert!(e.contains(&why), "{text}: {e}");
        }
        let m = Mount::parse_tmpfs("/run:rw,size=64m,mode=1777").unwrap();
        assert_eq!(m.options, ["rw", "size=64m", "mode=1777"]);
        for bad in ["run", "/run:size=x", "/run:bind", "/run:lowerdir=/"] {
            assert!(Mount::parse_tmpfs(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_image_names_no_source() {
        for text in ["/:/host", "/etc:/host:ro", "/data:/x", "/data"] {
            let m = Mount::of_image(text).unwrap();
            assert_eq!((m.kind, m.source.as_str()), (Kind::Volume, ""), "{text}");
            assert!(!m.make_source && m.target == text, "{text}");
        }
        for bad in ["", "data:/x", "/..", "/"] {
            assert!(Mount::of_image(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn each_place_has_one_and_parents_come_first() {
        let v = |text: &str| Mount::parse_volume(text).unwrap();
        let all = settle(vec![v("/x:/a/b"), v("/y:/a")], vec![v("/a"), v("/c")]).unwrap();
        let places: Vec<&str> = all.iter().map(|m| m.target.as_str()).collect();
        assert_eq!(places, ["/a", "/c", "/a/b"]);
        assert_eq!(all[0].kind, Kind::Bind);
        let e = settle(vec![v("/x:/a"), v("/y:/a/")], vec![]).unwrap_err();
        assert!(e.to_string().contains("Duplicate mount point: /a"), "{e}");
    }
}
