//! An image's merged catalog: made with it, used by its containers, made again
//! where it is not right, and gone with the image.

use super::check::{run, sound};
use super::support::*;
use capas::catalog::{Catalog, check::checksum};
use capas::store::layer::{chain_ids, mounted};
use capas::store::{Digest, Store};
use std::fs;
use std::path::PathBuf;

fn layers() -> [Vec<u8>; 2] {
    let base = Tar::new()
        .dir("d/")
        .file("d/f", "f")
        .file("gone", "x")
        .end();
    let top = Tar::new().file(".wh.gone", "").file("d/g", "g").end();
    [base, top]
}

/// A store with one image of two layers.
fn bench() -> Bench {
    let b = Bench::new();
    let layers = layers();
    b.load(&docker_archive(&layers, &diffs(&layers), &["img:1"]))
        .unwrap();
    b
}

/// The image's chain, and the names of its layers as they are mounted.
fn chain(store: &Store) -> (Digest, Vec<Digest>) {
    let (image, _) = store.find_image("img:1").unwrap();
    let (config, _) = store.image_config(&image.id).unwrap();
    let chain = chain_ids(config.diff_ids()).pop().unwrap();
    (chain, mounted(&store.image_layers(&config).unwrap()))
}

/// All catalogs that there are.
fn catalogs(store: &Store) -> Vec<PathBuf> {
    let entries = fs::read_dir(store.layers()).unwrap();
    let paths = entries.map(|e| e.unwrap().path());
    paths
        .filter(|p| p.extension().is_some_and(|e| e == "cat"))
        .collect()
}

#[test]
fn it_comes_with_the_image_and_says_what_that_shows() {
    let b = bench();
    let (chain, names) = chain(&b.store);
    let path = b.store.catalog_file(&chain);
    assert_eq!(catalogs(&b.store), std::slice::from_ref(&path));
    let catalog = Catalog::parse(fs::read(&path).unwrap()).unwrap();
    assert_eq!(catalog.layers().len(), 2);
    let names_in = |dir| {
        let all = (0..catalog.len(dir)).filter_map(|i| catalog.entry(dir, i));
        all.map(|e| String::from_utf8(e.name.to_vec()).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(names_in(0), ["d"]);
    assert_eq!(names_in(1), ["f", "g"]);
    // One that is there is used as it is.
    assert_eq!(b.store.ready_catalog(&chain, &names), Some(path.clone()));
    assert_eq!(
        fs::read(&path).unwrap().len() as u64,
        path.metadata().unwrap().len()
    );
    sound(&b);
}

#[test]
fn a_missing_or_wrong_one_is_made_again() {
    let b = bench();
    let (chain, names) = chain(&b.store);
    let path = b.store.catalog_file(&chain);
    let good = fs::read(&path).unwrap();
    let inode = |path: &PathBuf| std::os::unix::fs::MetadataExt::ino(&path.metadata().unwrap());
    let first = inode(&path);
    b.store.ready_catalog(&chain, &names).unwrap();
    assert_eq!(inode(&path), first, "it was made again for nothing");
    let damage: [&dyn Fn(); 4] = [
        &|| fs::remove_file(&path).unwrap(),
        &|| {
            fs::remove_file(&path).unwrap();
            fs::write(&path, &good[..good.len() / 2]).unwrap();
        },
        // Of somebody to whom owners are others.
        &|| {
            let mut other = good[..good.len() - 4].to_vec();
            other[60] ^= 1;
            other.extend_from_slice(&checksum(&other));
            fs::remove_file(&path).unwrap();
            fs::write(&path, other).unwrap();
        },
        // A tree that was put in its place anew, as a repair does.
        &|| {
            let dir = b.store.layer_dir(&names[0]);
            let aside = dir.with_extension("aside");
            fs::rename(&dir, &aside).unwrap();
            fs::rename(&aside, &dir).unwrap();
        },
    ];
    for wrong in damage {
        wrong();
        assert_eq!(b.store.ready_catalog(&chain, &names), Some(path.clone()));
        Catalog::parse(fs::read(&path).unwrap()).unwrap();
        assert!(!fs::read(&path).unwrap().is_empty());
        sound(&b);
    }
}

#[test]
fn check_tells_of_a_damaged_one_and_repairs_it() {
    let b = bench();
    let (chain, _) = chain(&b.store);
    let path = b.store.catalog_file(&chain);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    let (code, text) = run(&b, &["check"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("catalog of img:1: it is damaged"), "{text}");
    let (code, text) = run(&b, &["check", "--repair"]);
    assert_eq!(code, 0, "{text}");
    sound(&b);
    // A missing one is no damage: it is derived.
    fs::remove_file(&path).unwrap();
    sound(&b);
}

#[test]
fn it_goes_with_the_image_or_its_last_container() {
    let b = bench();
    // An image on top of the other: the chain lives on, its catalog need not.
    let mut more = layers().to_vec();
    more.push(Tar::new().file("h", "h").end());
    b.load(&docker_archive(&more, &diffs(&more), &["more:1"]))
        .unwrap();
    assert_eq!(catalogs(&b.store).len(), 2);
    let (code, text) = run(&b, &["create", "--name", "box", "img:1", "/d/f"]);
    assert_eq!(code, 0, "{text}");
    let (chain, _) = chain(&b.store);
    for args in [&["rmi", "-f", "img:1"][..], &["gc"]] {
        let (code, text) = run(&b, args);
        assert_eq!(code, 0, "{text}");
    }
    assert!(b.store.catalog_file(&chain).exists(), "the container's");
    for args in [&["rm", "box"][..], &["gc"]] {
        let (code, text) = run(&b, args);
        assert_eq!(code, 0, "{text}");
    }
    assert!(!b.store.catalog_file(&chain).exists());
    assert_eq!(catalogs(&b.store).len(), 1);
    sound(&b);
}
