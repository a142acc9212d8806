//! Every other test of this program again without abilities of the kernel or of
//! the upper's file system, and with other options. (More combinations of the
//! latter, straight on the union: `tests/features.rs`.)

use crate::common::live::Target;
use crate::common::namespace::again;
use std::process::{Command, Output};

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
        .args(SKIPPED)
        .args(but.iter().flat_map(|name| ["--skip", name]))
        .env("CAPAS_MOUNT_OPTIONS", options)
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    passed(&out, 80);
}

const SKIPPED: [&str; 12] = [
    "--skip",
    "mask::",
    // These take long, and what they say has nothing to do with it.
    "--skip",
    "100000_entries",
    "--skip",
    "after_a_power_cut",
    "--skip",
    "by_reflink",
    // These say themselves what is in use.
    "--skip",
    "opening::",
    "--skip",
    "serving::",
];

/// More than so many tests were right, and none was wrong.
fn passed(out: &Output, least: usize) {
    let text = String::from_utf8_lossy(&out.stdout);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{text}{said}");
    let passed = text
        .split_once("test result: ok. ")
        .and_then(|(_, rest)| rest.split(' ').next()?.parse::<usize>().ok());
    assert!(passed.is_some_and(|n| n > least), "{text}");
}

/// What cannot be had in a user namespace, and the tests that need it.
const NOT_IN_A_NAMESPACE: &[(&str, &[&str])] = &[
    (
        "trusted attributes",
        &[
            "a_symlinks_xattr_never_lands_on_its_target",
            "directories_keep_all_they_have_when_a_child_is_copied_up",
            "xattrs_of_all_kinds_survive_copy_up",
            "layers_that_kernel_overlayfs_wrote_are_read",
            "private_xattrs_of_the_layers_are_not_shown",
            "an_overlay_in_an_overlay_keeps_its_own_marks",
            "a_damaged_layer_is_one_line",
        ],
    ),
    (
        "device nodes",
        &[
            "symlinks_devices_and_fifos_are_copied_up_as_they_are",
            "inode_numbers_stay_over_every_change",
            "every_kind_has_owner_and_mode_in_attributes",
            "an_unlinked_fifo_or_device_is_still_used",
        ],
    ),
    (
        "immutable and append-only files",
        &["protected_lower_files_are_not_changed", APPENDS],
    ),
    (
        "loop devices, and remounts of a file system",
        &[
            "an_upper_that_dies",
            "an_upper_that_turns_read_only",
            "a_used_up_quota",
            "a_quota_that_is_used_up",
            "a_lower_that_can_only_be_read",
            "a_lower_that_is_packed",
            "lowers_on_copies_of_one_file_system",
        ],
    ),
    ("swapon", &["each_row_answers_as_the_readme_says"]),
    (
        "drop_caches",
        &[
            "handles_open_again_after_caches_are_dropped",
            "memory_is_bounded_by_what_the_kernel_knows",
        ],
    ),
    (
        "the hard link index of kernel overlayfs",
        &["with_userxattr_kernel_overlayfs_reads_ours_and_we_read_its"],
    ),
    (
        "owners that the namespace does not map",
        &["owners_are_mapped_both_ways"],
    ),
    ("passthrough: reads go past the upper's file", &[CACHED]),
];

#[test]
fn everything_in_a_user_namespace() {
    if !crate::common::able_to_mount() || Target::from_env() != Target::Capasfs {
        return;
    }
    let but = NOT_IN_A_NAMESPACE.iter().flat_map(|(_, names)| *names);
    let mut args = SKIPPED.to_vec();
    args.extend(but.flat_map(|name| ["--skip", name]));
    let out = again(&args, &[]);
    passed(&out, 60);
}

#[test]
fn everything_without_passthrough() {
    again_with("disable=passthrough,open=message", &[CACHED, APPENDS]);
}

/// What is written before a kill is there when the copy is (tests/lazy.rs).
#[test]
fn everything_with_files_copied_up_while_they_are_in_use() {
    let whole = "a_killed_daemon_loses_nothing_that_was_acknowledged";
    again_with("lazy_copy_up=1:4k", &[whole]);
}

#[test]
fn everything_with_files_opened_without_a_message() {
    again_with("open=zero", &[CACHED, APPENDS]);
}

/// As on a kernel and an upper of old times. The kernel then clears set-id bits
/// itself, and lets a setgid bit be that has no right to execute for the group
/// beside it (or none left by an ACL).
#[test]
fn everything_without_what_kernels_and_uppers_came_to_have() {
    let setgid = [
        "set_id_bits_stay_when_root_writes_and_setgid_without_x_stays",
        "every_user_mode_and_operation_as_on_a_plain_directory",
    ];
    let kernel = "killpriv+no_opendir+openat2";
    let upper = "tmpfile+whiteout_rename+exchange+reflink";
    again_with(&format!("disable={kernel}+{upper}"), &setgid);
}

/// What needs file handles: which lower file one was copied up from (the index
/// of hard links). And by one thread, which may wait for nobody.
#[test]
fn everything_without_file_handles() {
    let linked = [
        "a_descriptor_of_another_name_sees_the_write",
        "a_new_link_joins_the_lower_group",
        "a_write_through_one_name_shows_under_all_live_and_after_remount",
        "names_of_a_large_file_are_counted_while_its_lower_is_read",
        "rename_of_one_name_onto_another_of_the_same_file_does_nothing",
        "unlinking_names_counts_down_over_remounts",
        "layers_that_kernel_overlayfs_wrote_are_read",
        "with_userxattr_kernel_overlayfs_reads_ours_and_we_read_its",
        // Their files that have another name.
        "a_new_a_small_and_a_large_lower_file_are_used_without_their_names",
        "attributes_through_a_path_descriptor_of_an_unlinked_file",
    ];
    again_with("disable=handles+open_handles,threads=1", &linked);
}

/// Marks are `user.overlay.*` then, which symlinks and devices cannot have.
#[test]
fn everything_without_whiteout_devices_and_trusted_attributes() {
    let trusted = [
        "inode_numbers_stay_over_every_change",
        "layers_that_kernel_overlayfs_wrote_are_read",
        "private_xattrs_of_the_layers_are_not_shown",
        // These count warnings, and find the one that says so.
        "a_failure_that_is_not_the_callers_is_one_warning_with_its_path",
        "an_upper_without_attributes_is_served_after_one_warning",
    ];
    again_with("disable=mknod+trusted", &trusted);
}
