//! `RUN --mount=…`: what a command sees besides its root, and what is no part of
//! the layer that it makes.

use super::pattern;
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
}

/// One that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// What.
    pub kind: Kind,
    /// Where, absolute.
    pub target: String,
}

/// Read `type=…,target=…`; a relative target begins at `dir`.
///
/// # Errors
/// For what is no mount, or one that is not done here.
pub fn parse(text: &str, dir: &str) -> Result<Wish> {
    let bad = |why: &str| invalid(format!("--mount={}: {why}", show(text.as_bytes())));
    let (mut kind, mut target, mut source, mut from, mut id) = ("bind", None, None, None, None);
    let (mut writable, mut locked, mut mode, mut owner) = (None, false, 0o755, (0, 0));
    let mut size = None;
    for field in text.split(',') {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        let yes = matches!(value, "" | "true" | "1");
        match (key.to_ascii_lowercase().as_str(), value) {
            ("type", value) => kind = value,
            ("target" | "dst" | "destination", value) => target = Some(value),
            ("source" | "src", value) => source = Some(value),
            ("from", value) => from = Some(value.to_owned()),
            ("id", value) => id = Some(value.to_owned()),
            ("rw" | "readwrite", _) => writable = Some(yes),
            ("ro" | "readonly", _) => writable = Some(!yes),
            ("sharing", "shared") => locked = false,
            ("sharing", "locked" | "private") => locked = true,
            ("mode", value) => match u32::from_str_radix(value, 8) {
                Ok(bits) if bits <= 0o7777 => mode = bits,
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
            ("size", value) => size = Some(value.to_owned()),
            _ => return bad(&format!("{} is not known", show(field.as_bytes()))),
        }
    }
    let Some(target) = target.filter(|t| !t.is_empty()) else {
        return bad("it needs a target");
    };
    let target = match target.starts_with('/') {
        true => target.to_owned(),
        false => format!("{dir}/{target}"),
    };
    let target = format!("/{}", pattern::clean(&target));
    if target == "/" {
        return bad("the target cannot be /");
    }
    let kind = match kind {
        "bind" => Kind::Bind {
            from,
            source: source.unwrap_or(".").to_owned(),
            writable: writable.unwrap_or(false),
        },
        "cache" if from.is_some() => return bad("a cache begins empty here: leave out from"),
        "cache" => Kind::Cache {
            id: id.unwrap_or_else(|| target.clone()),
            locked,
            mode,
            owner,
            read_only: writable == Some(false),
        },
        "tmpfs" => Kind::Memory { size },
        "secret" | "ssh" => return bad("secrets are not handed to builds here"),
        other => return bad(&format!("{} is no kind of mount", show(other.as_bytes()))),
    };
    Ok(Wish { kind, target })
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
        assert_eq!(wish.target, "/root/.cache");
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
        assert_eq!(wish.target, "/srv/app/../x".replace("app/../", ""));
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
        for (bad, why) in [
            ("type=bind", "needs a target"),
            ("target=/", "cannot be /"),
            ("type=secret,target=/x", "secrets"),
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
