//! What reaches the disk before a name appears, by the calls that are made for
//! it; and what listings count when a call fails. A program of its own: the
//! recorder is the process's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::indexing_slicing, clippy::print_stderr, missing_docs)]

mod common;
mod direct;

use capas::sys::Errno;
use capas::sys::fail::{self, Action};
use capas::union::Taken;
use capas::union::options::Fsync;
use direct::{Rig, variant::Variant};
use std::sync::{Mutex, PoisonError};

/// Who arms the recorder has it alone.
static ARMED: Mutex<()> = Mutex::new(());

const LOWER: &str = r#"
/f file 0644 data="0123456789"
/d/e/f file data="deep"
/h1 file data="hard"
/h2 link /h1
/meta file data="metacopy"
/run file 0755 data="program"
"#;

/// An operation, and which of the calls that matter it makes, in this order.
/// Renames of what the work directory holds are `rename`.
struct Case {
    op: &'static str,
    auto: Calls,
    strict: Calls,
    volatile: Calls,
}

type Calls = &'static [&'static str];

/// Calls by which something appears, is believed, or reaches the disk.
const MATTER: Calls = &[
    "fdatasync",
    "fsync",
    "link",
    "rename",
    "removexattr",
    "syncfs",
];

const CASES: &[Case] = &[
    // A copy-up: its data is there before its name.
    Case {
        op: "touch /f",
        auto: &["fdatasync", "link"],
        // And its attributes; and the name, before the caller hears of it.
        strict: &["fdatasync", "fsync", "link", "fsync"],
        volatile: &["link"],
    },
    // With the directories above it.
    Case {
        op: "write /d/e/f 0 \"x\"",
        auto: &["rename", "rename", "fdatasync", "link"],
        strict: &[
            "fsync",
            "rename",
            "fsync",
            "fsync",
            "rename",
            "fsync",
            "fdatasync",
            "fsync",
            "link",
            "fsync",
        ],
        volatile: &["rename", "rename", "link"],
    },
    // With a hard link index: there first, then linked and renamed into place.
    Case {
        op: "touch /h1",
        auto: &["fdatasync", "link", "link", "rename"],
        strict: &[
            "fdatasync",
            "fsync",
            "link",
            "link",
            "rename",
            "fsync",
            "fsync",
        ],
        volatile: &["link", "link", "rename"],
    },
    // A metacopy has no data to wait for.
    Case {
        op: "chmod /meta 0600",
        auto: &["link"],
        strict: &["fsync", "link", "fsync"],
        volatile: &["link"],
    },
    // Its data is there before the mark that it is not is taken away.
    Case {
        op: "touch /meta",
        auto: &["fdatasync", "removexattr", "removexattr"],
        strict: &["fdatasync", "removexattr", "removexattr", "fsync"],
        volatile: &["removexattr", "removexattr"],
    },
    // No data is to be waited for.
    Case {
        op: "trunc /run",
        auto: &["link"],
        strict: &["fsync", "link", "fsync"],
        volatile: &["link"],
    },
    // The caller's own.
    Case {
        op: "fsync /f",
        auto: &["fsync"],
        strict: &["fsync"],
        volatile: &[],
    },
    Case {
        op: "fdatasync /f",
        auto: &["fdatasync"],
        strict: &["fdatasync"],
        volatile: &[],
    },
    Case {
        op: "fsync /d",
        auto: &["fsync"],
        strict: &["fsync"],
        volatile: &[],
    },
];

#[test]
fn what_is_synced_before_a_name_appears() {
    if !direct::able() {
        return;
    }
    let _alone = ARMED.lock().unwrap_or_else(PoisonError::into_inner);
    for fsync in [Fsync::Auto, Fsync::Strict, Fsync::Volatile] {
        let dir = tempfile::tempdir().unwrap();
        Rig::build(dir.path(), &[LOWER.to_owned()], Some(""));
        let mut variant = Variant::default_one();
        variant.options.fsync = fsync;
        let rig = Rig::new(dir.path(), variant.options, variant.features);
        rig.open().unwrap();
        for case in CASES {
            fail::arm(0, Action::Count);
            rig.op(case.op).unwrap();
            fail::disarm();
            let mut calls = fail::calls();
            calls.retain(|call| MATTER.contains(call));
            let want = match fsync {
                Fsync::Auto => case.auto,
                Fsync::Strict => case.strict,
                Fsync::Volatile => case.volatile,
            };
            assert_eq!(calls, want, "{} with {fsync:?}", case.op);
        }
        rig.close();
        assert_eq!(rig.lowers_changed(), None);
    }
}

/// Each node of a listing with attributes is counted once, and only if the listing
/// told of it: also where a layer fails in its midst.
#[test]
fn a_listing_with_attributes_counts_what_it_tells() {
    if !direct::able() {
        return;
    }
    let files: String = (0..30)
        .map(|i| format!("/d/f{i} file\n/e/f{i} file\n"))
        .collect();
    let _alone = ARMED.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    Rig::build(dir.path(), &[files], Some("/d/up file"));
    let variant = Variant::default_one();
    let rig = Rig::new(dir.path(), variant.options, variant.features);
    let mut failed = 0;
    for nth in 1.. {
        rig.open().unwrap();
        let mut told = Vec::new();
        let d = rig.id("/d").unwrap();
        fail::arm_reads(nth, Action::Error(Errno::IO));
        let listed = rig.with(|u| {
            u.readdir_plus(d, 0, |_, attr| match attr {
                // As where there is no more room.
                _ if told.len() == 20 => Taken::No,
                Some(attr) => {
                    told.push(attr.id);
                    Taken::Node
                }
                None => Taken::Name,
            })
        });
        let calls = fail::disarm();
        failed += usize::from(listed.is_err() || told.len() < 20);
        for id in told {
            rig.with(|u| u.forget(id, 1));
        }
        rig.forget();
        let left = rig.with(capas::union::Union::nodes);
        assert_eq!(left, 1, "call {nth}: nodes but the root");
        rig.close();
        if calls < nth {
            break;
        }
    }
    assert!(failed > 2, "{failed} listings failed");
}

#[test]
fn the_same_in_a_user_namespace() {
    if !common::able_to_mount() {
        return;
    }
    let said = common::namespace::succeeds(&["--skip", "in_a_user_namespace"], &[]);
    assert!(said.contains("2 passed"), "{said}");
}
