use super::*;
use crate::store::digest::Digest;
use std::fs::{self, File};
use std::io::Read;

/// An archive of one file with that content, in a tree that has it.
fn layer(dir: &std::path::Path, content: &[u8]) -> (Vec<u8>, Digest) {
    let mut tar = crate::store::tarwriter::TarWriter::new(Vec::new());
    tar.dir("d").unwrap();
    tar.file("d/f", content.len() as u64, &mut { content })
        .unwrap();
    fs::create_dir_all(dir.join("tree/d")).unwrap();
    fs::write(dir.join("tree/d/f"), content).unwrap();
    let mut tar = tar.finish().unwrap();
    // Whatever comes after the end stays.
    tar.resize(tar.len() + 8192, 0);
    let digest = Digest::of(&tar);
    (tar, digest)
}

fn rebuild(dir: &std::path::Path, id: &Digest) -> std::io::Result<Vec<u8>> {
    let mut rebuilt = open(&dir.join("skel"), &dir.join("tree"), id)?;
    let mut out = Vec::new();
    rebuilt.read_to_end(&mut out)?;
    assert_eq!(out.len() as u64, rebuilt.size());
    Ok(out)
}

fn make_in(dir: &std::path::Path, tar: &[u8], id: &Digest) {
    let tree = File::open(dir.join("tree")).unwrap();
    make(tar, &tree, id, &File::create(dir.join("skel")).unwrap()).unwrap();
}

#[test]
fn an_archive_comes_back_from_its_tree() {
    let tmp = tempfile::tempdir().unwrap();
    // Noise, so that a skeleton that held it would not be small.
    let mut content = vec![0; 300_001];
    crate::sys::tree::random(&mut content).unwrap();
    let (tar, id) = layer(tmp.path(), &content);
    make_in(tmp.path(), &tar, &id);
    let size = fs::metadata(tmp.path().join("skel")).unwrap().len();
    assert!(size < 1000, "{size}");
    assert_eq!(rebuild(tmp.path(), &id).unwrap(), tar);
}

#[test]
fn a_tree_with_other_content_is_only_used_where_it_agrees() {
    let tmp = tempfile::tempdir().unwrap();
    let (tar, id) = layer(tmp.path(), &[7; 200_000]);
    let mut other = vec![7; 200_000];
    other[150_000] = 8;
    for content in [other.as_slice(), &[7; 100], b"", &[7; 300_000]] {
        fs::write(tmp.path().join("tree/d/f"), content).unwrap();
        make_in(tmp.path(), &tar, &id);
        assert_eq!(rebuild(tmp.path(), &id).unwrap(), tar);
    }
    fs::remove_file(tmp.path().join("tree/d/f")).unwrap();
    make_in(tmp.path(), &tar, &id);
    assert_eq!(rebuild(tmp.path(), &id).unwrap(), tar);
}

#[test]
fn a_changed_tree_is_an_error_at_the_end() {
    let tmp = tempfile::tempdir().unwrap();
    let (tar, id) = layer(tmp.path(), &[7; 200_000]);
    make_in(tmp.path(), &tar, &id);
    let file = tmp.path().join("tree/d/f");
    for content in [Some(vec![8; 200_000]), Some(vec![7; 199_999]), None] {
        match &content {
            Some(content) => fs::write(&file, content).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        let e = rebuild(tmp.path(), &id).unwrap_err().to_string();
        assert!(e.contains("was changed"), "{e}");
    }
}

#[test]
fn a_damaged_skeleton_is_an_error() {
    let tmp = tempfile::tempdir().unwrap();
    let (tar, id) = layer(tmp.path(), b"abc");
    make_in(tmp.path(), &tar, &id);
    let skeleton = fs::read(tmp.path().join("skel")).unwrap();
    assert!(rebuild(tmp.path(), &Digest::of(b"")).is_err());
    for at in 0..skeleton.len() {
        let mut bad = skeleton.clone();
        bad[at] ^= 0x41;
        fs::write(tmp.path().join("skel"), &bad).unwrap();
        // The length is not part of what is hashed; nothing else may differ
        // and pass. Some bits of a zstd frame have no meaning.
        if !(48..56).contains(&at)
            && let Ok(out) = rebuild(tmp.path(), &id)
        {
            assert_eq!(out, tar, "byte {at}");
        }
        fs::write(tmp.path().join("skel"), &skeleton[..at]).unwrap();
        assert!(rebuild(tmp.path(), &id).is_err(), "{at} bytes");
    }
}
