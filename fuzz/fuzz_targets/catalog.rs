//! Merged catalogs: whatever is accepted can be followed to its end.
#![no_main]

use capas::catalog::{Catalog, What, check::checksum};
use libfuzzer_sys::fuzz_target;

/// Bytes of the header, and where the heap's length is in it.
const HEADER: usize = 64;
const HEAP: usize = 56;
/// Where the numbers of records are, and the bytes of one.
const SECTIONS: [(usize, u64); 8] = [
    (24, 40),
    (28, 16),
    (32, 16),
    (36, 4),
    (40, 12),
    (44, 104),
    (48, 8),
    (52, 16),
];

/// Chance finds neither a checksum nor a length: what the other sections leave
/// is the heap.
fn seal(data: &[u8]) -> Option<Vec<u8>> {
    let mut file = data.to_vec();
    let mut used = HEADER as u64;
    for (at, size) in SECTIONS {
        let count = file.get(at..at + 4)?.try_into().ok()?;
        used += u64::from(u32::from_le_bytes(count)) * size;
    }
    let heap = u32::try_from((file.len() as u64).checked_sub(used)?).ok()?;
    file.get_mut(HEAP..HEAP + 4)?
        .copy_from_slice(&heap.to_le_bytes());
    let sum = checksum(&file);
    file.extend_from_slice(&sum);
    Some(file)
}

fuzz_target!(|data: &[u8]| {
    let Some(file) = seal(data) else {
        return;
    };
    let Ok(catalog) = Catalog::parse(file) else {
        return;
    };
    let layers = catalog.layers().len();
    let (mut dirs, mut entries) = (vec![0], 0);
    while let Some(dir) = dirs.pop() {
        let stack = catalog.stack(dir).map(|place| catalog.place(place).layer);
        assert!(stack.is_sorted() && catalog.stack(dir).len() <= layers);
        for place in catalog.stack(dir) {
            let mut at = Some(place);
            while let Some(place) = at {
                at = catalog.place(place).parent;
                assert!(at.is_none_or(|above| above < place));
            }
        }
        let mut before: &[u8] = b"";
        for position in 0..catalog.len(dir) {
            let entry = catalog.entry(dir, position).expect("an entry");
            assert!(entry.name > before && entry.name.len() < 4096);
            before = entry.name;
            assert_eq!(catalog.find(dir, entry.name), Some(entry.inode));
            let inode = catalog.inode(entry.inode);
            assert!(usize::from(inode.layer) < layers);
            assert!(catalog.target(&inode).is_none_or(|t| !t.is_empty()));
            assert!(catalog.xattrs(&inode).all(|(name, _)| !name.is_empty()));
            if let What::Dir(n) = inode.what {
                assert!(n > dir);
                dirs.push(n);
            }
            entries += 1;
        }
    }
    assert_eq!(entries, catalog.entries());
});
