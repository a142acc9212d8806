//! Many processes at once on one store.

use super::images::{Pack, image, layer, noise};
use super::served::{Content, Served, put};
use super::*;
use std::time::{Duration, Instant};

const PROCESSES: usize = 8;

/// What a command may refuse because of what another one is doing.
const REFUSALS: [&str; 5] = [
    "No such image",
    "No such object",
    "the store is being added to or checked now: try again",
    "is using its referenced image",
    "the store is in use by a command that reads or adds images: try again",
];

#[test]
fn many_processes_get_nothing_but_answers_and_refusals() {
    if !support::root() {
        return;
    }
    let set = std::env::var("CAPAS_SECONDS").ok();
    let seconds = set.map_or(20, |n| n.parse().unwrap());
    let dir = scratch();
    let root = dir.path().join("store");
    // Two that share a layer, and two of their own; a store is made by whoever
    // comes first.
    let archives: Vec<(String, PathBuf)> = (0..4u64)
        .map(|n| {
            let name = format!("image{n}");
            let path = archive(dir.path(), &name, if n < 2 { 1 } else { n * 1000 }, 10);
            (name, path)
        })
        .collect();
    // And one that a registry has.
    let remote = image(&[
        (layer("a", &noise(50_000, 3)), Pack::Gzip),
        (layer("b", b"2"), Pack::Zstd),
    ]);
    let mut content = Content::new();
    put(&mut content, &remote, "app", "1");
    let served = Served::start(content, |_, _| None);
    let remote = format!("{}/app:1", served.host);
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut seed = Random::new("together");
    let counts: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..PROCESSES)
            .map(|_| {
                let mut random = Random(seed.below(u64::MAX));
                let (root, archives, remote) = (&root, &archives, &remote);
                scope.spawn(move || {
                    let (mut done, mut refused) = (0, 0);
                    while Instant::now() < until {
                        let (name, path) = &archives[random.below(4) as usize];
                        let full = format!("{name}:1");
                        let path = path.to_str().unwrap();
                        let args: Vec<&str> = match random.below(20) {
                            0..4 => vec!["load", "-q", "-i", path],
                            4..6 => vec!["rmi", &full],
                            6 => vec!["rmi", "-f", &full],
                            7 => vec!["images"],
                            8 => vec!["inspect", &full],
                            9 => vec!["gc"],
                            10 => vec!["check"],
                            11 => vec!["check", "--repair"],
                            12 => vec!["prune", "--blobs", "-f"],
                            13 => vec!["tag", &full, "other:1"],
                            14 => vec!["system", "df"],
                            15 => vec!["system", "df", "-v"],
                            16..18 => vec!["pull", "-q", remote],
                            18 => vec!["rmi", remote],
                            _ => vec!["create", "--pull", "never", &full, "/bin/true"],
                        };
                        let out = command(root, &args).output().unwrap();
                        let said = text(&out);
                        if out.status.success() {
                            let err = String::from_utf8_lossy(&out.stderr);
                            assert!(!err.contains("warning"), "{args:?}: {err}");
                            done += 1;
                            if args[0] == "create" {
                                let id = said.trim().to_owned();
                                capas(root, &["rm", &id]);
                            }
                            continue;
                        }
                        refused += 1;
                        let known = REFUSALS.iter().any(|r| said.contains(r));
                        assert!(known && out.status.code() == Some(1), "{args:?}: {said}");
                    }
                    (done, refused)
                })
            })
            .collect();
        workers.into_iter().map(|w| w.join().unwrap()).collect()
    });
    let done: u64 = counts.iter().map(|c| c.0).sum();
    let refused: u64 = counts.iter().map(|c| c.1).sum();
    eprintln!("{done} commands done, {refused} refused in {seconds} s");
    assert!(
        done > 20 * refused / 10 && done > seconds,
        "{done}, {refused}"
    );
    sound(&root, "after all");
    capas(&root, &["gc"]);
    let said = sound(&root, "after all and gc");
    assert!(said.contains(" 0 unused"), "{said}");
    for (name, path) in &archives {
        capas(&root, &["load", "-q", "-i", path.to_str().unwrap()]);
        assert!(listed(&root).contains(name));
    }
    capas(&root, &["pull", "-q", &remote]);
    sound(&root, "with all images");
}
