//! The layers of a seed and a plain directory with the same content.

use super::exec::Executor;
use super::generate::{Generator, Scope};
use super::layers::{Layers, Marks};
use super::rng::Rng;
use super::run::Config;
use crate::common::fixture::Fixture;
use crate::common::flatten::{copy_tree, flatten};
use crate::common::live::Target;
use crate::common::sys::in_user_namespace;
use crate::common::tree;
use rustix::io::Errno;
use std::path::PathBuf;

/// Layers and a reference directory with the same content.
pub struct Setup {
    /// The layers.
    pub fixture: Fixture,
    /// The plain directory.
    pub reference: PathBuf,
    /// Times from this second on are `now`.
    pub start: i64,
}

/// The present second, less what the coarse clock of timestamps lags behind.
pub fn now() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs() as i64 - 2)
}

/// Makes the layers of a seed: two to four of them, every third seed with
/// `.wh.` marks (where the target reads them), every third with a layer that
/// kernel overlayfs wrote.
pub fn setup(config: &Config, bases: &[&str]) -> Setup {
    let Config { seed, target, .. } = *config;
    let start = now();
    let mut rng = Rng::new(seed ^ 0x5e7);
    let mut fixture = Fixture::new();
    let reads_files = matches!(
        target,
        Target::Capasfs | Target::FuseOverlayfs | Target::Plain
    );
    let variant = seed % 3;
    let marks = if variant == 1 && reads_files {
        Marks::Files
    } else {
        Marks::Kernel
    };
    let by_kernel = variant == 2 && target != Target::FuseOverlayfs && bases == [""];
    let mut layers = Layers::new(seed, marks, !by_kernel && !config.userxattr);
    let count = 2 + rng.below(3);
    for n in 0..count {
        let dir = fixture.add_lower();
        let size = if n == 0 { 60 } else { 25 };
        let spec: Vec<String> = bases
            .iter()
            .map(|b| layers.layer(size / bases.len() + 3, b))
            .collect();
        tree::build(&dir, &spec.join("\n"));
    }
    let reference = fixture.path().join("reference");
    std::fs::create_dir(&reference).unwrap();
    if by_kernel {
        let top = kernel_layer(seed, &fixture);
        fixture.add_lower_at(top);
        fixture.seal();
        let m = fixture.mount_read_only(Target::Overlay);
        copy_tree(m.path(), &reference, true);
    } else {
        flatten(fixture.lowers(), &reference);
    }
    fixture.seal();
    Setup {
        fixture,
        reference,
        start,
    }
}

/// A layer with redirects and metacopies: the upper of a mount by kernel overlayfs.
fn kernel_layer(seed: u64, fixture: &Fixture) -> PathBuf {
    let (upper, work) = (fixture.path().join("kupper"), fixture.path().join("kwork"));
    std::fs::create_dir(&upper).unwrap();
    std::fs::create_dir(&work).unwrap();
    let marks = match in_user_namespace() {
        false => "redirect_dir=on,metacopy=on",
        // Which goes with neither.
        true => "userxattr",
    };
    let opts = format!(
        "{},upperdir={},workdir={},{marks},index=off",
        fixture.lowerdir(),
        upper.display(),
        work.display()
    );
    let aside = fixture.path().join("kmerged");
    std::fs::create_dir(&aside).unwrap();
    let status = std::process::Command::new("mount")
        .args(["-t", "overlay", "overlay", "-o", &opts])
        .arg(&aside)
        .status()
        .unwrap();
    assert!(status.success(), "kernel overlayfs does not mount");
    let scope = Scope {
        no_links: true,
        no_user_marks: true,
        ..Scope::default()
    };
    let mut generator = Generator::new(seed ^ 0x4e7, scope);
    generator.learn(&aside);
    let mut exec = Executor::new(&aside, 0);
    for _ in 0..150 {
        let op = generator.next();
        let outcome = exec.apply(&op);
        generator.note(&op, &outcome);
    }
    exec.close_all();
    // A child that another thread just forked holds copies of the descriptors until its exec.
    while rustix::mount::unmount(&aside, rustix::mount::UnmountFlags::empty()) == Err(Errno::BUSY) {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    upper
}
