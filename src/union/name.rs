//! One name of a path, in the node that has it as long as it is short.

use std::ffi::OsStr;
use std::fmt;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;

/// What fits beside a length and the variant in three words.
const INLINE: usize = 22;

/// A name. There are as many as nodes, so most have no allocation.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Name(Repr);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Repr {
    /// What is behind its length is zeros.
    Short(u8, [u8; INLINE]),
    Long(Box<OsStr>),
}

impl From<&OsStr> for Name {
    fn from(name: &OsStr) -> Name {
        let mut bytes = [0; INLINE];
        let len = name.len();
        match (bytes.get_mut(..len), u8::try_from(len)) {
            (Some(room), Ok(len)) => {
                room.copy_from_slice(name.as_bytes());
                Name(Repr::Short(len, bytes))
            }
            _ => Name(Repr::Long(name.into())),
        }
    }
}

impl Deref for Name {
    type Target = OsStr;

    fn deref(&self) -> &OsStr {
        match &self.0 {
            Repr::Short(len, bytes) => {
                OsStr::from_bytes(bytes.get(..usize::from(*len)).unwrap_or_default())
            }
            Repr::Long(name) => name,
        }
    }
}

impl AsRef<OsStr> for Name {
    fn as_ref(&self) -> &OsStr {
        self
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_ones_are_what_they_were_made_of() {
        assert_eq!(size_of::<Name>(), 24);
        for len in [0, 1, INLINE - 1, INLINE, INLINE + 1, 255] {
            let text = "\u{1}".repeat(len);
            let name = Name::from(OsStr::new(&text));
            assert_eq!(&*name, OsStr::new(&text));
            assert_eq!(name, name.clone());
            assert_ne!(name, Name::from(OsStr::new(&format!("{text}\0"))));
        }
    }
}
