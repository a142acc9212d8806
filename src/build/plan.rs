//! Which stages a build needs.

use super::dockerfile::{Copy, Dockerfile, Flag, Instruction, Kind, Stage};
use crate::store::error::{Result, invalid, show};

/// A flag's value.
pub fn flag<'a>(flags: &'a [Flag], name: &str) -> Option<&'a str> {
    let found = flags.iter().rev().find(|(n, _)| n == name);
    found.and_then(|(_, value)| value.as_deref())
}

/// What another stage or image is called in `--mount`.
fn mount_from(text: &str) -> Option<&str> {
    text.split(',').find_map(|f| f.strip_prefix("from="))
}

/// The stage before `before` that is called so, or has that number.
pub fn stage_called(stages: &[Stage], name: &str, before: usize) -> Option<usize> {
    let name = name.to_lowercase();
    let earlier = stages.get(..before).unwrap_or(stages);
    let named = earlier
        .iter()
        .rposition(|s| s.name.as_deref() == Some(name.as_str()));
    named.or_else(|| name.parse().ok().filter(|n| *n < earlier.len()))
}

/// The stage that is built.
///
/// # Errors
/// When there is none of that name.
pub fn target(file: &Dockerfile, wish: Option<&str>) -> Result<usize> {
    let Some(wish) = wish.filter(|w| !w.is_empty()) else {
        return Ok(file.stages.len().saturating_sub(1));
    };
    match stage_called(&file.stages, wish, file.stages.len()) {
        Some(stage) => Ok(stage),
        None => {
            let named: Vec<&str> = file
                .stages
                .iter()
                .filter_map(|s| s.name.as_deref())
                .collect();
            let there = match named.is_empty() {
                true => "no stage has a name".to_owned(),
                false => format!("there are {}", named.join(", ")),
            };
            invalid(format!(
                "target stage \"{}\" could not be found: {there}",
                show(wish.as_bytes())
            ))
        }
    }
}

/// The stages that `target` is made of, itself included, in their order.
/// `bases` are those that the stages begin with, where these are stages.
pub fn needed(file: &Dockerfile, target: usize, bases: &[Option<usize>]) -> Vec<usize> {
    let mut wanted = vec![false; file.stages.len()];
    let mut waiting = vec![target];
    while let Some(at) = waiting.pop() {
        match wanted.get_mut(at) {
            Some(state) if !*state => *state = true,
            _ => continue,
        }
        waiting.extend(bases.get(at).copied().flatten());
        let Some(stage) = file.stages.get(at) else {
            continue;
        };
        for name in stage.instructions.iter().flat_map(refers_to) {
            waiting.extend(stage_called(&file.stages, name, at));
        }
    }
    let all = wanted.iter().enumerate();
    all.filter(|(_, wanted)| **wanted).map(|(n, _)| n).collect()
}

/// Stages or images that an instruction takes files from.
fn refers_to(instruction: &Instruction) -> Vec<&str> {
    match &instruction.kind {
        Kind::Copy(Copy { flags, .. }) => flag(flags, "from").into_iter().collect(),
        Kind::Run(run) => {
            let mounts = run.flags.iter().filter(|(name, _)| name == "mount");
            mounts
                .filter_map(|(_, value)| mount_from(value.as_deref()?))
                .collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::dockerfile::parse;
    use std::path::Path;

    #[test]
    fn only_what_the_target_needs_is_built() {
        let file = parse(
            Path::new("Dockerfile"),
            "FROM x AS a\nFROM y AS b\nFROM a AS c\nRUN --mount=from=b,target=/b z\nFROM d\nFROM scratch AS e\nCOPY --from=A /x /\nCOPY --from=3 /x /\nCOPY --from=e /x /\n",
        )
        .unwrap();
        let bases = [None, None, Some(0), None, None];
        assert_eq!(needed(&file, 4, &bases), [0, 3, 4]);
        assert_eq!(needed(&file, 2, &bases), [0, 1, 2]);
        assert_eq!(needed(&file, 3, &bases), [3]);
        assert_eq!(target(&file, None).unwrap(), 4);
        assert_eq!(target(&file, Some("B")).unwrap(), 1);
        assert_eq!(target(&file, Some("3")).unwrap(), 3);
        let e = target(&file, Some("f")).unwrap_err().to_string();
        assert_eq!(
            e,
            "target stage \"f\" could not be found: there are a, b, c, e"
        );
    }
}
