//! The tree as one layer leaves it, or what one layer does.

use super::analysis::{Analysis, Kind, ROOT, Status};

/// Which names of the tree are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those that the layer touches.
    Layer,
    /// All that are there with the layer on top, and those that it removes.
    Merged,
}

/// A name that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// What it is.
    pub kind: Kind,
    /// Bytes, of a directory those of all below; removed ones count only in
    /// what is removed itself.
    pub size: u64,
    /// What the layer does to it; none where it does nothing.
    pub status: Option<Status>,
}

/// What is to be shown of each node; none for those out of scope.
#[derive(Debug)]
pub struct View(Vec<Option<Shown>>);

impl View {
    /// Look at layer `number`, from 0.
    pub fn new(analysis: &Analysis, number: usize, scope: Scope) -> View {
        let mut shown: Vec<Option<Shown>> = vec![None; analysis.nodes.len()];
        let below = match scope {
            Scope::Merged => analysis.layers.get(..number).unwrap_or_default(),
            Scope::Layer => &[],
        };
        for change in below.iter().flat_map(|l| &l.changes) {
            if let Some(slot) = shown.get_mut(change.node as usize) {
                let gone = change.status == Status::Removed;
                *slot = (!gone).then_some(Shown {
                    kind: change.kind,
                    size: change.size,
                    status: None,
                });
            }
        }
        for change in analysis.layers.get(number).iter().flat_map(|l| &l.changes) {
            if let Some(slot) = shown.get_mut(change.node as usize) {
                *slot = Some(Shown {
                    kind: change.kind,
                    size: change.size,
                    status: Some(change.status),
                });
            }
        }
        sum(analysis, &mut shown);
        View(shown)
    }

    /// One node.
    pub fn get(&self, node: u32) -> Option<&Shown> {
        self.0.get(node as usize)?.as_ref()
    }

    /// The children of a node that are in scope, by name.
    pub fn children<'a>(
        &'a self,
        analysis: &'a Analysis,
        node: u32,
    ) -> impl DoubleEndedIterator<Item = (u32, &'a Shown)> {
        let children = analysis.nodes.get(node as usize).map(|n| &n.children);
        children
            .into_iter()
            .flatten()
            .filter_map(|c| Some((*c, self.get(*c)?)))
    }
}

/// Add sizes to the directories above, children first, as they come later; a
/// directory above something in scope is in scope.
fn sum(analysis: &Analysis, shown: &mut [Option<Shown>]) {
    for node in (1..analysis.nodes.len()).rev() {
        let Some(below) = shown.get(node).copied().flatten() else {
            continue;
        };
        let parent = analysis.nodes.get(node).map_or(ROOT, |n| n.parent);
        let Some(slot) = shown.get_mut(parent as usize) else {
            continue;
        };
        let above = slot.get_or_insert(Shown {
            kind: Kind::Dir,
            size: 0,
            status: None,
        });
        let gone = |s: &Shown| s.status == Some(Status::Removed);
        if gone(&below) == gone(above) {
            above.size += below.size;
        }
    }
}
