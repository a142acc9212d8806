//! What to call a node in messages.

use super::{Union, name::Name, node::ROOT_ID};
use std::ffi::{OsStr, OsString};

impl Union {
    /// The path of a node in the mount, or of a name in it, as far as it is
    /// known: one of its names, and its number where it has none. For people
    /// only: nothing holds the names still.
    pub fn path(&self, id: u64, name: Option<&OsStr>) -> OsString {
        let mut names: Vec<Name> = name.map(Name::from).into_iter().collect();
        let mut next = self.node(id).ok().map(|node| node.latest());
        let mut number = id;
        let mut path = loop {
            let Some(node) = next else {
                break OsString::from(format!("#{number:x}"));
            };
            if node.id == ROOT_ID {
                break OsString::new();
            }
            number = node.id;
            next = node.link().map(|link| {
                names.push(link.name);
                link.parent
            });
        };
        for name in names.iter().rev() {
            path.push("/");
            path.push(name);
        }
        match path.is_empty() {
            true => OsString::from("/"),
            false => path,
        }
    }
}
