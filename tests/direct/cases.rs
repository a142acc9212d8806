//! Table tests: cases in `tests/cases/*.txt`.
//!
//! ```text
//! == a name
//! -- lower                the topmost layer, as text (see `common::tree`)
//! -- lower                the one below it
//! -- upper                before
//! -- ops                  see `ops`; `=> EXDEV` ends a line that must fail,
//!                         `=>[CONDITION] EXDEV` one that must fail only then
//! -- view                 what the union must show, live, after the caches
//!                         are dropped, and after a remount
//! -- view [CONDITION]     instead, where the condition holds
//! -- after                the upper afterwards, where everything is on
//! -- index N              entries in the hard link index, likewise
//! -- skip [CONDITION] why it says nothing there
//! -- only [CONDITION] why it says nothing elsewhere
//! ```
//!
//! `OVL.` in a tree is the prefix of the mount's own marks. An origin is shown
//! as `*`. Conditions are those of [`Variant::is`].

use super::{Rig, expand, ops, variant::Variant};
use crate::common::tree::{self, Dump, DumpOptions, Mtime, compare};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Where no attribute can say which lower inode's number a copy has.
const NO_ORIGINS: &str = "xattr+trusted+mknod|ramfs";

/// One case.
#[derive(Clone, Debug, Default)]
pub struct Case {
    pub name: String,
    /// Heading without its first word, and lines.
    sections: Vec<(String, String, String)>,
}

/// Their text, so that those run in a user namespace need not be able to read
/// the repository.
const FILES: &[(&str, &str)] = &[
    ("read", include_str!("../cases/read.txt")),
    ("marks", include_str!("../cases/marks.txt")),
    ("copy_up", include_str!("../cases/copy_up.txt")),
    ("links", include_str!("../cases/links.txt")),
    ("rename", include_str!("../cases/rename.txt")),
];

/// All cases of all files.
pub fn all() -> Vec<Case> {
    FILES
        .iter()
        .flat_map(|(stem, text)| parse(stem, text))
        .collect()
}

fn parse(stem: &str, text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("== ") {
            cases.push(Case {
                name: format!("{stem}: {name}"),
                sections: Vec::new(),
            });
        } else if let Some(head) = line.strip_prefix("-- ") {
            let (word, rest) = head.split_once(' ').unwrap_or((head, ""));
            let section = (word.to_owned(), rest.trim().to_owned(), String::new());
            cases.last_mut().unwrap().sections.push(section);
        } else if let Some(case) = cases.last_mut()
            && let Some((_, _, text)) = case.sections.last_mut()
        {
            text.push_str(line);
            text.push('\n');
        }
    }
    cases
}

fn condition(rest: &str) -> Option<&str> {
    let (inner, _) = rest.strip_prefix('[')?.split_once(']')?;
    Some(inner)
}

impl Case {
    fn get(&self, word: &str) -> Option<&(String, String, String)> {
        self.sections.iter().find(|s| s.0 == word)
    }

    /// What is wrong under a variant, or why the case says nothing there.
    pub fn run(&self, variant: &Variant, base: &Path) -> Result<bool, String> {
        for (word, rest, _) in &self.sections {
            let holds = condition(rest).is_some_and(|c| variant.is(c));
            if (word == "skip" && holds) || (word == "only" && !holds) {
                return Ok(false);
            }
        }
        // Nor can an upper with attributes be made where there are none.
        let made = self.get("upper").map_or("", |s| s.2.as_str());
        if variant.is("ramfs") && made.contains("OVL.") {
            return Ok(false);
        }
        let dir = tempfile::Builder::new()
            .prefix("capas-case.")
            .tempdir_in(base)
            .unwrap();
        let result = catch_unwind(AssertUnwindSafe(|| self.run_in(variant, dir.path())));
        match result {
            Ok(result) => result.map(|()| true),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or(panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                Err(text.unwrap_or_default())
            }
        }
        .map_err(|e| format!("{} [{}]:\n{e}", self.name, variant.name))
    }

    /// The lower layers, top first.
    pub fn lowers(&self, variant: &Variant) -> Vec<String> {
        let lowers = self.sections.iter().filter(|s| s.0 == "lower");
        lowers
            .map(|s| s.2.replace("OVL.", variant.family()))
            .collect()
    }

    /// The upper before.
    pub fn upper(&self, variant: &Variant) -> String {
        let text = self.get("upper").map_or("", |s| s.2.as_str());
        text.replace("OVL.", variant.family())
    }

    fn run_in(&self, variant: &Variant, dir: &Path) -> Result<(), String> {
        let own = |text: &str| text.replace("OVL.", variant.family());
        let lowers = self.lowers(variant);
        let upper = self.upper(variant);
        Rig::build(dir, &lowers, Some(&upper));
        let mut rig = Rig::new(dir, variant.options.clone(), variant.features);
        if variant.is("catalog") && !lowers.is_empty() {
            rig = rig.catalogued();
        }
        rig.open()?;
        if rig.uses_catalog() != (variant.is("catalog") && !lowers.is_empty()) {
            return Err("the catalog is not used".into());
        }
        let ops = self.get("ops").map_or("", |s| s.2.as_str());
        for line in ops.lines().map(str::trim).filter(|l| !l.is_empty()) {
            step(&rig, variant, line)?;
        }
        let views = self.sections.iter().filter(|s| s.0 == "view");
        let special = views
            .clone()
            .find(|s| condition(&s.1).is_some_and(|c| variant.is(c)));
        let general = views.clone().find(|s| s.1.is_empty());
        let Some((_, _, want)) = special.or(general) else {
            return Err("the case has no view".into());
        };
        let want = expected(dir, "view", want, rig.since);
        let check = |when: &str, got: &Dump| match compare(&want, got) {
            None => Ok(()),
            Some(diff) => Err(format!(
                "{when}, the view differs (- expected, + got):\n{diff}"
            )),
        };
        let live = rig.view();
        check("live", &live)?;
        rig.forget();
        check("with dropped caches", &rig.view())?;
        rig.remount();
        let again = rig.view();
        check("after a remount", &again)?;
        for (path, id) in &live.inodes {
            let now = again.inodes.get(path).map(|i| i.ino);
            if now != Some(id.ino) && !variant.is(NO_ORIGINS) {
                let path = tree::escape(path);
                return Err(format!("st_ino of {path}: {} live, then {now:?}", id.ino));
            }
        }
        rig.close();
        if let Some(diff) = rig.lowers_changed() {
            return Err(format!("a lower layer was changed:\n{diff}"));
        }
        if !rig.leftovers().is_empty() {
            return Err(format!("left in the work directory: {:?}", rig.leftovers()));
        }
        if variant.name == "default" {
            self.check_upper(&rig, &own)?;
        }
        Ok(())
    }

    fn check_upper(&self, rig: &Rig, own: &dyn Fn(&str) -> String) -> Result<(), String> {
        if let Some((_, _, want)) = self.get("after") {
            let mut want = expected(&rig.dir, "after", &own(want), rig.since);
            want.lines.values_mut().for_each(normalize);
            let mut got = tree::dump(&rig.dir.join("upper"), &options(rig.since));
            got.lines.values_mut().for_each(normalize);
            if let Some(diff) = compare(&want, &got) {
                return Err(format!("the upper differs (- expected, + got):\n{diff}"));
            }
        }
        if let Some((_, n, _)) = self.get("index")
            && rig.index().len().to_string() != *n
        {
            return Err(format!("{n} index entries expected: {:?}", rig.index()));
        }
        Ok(())
    }
}

fn step(rig: &Rig, variant: &Variant, line: &str) -> Result<(), String> {
    let line = expand(line);
    let (op, fails) = match line.split_once("=>") {
        None => (line.as_str(), None),
        Some((op, rest)) => {
            let error = rest.rsplit(' ').next().unwrap();
            let applies = condition(rest).is_none_or(|c| variant.is(c));
            (op.trim(), applies.then_some(error))
        }
    };
    if op.starts_with("same ") && variant.is(NO_ORIGINS) {
        return Ok(());
    }
    let result = rig.op(op);
    let got = result.err().map(ops::name_of);
    match (got.as_deref(), fails) {
        (None, None) => Ok(()),
        (Some(got), Some(want)) if got == want => Ok(()),
        (got, want) => Err(format!("{op}: {got:?}, expected {want:?}")),
    }
}

fn options(since: i64) -> DumpOptions {
    DumpOptions {
        mtime: Mtime::NowFrom(since),
        ..DumpOptions::default()
    }
}

/// A dump of what the text says.
fn expected(dir: &Path, name: &str, text: &str, since: i64) -> Dump {
    let root = dir.join(format!("expected-{name}"));
    std::fs::create_dir(&root).unwrap();
    tree::build(&root, &expand(text));
    tree::dump(&root, &options(since))
}

/// Handles differ from run to run, and modes of whiteouts say nothing.
fn normalize(line: &mut String) {
    let words: Vec<String> = line
        .split(' ')
        .map(|w| match w.split_once(".overlay.origin=") {
            Some((family, _)) => format!("{family}.overlay.origin=\"*\""),
            None => w.to_owned(),
        })
        .collect();
    *line = words.join(" ");
    if line.starts_with("char ") && line.contains(" dev=0:0 ") {
        *line = "whiteout".to_owned();
    }
}
