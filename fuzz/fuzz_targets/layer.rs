//! The members of a layer: they do not depend on how its bytes come.
#![no_main]

use capas::store::Result;
use capas_fuzz::{reader, seal};
use libfuzzer_sys::fuzz_target;

/// What is in the archive, up to its first mistake.
fn members(tar: &[u8], blocks: usize) -> (Vec<String>, Result<()>) {
    let mut reader = reader(tar, blocks);
    let mut found = Vec::new();
    let mut run = || {
        while let Some(member) = reader.member()? {
            let mut bytes = 0;
            reader.exactly(member.size, |data| {
                bytes += data.len();
                Ok(())
            })?;
            assert_eq!(bytes as u64, member.size);
            found.push(format!("{member:?}"));
        }
        Ok(())
    };
    let result = run();
    (found, result)
}

fuzz_target!(|data: &[u8]| {
    let tar = seal(data);
    let (all, whole) = members(&tar, 1 << 11);
    let (same, pieces) = members(&tar, 1);
    assert_eq!(all, same);
    assert_eq!(whole.is_ok(), pieces.is_ok());
    if let Err(e) = whole {
        assert!(!e.to_string().contains('\n'));
    }
});
