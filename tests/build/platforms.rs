//! Images for other machines.

use super::fixture::ground;
use super::support::{Tar, archive_of, config, diffs};
use capas::build::{self, Options, Tell, context};
use capas::container::Containers;
use capas::container::step::Written;
use capas::store::document::Platform;
use capas::store::load::Wish;
use capas::store::{Result, Store};
use std::fs::File;
use std::time::Duration;

/// A registry that has `multi:1` for any machine; what it was asked for.
struct Registry<'a> {
    store: &'a Store,
    asked: Vec<String>,
}

impl Tell for Registry<'_> {
    fn begin(&mut self, _: Option<&str>, _: (usize, usize), _: &str) -> Result<()> {
        Ok(())
    }

    fn output(&mut self, _: Written<'_>) -> Result<()> {
        Ok(())
    }

    fn end(&mut self, _: Option<Duration>) -> Result<()> {
        Ok(())
    }

    fn fetch(&mut self, url: &str, _: &mut File) -> Result<Option<i64>> {
        panic!("{url}")
    }

    fn pull(&mut self, image: &str, platform: Option<&Platform>) -> Result<()> {
        let host = Platform::host();
        let architecture = &platform.unwrap_or(&host).architecture;
        self.asked.push(format!("{image} {architecture}"));
        let layers = [Tar::new().file("for", architecture).end()];
        let config = config(&diffs(&layers)).replace("amd64", architecture);
        let archive = archive_of(&config, &layers, &["multi:1"]);
        let wish = Wish::default();
        self.store.load_stream(archive.as_slice(), wish).map(drop)
    }
}

#[test]
fn one_name_is_an_image_for_each_machine() {
    let Some(g) = ground() else { return };
    let text = "FROM --platform=linux/riscv64 multi:1 AS a\n\
                FROM --platform=linux/s390x multi:1 AS b\n\
                FROM multi:1 AS c\n\
                FROM --platform=linux/riscv64 multi:1\n\
                COPY --from=a for /a\nCOPY --from=b for /b\nCOPY --from=c for /c\n";
    g.file("Dockerfile", text);
    let store = &g.cli.bench.store;
    let containers = Containers::new(store);
    let sources = context::open(
        store,
        g.context.to_str().unwrap(),
        None,
        &mut std::io::empty(),
    );
    let mut registry = Registry {
        store,
        asked: Vec::new(),
    };
    let options = Options::default();
    let done = build::build(
        &containers,
        None,
        &sources.unwrap(),
        &options,
        &mut registry,
    );
    let id = done.unwrap().id.to_string();
    let host = Platform::host().architecture;
    assert_eq!(
        registry.asked,
        [
            "multi:1 riscv64",
            "multi:1 s390x",
            &format!("multi:1 {host}")
        ]
    );
    assert_eq!(g.told(&id, "/Architecture"), "riscv64");
    g.cli.ok(&["create", "--name", "look", &id, "x"]);
    let root = g.cli.ok(&["mount", "look"]);
    let read = |name: &str| std::fs::read_to_string(format!("{}/{name}", root.trim_end()));
    for (name, architecture) in [
        ("a", "riscv64"),
        ("b", "s390x"),
        ("c", &host),
        ("for", "riscv64"),
    ] {
        assert_eq!(read(name).unwrap(), architecture, "{name}");
    }
    g.cli.ok(&["rm", "-f", "look"]);
}
