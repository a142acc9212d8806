//! `RUN --mount=…`: what a command sees besides its root, and what is no part of
//! the layer that it makes.

use super::pattern;
use crate::container::volume;
use crate::store::error::{Result, invalid, show};

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Files of the build context, a stage or an image.
    Bind {
        /// Whose; the build context's if it is not said.
        from: Option<String>,
        /// Which.
        source: String,
        /// What the command writes there is forgotten, but it may.
        writable: bool,
    },
    /// A directory that is kept for the next build.
    Cache {
        /// Its name.
        id: String,
        /// One command at a time.
        locked: bool,
        /// Its permission bits where it is made.
        mode: u32,
        /// Its owner where it is made.
        owner: (u32, u32),
        /// The command does not write there.
        read_only: bool,
    },
    /// Memory.
    Memory {
        /// As `size=`.
        size: Option<String>,
    },
    /// Something that only the command may see, and that is in no layer.
    Secret {
        /// Which of those that the build was given.
        id: String,
        /// The variable that it is in, if any.
        env: Option<String>,
        /// Permission bits of the file that it is in.
        mode: u32,
        /// And its owner.
        owner: (u32, u32),
        /// It is an error where the build was given none.
        required: bool,
    },
}

/// One that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// What.
    pub kind: Kind,
    /// Where, absolute; only a secret may be at no place.
    pub target: Option<String>,
}

/// Where secrets are that name no place.
const SECRETS: &str = "/run/secrets";

/// Permission bits of a cache that names none.
pub const CACHE_MODE: u32 = 0o755;

/// What the kinds may be given besides their type and place.
const ALLOWED: [(&str, &[&str]); 4] = [
    ("bind", &["source", "from", "readonly"]),
    (
        "cache",
        &["id", "sharing", "mode", "uid", "gid", "readonly"],
    ),
    ("tmpfs", &["size", "readonly"]),
    (
        "secret",
        &["id", "source", "env", "required", "mode", "uid", "gid"],
    ),
];

/// The name of a field that has several.
fn canonical(key: &str) -> &str {
    match key {
        "dst" | "destination" => "target",
        "src" => "source",
        "rw" | "readwrite" | "ro" => "readonly",
        key => key,
    }
}

/// Read `type=…,target=…`; a relative target begins at `dir`.
///
/// # Errors
/// For what is no mount, or one that is not done here.
pub fn parse(text: &str, dir: &str) -> Result<Wish> {
    let bad = |why: &str| invalid(format!("--mount={}: {why}", show(text.as_bytes())));
    let (mut kind, mut target, mut source, mut from, mut id) = ("bind", None, None, None, None);
    let (mut writable, mut locked, mut mode, mut owner) = (None, false, None, (0, 0));
    let (mut size, mut env, mut required) = (None, None, false);
    let mut given = Vec::new();
    for field in text.split(',') {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        let yes = matches!(value, "" | "true" | "1");
        let key = key.to_ascii_lowercase();
        match (key.as_str(), value) {
            ("type", value) => kind = value,
            ("target" | "dst" | "destination", value) => target = Some(value),
            ("source" | "src", value) => source = Some(value),
            ("from", value) => from = Some(value.to_owned()),
            ("id", value) => id = Some(value.to_owned()),
            ("env", value) => env = Some(value.to_owned()),
            ("required", _) => required = yes,
            ("rw" | "readwrite", _) => writable = Some(yes),
            ("ro" | "readonly", _) => writable = Some(!yes),
            ("sharing", "shared") => locked = false,
            ("sharing", "locked" | "private") => locked = true,
            ("mode", value) => match u32::from_str_radix(value, 8) {
                Ok(bits) if bits <= 0o7777 => mode = Some(bits),
                _ => return bad("mode takes octal digits"),
            },
            ("uid", value) => match value.parse() {
                Ok(uid) => owner.0 = uid,
                Err(_) => return bad("uid takes a number"),
            },
            ("gid", value) => match value.parse() {
                Ok(gid) => owner.1 = gid,
                Err(_) => return bad("gid takes a number"),
            },
            ("size", value) if volume::is_size(value) => size = Some(value.to_owned()),
            ("size", _) => return bad("size takes bytes, or a number with k, m or g"),
            _ => return bad(&format!("{} is not known", show(field.as_bytes()))),
        }
        given.push(key);
    }
    match kind {
        "cache" if from.is_some() => return bad("a cache begins empty here: leave out from"),
        "ssh" => return bad("keys of SSH agents are not handed to builds here"),
        _ => {}
    }
    let Some((_, allowed)) = ALLOWED.iter().find(|(k, _)| *k == kind) else {
        return bad(&format!("{} is no kind of mount", show(kind.as_bytes())));
    };
    let mut given = given.iter().map(|key| canonical(key));
    if let Some(key) = given.find(|k| !matches!(*k, "type" | "target") && !allowed.contains(k)) {
        return bad(&format!("{key} not allowed for \"{kind}\" type mounts"));
    }
    let target = match target.filter(|t| !t.is_empty()) {
        None => None,
        Some(target) => {
            let target = match target.starts_with('/') {
                true => target.to_owned(),
                false => format!("{dir}/{target}"),
            };
            match format!("/{}", pattern::clean(&target)) {
                root if root == "/" => return bad("the target cannot be /"),
                target => Some(target),
            }
        }
    };
    if kind == "secret" {
        let of_target = || target.as_ref()?.rsplit('/').next().map(str::to_owned);
        let id = match (id, source) {
            (Some(_), Some(_)) => return bad("give id or source, not both"),
            (id, source) => id.or_else(|| source.map(str::to_owned)).or_else(of_target),
        };
        let Some(id) = id.filter(|id| !id.is_empty()) else {
            return bad("it needs an id");
        };
        let named = || format!("{SECRETS}/{}", id.rsplit('/').next().unwrap_or_default());
        return Ok(Wish {
            target: target.or_else(|| env.is_none().then(named)),
            kind: Kind::Secret {
                id,
                env,
                mode: mode.unwrap_or(0o400),
                owner,
                required,
            },
        });
    }
    let Some(target) = target else {
        return bad("it needs a target");
    };
    let kind = match kind {
        "cache" => Kind::Cache {
            id: id.unwrap_or_else(|| target.clone()),
            locked,
            mode: mode.unwrap_or(CACHE_MODE),
            owner,
            read_only: writable == Some(false),
        },
        "tmpfs" => Kind::Memory { size },
        _ => Kind::Bind {
            from,
            source: source.unwrap_or(".").to_owned(),
            writable: writable.unwrap_or(false),
        },
    };
    Ok(Wish {
        kind,
        target: Some(target),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_as_people_write_them() {
        let wish = parse(
            "type=cache,target=/root/.cache,sharing=locked,mode=0700,uid=7",
            "/",
        )
        .unwrap();
        assert_eq!(wish.target.unwrap(), "/root/.cache");
        assert_eq!(
            wish.kind,
            Kind::Cache {
                id: "/root/.cache".into(),
                locked: true,
                mode: 0o700,
                owner: (7, 0),
                read_only: false,
            }
        );
        let wish = parse("dst=../x,from=base,src=/a,rw", "/srv/app").unwrap();
        assert_eq!(wish.target.unwrap(), "/srv/x");
        assert_eq!(
            wish.kind,
            Kind::Bind {
                from: Some("base".into()),
                source: "/a".into(),
                writable: true,
            }
        );
        let wish = parse("type=tmpfs,target=/t,size=1m", "/").unwrap();
        assert_eq!(
            wish.kind,
            Kind::Memory {
                size: Some("1m".into())
            }
        );
        let secret = |text: &str| match parse(text, "/w").unwrap() {
            Wish {
                kind: Kind::Secret { id, env, .. },
                target,
            } => (id, env, target),
            other => panic!("{other:?}"),
        };
        let place = |text: &str| Some(text.to_owned());
        assert_eq!(
            secret("type=secret,id=a/key"),
            ("a/key".into(), None, place("/run/secrets/key"))
        );
        assert_eq!(
            secret("type=secret,target=key"),
            ("key".into(), None, place("/w/key"))
        );
        assert_eq!(
            secret("type=secret,id=k,env=KEY"),
            ("k".into(), Some("KEY".into()), None)
        );
        for (bad, why) in [
            ("type=bind", "needs a target"),
            ("target=/", "cannot be /"),
            ("type=secret", "needs an id"),
            ("type=secret,id=a,source=b", "not both"),
            ("type=ssh", "SSH agents"),
            ("target=/x,id=y", "id not allowed for \"bind\" type mounts"),
            (
                "mode=700,type=bind,target=/x",
                "mode not allowed for \"bind\"",
            ),
            (
                "type=tmpfs,target=/x,from=a",
                "from not allowed for \"tmpfs\"",
            ),
            (
                "type=cache,target=/x,src=a",
                "source not allowed for \"cache\"",
            ),
            (
                "type=cache,target=/x,size=1m",
                "size not allowed for \"cache\"",
            ),
            ("type=secret,id=a,ro", "readonly not allowed for \"secret\""),
            ("target=/x,required", "required not allowed for \"bind\""),
            ("type=tmpfs,target=/x,size=x", "size takes"),
            ("type=x,target=/x", "no kind"),
            ("target=/x,what", "what is not known"),
            ("target=/x,mode=9", "octal"),
            ("type=cache,target=/x,from=a", "begins empty"),
        ] {
            let e = parse(bad, "/").unwrap_err().to_string();
            assert!(e.contains(why), "{bad}: {e}");
        }
    }
}
