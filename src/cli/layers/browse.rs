//! The state of the terminal view: keys in, what is to be drawn out. Nothing
//! here knows a terminal.

use crate::layers::label::label;
use crate::layers::view::{Scope, Shown, View};
use crate::layers::{Analysis, Kind, ROOT};
use std::collections::HashSet;

/// A key that means something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Also `k`.
    Up,
    /// Also `j`.
    Down,
    /// Also `h`.
    Left,
    /// Also `l`.
    Right,
    /// A page back.
    PageUp,
    /// A page on.
    PageDown,
    /// To the first.
    Home,
    /// To the last.
    End,
    /// The other scope.
    Tab,
    /// Expand or collapse; the end of a filter.
    Enter,
    /// Away with what is in front.
    Esc,
    /// In a filter.
    Backspace,
    /// Ctrl-C.
    Interrupt,
    /// Any character.
    Char(char),
}

/// Where keys go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pane {
    /// The list of layers.
    Layers,
    /// The tree.
    Tree,
}

/// In which order names are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Alphabetically.
    Name,
    /// The largest first.
    Size,
}

/// A line of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The name.
    pub node: u32,
    /// How far it is indented.
    pub depth: usize,
    /// What is to be shown of it.
    pub shown: Shown,
    /// Whether its children are listed; none where it has none.
    pub open: Option<bool>,
}

/// What the view looks at, and how.
pub struct Browser<'a> {
    /// The image.
    pub analysis: &'a Analysis,
    /// The layer that is looked at, from 0.
    pub layer: usize,
    /// One layer, or all up to it.
    pub scope: Scope,
    /// Where keys go.
    pub pane: Pane,
    /// The order of names.
    pub sort: Sort,
    /// Part of the paths that are listed.
    pub filter: String,
    /// Keys go to the filter.
    pub typing: bool,
    /// The help is in front.
    pub help: bool,
    /// The lines of the tree.
    pub rows: Vec<Row>,
    /// The line that is selected.
    pub cursor: usize,
    /// The view is over.
    pub done: bool,
    open: HashSet<u32>,
    view: View,
}

/// Lines that a page key moves.
const PAGE: usize = 20;

impl<'a> Browser<'a> {
    /// Begin with what the lowest layer does.
    pub fn new(analysis: &'a Analysis) -> Browser<'a> {
        let mut browser = Browser {
            analysis,
            layer: 0,
            scope: Scope::Layer,
            pane: Pane::Layers,
            sort: Sort::Name,
            filter: String::new(),
            typing: false,
            help: false,
            rows: Vec::new(),
            cursor: 0,
            done: false,
            open: HashSet::new(),
            view: View::new(analysis, 0, Scope::Layer),
        };
        browser.list();
        browser
    }

    /// Take a key.
    pub fn press(&mut self, key: Key) {
        match key {
            Key::Interrupt => self.done = true,
            _ if self.help => self.help = false,
            key if self.typing => self.type_filter(key),
            Key::Char('q') => self.done = true,
            Key::Char('?') => self.help = true,
            Key::Char('/') => {
                self.typing = true;
                self.pane = Pane::Tree;
            }
            Key::Esc => {
                self.filter.clear();
                self.list();
            }
            Key::Tab => {
                self.scope = match self.scope {
                    Scope::Layer => Scope::Merged,
                    Scope::Merged => Scope::Layer,
                };
                self.look();
            }
            Key::Char('s') => {
                self.sort = match self.sort {
                    Sort::Name => Sort::Size,
                    Sort::Size => Sort::Name,
                };
                self.list();
            }
            Key::Char('e') => {
                self.open.extend(0..self.analysis.nodes.len() as u32);
                self.list();
            }
            Key::Char('c') => {
                self.open.clear();
                self.list();
            }
            Key::Up | Key::Char('k') => self.step(|at| at.saturating_sub(1)),
            Key::Down | Key::Char('j') => self.step(|at| at + 1),
            Key::PageUp => self.step(|at| at.saturating_sub(PAGE)),
            Key::PageDown => self.step(|at| at + PAGE),
            Key::Home | Key::Char('g') => self.step(|_| 0),
            Key::End | Key::Char('G') => self.step(|_| usize::MAX - PAGE),
            Key::Left | Key::Char('h') => self.leave(),
            Key::Right | Key::Char('l') => match self.pane {
                Pane::Layers => self.pane = Pane::Tree,
                Pane::Tree => self.toggle(Some(true)),
            },
            Key::Enter | Key::Char(' ') => match self.pane {
                Pane::Layers => self.pane = Pane::Tree,
                Pane::Tree => self.toggle(None),
            },
            Key::Backspace | Key::Char(_) => {}
        }
    }

    fn type_filter(&mut self, key: Key) {
        match key {
            Key::Char(c) => self.filter.push(c),
            Key::Backspace => drop(self.filter.pop()),
            Key::Esc => {
                self.filter.clear();
                self.typing = false;
            }
            Key::Enter => {
                self.typing = false;
                return;
            }
            _ => return,
        }
        self.list();
    }

    fn step(&mut self, to: impl Fn(usize) -> usize) {
        match self.pane {
            Pane::Tree => {
                self.cursor = to(self.cursor).min(self.rows.len().saturating_sub(1));
            }
            Pane::Layers => {
                let last = self.analysis.layers.len().saturating_sub(1);
                let layer = to(self.layer).min(last);
                if layer != self.layer {
                    self.layer = layer;
                    self.look();
                }
            }
        }
    }

    /// Close the directory, or go to the one it is in, or to the layers.
    fn leave(&mut self) {
        let Some(row) = self
            .rows
            .get(self.cursor)
            .filter(|_| self.pane == Pane::Tree)
        else {
            self.pane = Pane::Layers;
            return;
        };
        if row.open == Some(true) && self.filter.is_empty() {
            return self.toggle(Some(false));
        }
        let parent = self.analysis.nodes.get(row.node as usize);
        let parent = parent.map_or(ROOT, |n| n.parent);
        match self.rows.iter().position(|r| r.node == parent) {
            Some(at) => self.cursor = at,
            None => self.pane = Pane::Layers,
        }
    }

    /// Open or close the selected directory. With a filter all that is listed
    /// is open.
    fn toggle(&mut self, want: Option<bool>) {
        let Some(row) = self.rows.get(self.cursor) else {
            return;
        };
        match (row.open, want) {
            (None, _) => return,
            (Some(is), Some(want)) if is == want => return,
            (Some(true), _) => drop(self.open.remove(&row.node)),
            (Some(false), _) => drop(self.open.insert(row.node)),
        }
        self.list();
    }

    fn look(&mut self) {
        self.view = View::new(self.analysis, self.layer, self.scope);
        self.list();
    }

    /// Make the lines anew; the cursor stays on its name if that is listed.
    fn list(&mut self) {
        let at = self.rows.get(self.cursor).map(|r| r.node);
        let wanted = self.wanted();
        self.rows.clear();
        let mut todo: Vec<(u32, usize)> = self.ordered(ROOT, 0, wanted.as_ref());
        while let Some((node, depth)) = todo.pop() {
            let Some(shown) = self.view.get(node).copied() else {
                continue;
            };
            let below = self.ordered(node, depth + 1, wanted.as_ref());
            let is_open = wanted.is_some() || self.open.contains(&node);
            let open = (shown.kind == Kind::Dir || !below.is_empty()).then_some(is_open);
            self.rows.push(Row {
                node,
                depth,
                shown,
                open,
            });
            if is_open {
                todo.extend(below);
            }
        }
        let kept = at.and_then(|node| self.rows.iter().position(|r| r.node == node));
        let last = self.rows.len().saturating_sub(1);
        self.cursor = kept.unwrap_or(self.cursor).min(last);
    }

    /// The children of a node, the last first.
    fn ordered(&self, node: u32, depth: usize, wanted: Option<&HashSet<u32>>) -> Vec<(u32, usize)> {
        let children = self.view.children(self.analysis, node);
        let mut list: Vec<(u32, u64)> = children
            .filter(|(child, _)| wanted.is_none_or(|w| w.contains(child)))
            .map(|(child, shown)| (child, shown.size))
            .collect();
        if self.sort == Sort::Size {
            list.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
        }
        list.into_iter().rev().map(|(c, _)| (c, depth)).collect()
    }

    /// With a filter: the names whose path holds it, and those above them.
    fn wanted(&self) -> Option<HashSet<u32>> {
        if self.filter.is_empty() {
            return None;
        }
        let filter = self.filter.to_lowercase();
        let mut wanted = HashSet::new();
        let mut todo: Vec<(u32, String)> = vec![(ROOT, String::new())];
        while let Some((node, path)) = todo.pop() {
            if node != ROOT && path.contains(&filter) {
                let mut up = node;
                while up != ROOT && wanted.insert(up) {
                    up = self
                        .analysis
                        .nodes
                        .get(up as usize)
                        .map_or(ROOT, |n| n.parent);
                }
            }
            for (child, _) in self.view.children(self.analysis, node) {
                let name = self
                    .analysis
                    .nodes
                    .get(child as usize)
                    .map(|n| label(&n.name));
                let name = name.unwrap_or_default().to_lowercase();
                todo.push((child, format!("{path}/{name}")));
            }
        }
        Some(wanted)
    }
}
