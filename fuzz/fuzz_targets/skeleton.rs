//! Skeletons of layers: a damaged one gives an error and never other bytes.
#![no_main]

use capas::store::{Digest, skeleton};
use capas_fuzz::scratch;
use libfuzzer_sys::fuzz_target;
use std::fs::{self, File};
use std::io::Read;
use std::sync::OnceLock;

/// The head of a skeleton, as it is before the compressed pieces.
fn head(digest: &Digest) -> &'static [u8] {
    static HEAD: OnceLock<Vec<u8>> = OnceLock::new();
    HEAD.get_or_init(|| {
        let path = scratch().join("made");
        let tree = scratch().join("tree");
        fs::create_dir(&tree).expect("a directory");
        fs::write(tree.join("f"), "content").expect("a file");
        let out = File::create(&path).expect("a file");
        let tree = File::open(tree).expect("the directory");
        skeleton::make([0; 1024].as_slice(), &tree, digest, &out).expect("a skeleton");
        let made = fs::read(path).expect("the skeleton");
        let zstd = made.windows(4).position(|w| w == [0x28, 0xb5, 0x2f, 0xfd]);
        made[..zstd.expect("pieces")].to_vec()
    })
}

fuzz_target!(|data: &[u8]| {
    let digest = Digest::of(&[0; 1024]);
    let mut file = head(&digest).to_vec();
    file.extend(zstd::encode_all(data, 1).expect("pieces"));
    let path = scratch().join("skeleton");
    fs::write(&path, file).expect("a file");
    let Ok(rebuilt) = skeleton::open(&path, &scratch().join("tree"), &digest) else {
        return;
    };
    let mut out = Vec::new();
    if rebuilt.take(1 << 20).read_to_end(&mut out).is_ok() && out.len() < 1 << 20 {
        assert_eq!(Digest::of(&out), digest);
    }
});
