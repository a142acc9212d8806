//! Every other test of this program again without abilities of the kernel, and
//! with other options. (Abilities of the upper's file system: `tests/features.rs`.)

use crate::common::fixture::Target;
use std::process::Command;

/// What the kernel reads from its own cache is no read of the upper's file.
const CACHED: &str = "strictatime_notes_each_read";

/// The daemon's own descriptor of a file does not append.
const APPENDS: &str = "a_file_that_may_not_be_written_is_refused";

/// `but` names tests that need the ability, each with the reason at the call.
fn again_with(options: &str, but: &[&str]) {
    if !crate::common::able_to_mount() || Target::from_env() != Target::Capasfs {
        return;
    }
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["--skip", "mask::"])
        // These take long, and what they say has nothing to do with it.
        .args(["--skip", "100000_entries"])
        .args(["--skip", "after_a_power_cut", "--skip", "by_reflink"])
        // These say themselves what is in use.
        .args(["--skip", "opening::", "--skip", "serving::"])
        .args(but.iter().flat_map(|name| ["--skip", name]))
        .env("CAPAS_MOUNT_OPTIONS", options)
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}");
    let passed = text
        .split_once("test result: ok. ")
        .and_then(|(_, rest)| rest.split(' ').next()?.parse::<usize>().ok());
    assert!(passed.is_some_and(|n| n > 80), "{text}");
}

#[test]
fn everything_without_passthrough() {
    again_with("disable=passthrough,open=message", &[CACHED, APPENDS]);
}

#[test]
fn everything_with_files_copied_up_while_they_are_in_use() {
    again_with("lazy_copy_up=1:4k", &[]);
}

#[test]
fn everything_with_files_opened_without_a_message() {
    again_with("open=zero", &[CACHED, APPENDS]);
}

/// The kernel then clears set-id bits itself, and lets a setgid bit be that has
/// no right to execute for the group beside it (or none left by an ACL).
#[test]
fn everything_without_killpriv_no_opendir_and_openat2() {
    let setgid = [
        "set_id_bits_stay_when_root_writes_and_setgid_without_x_stays",
        "every_user_mode_and_operation_as_on_a_plain_directory",
    ];
    again_with("disable=killpriv+no_opendir+openat2", &setgid);
}
