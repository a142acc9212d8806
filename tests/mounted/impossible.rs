//! The README's table of what FUSE has no way to do, row by row.

use super::{Target, mounted, names, sh};
use crate::common::sys::{ioctl, swap_on};
use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use std::fs;
use std::os::fd::AsRawFd;

const FICLONERANGE: u32 = 0x4020_940d;
const FIDEDUPERANGE: u32 = 0xc018_9436;
const FIEMAP: u32 = 0xc020_660b;

/// One of each kind in a lower and in the upper layer.
#[test]
fn each_row_answers_as_the_readme_says() {
    let not = "has its own answers";
    let spec = "/low file 0644 size=300000 data=@1\n/small file 0644 data=\"small\"";
    let not_on = [
        (Target::Overlay, not),
        (Target::OverlayBare, not),
        (Target::FuseOverlayfs, not),
        (Target::Plain, not),
    ];
    let Some((fx, m)) = mounted(&[spec], &not_on) else {
        return;
    };
    let flags = OFlags::TMPFILE | OFlags::RDWR;
    let made = rustix::fs::open(m.path(), flags, Mode::RUSR);
    assert_eq!(made.err(), Some(Errno::OPNOTSUPP), "O_TMPFILE");
    fs::write(m.at("up"), vec![1; 300_000]).unwrap();
    for name in ["low", "small", "up"] {
        let want = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let got = rustix::fs::statx(CWD, m.at(name), AtFlags::empty(), want).unwrap();
        assert_eq!(
            got.stx_mask & StatxFlags::BTIME.bits(),
            0,
            "{name}: birth time"
        );
        let from = fs::File::open(m.at(name)).unwrap();
        let mut map = [0; 32];
        map[8..16].fill(0xff);
        assert_eq!(
            ioctl(&from, FIEMAP, &mut map),
            Err(Errno::OPNOTSUPP),
            "{name}: FIEMAP"
        );
        for to in ["new", "up"] {
            let to = fs::File::options()
                .write(true)
                .create(true)
                .truncate(false)
                .open(m.at(to))
                .unwrap();
            let cloned = rustix::fs::ioctl_ficlone(&to, &from).err();
            assert_eq!(cloned, Some(Errno::OPNOTSUPP), "{name}: FICLONE");
            let mut range = [0; 32];
            range[..8].copy_from_slice(&i64::from(from.as_raw_fd()).to_ne_bytes());
            range[16..24].copy_from_slice(&4096u64.to_ne_bytes());
            let cloned = ioctl(&to, FICLONERANGE, &mut range);
            assert_eq!(cloned, Err(Errno::OPNOTSUPP), "{name}: FICLONERANGE");
            // Length, one destination; what came of it is in its status.
            let mut same = [0; 24 + 32];
            same[8..16].copy_from_slice(&4096u64.to_ne_bytes());
            same[16..18].copy_from_slice(&1u16.to_ne_bytes());
            same[24..32].copy_from_slice(&i64::from(to.as_raw_fd()).to_ne_bytes());
            let status = ioctl(&from, FIDEDUPERANGE, &mut same)
                .map(|()| i32::from_ne_bytes(same[48..52].try_into().unwrap()));
            let refused =
                matches!(status, Err(Errno::OPNOTSUPP)) || status == Ok(-libc::EOPNOTSUPP);
            assert!(refused, "{name}: FIDEDUPERANGE: {status:?}");
        }
        // What to do instead of a clone.
        let copy = fs::File::create(m.at("copy")).unwrap();
        let copied = rustix::fs::copy_file_range(&from, None, &copy, None, 5).unwrap();
        assert_eq!(copied, 5);
    }
    let up = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(m.at("up"))
        .unwrap();
    for mode in [FallocateFlags::COLLAPSE_RANGE, FallocateFlags::INSERT_RANGE] {
        let done = rustix::fs::fallocate(&up, mode, 0, 4096);
        assert_eq!(done, Err(Errno::OPNOTSUPP), "{mode:?}");
    }
    assert_eq!(up.metadata().unwrap().len(), 300_000);
    assert_eq!(
        rustix::fs::syncfs(fs::File::open(m.path()).unwrap()),
        Ok(())
    );
    let swap = "dd if=/dev/zero of=\"$1/swap\" bs=64k count=16 2>/dev/null; chmod 600 \"$1/swap\"
        mkswap \"$1/swap\" >/dev/null";
    sh(&m, swap).unwrap();
    assert_eq!(swap_on(&m.at("swap")), Err(Errno::INVAL), "swapon");
    for dir in ["u", "w"] {
        fs::create_dir(m.at(dir)).unwrap();
    }
    let said = sh(
        &m,
        "mkdir \"$1/../over\"; cd \"$1/..\"; exec unshare -m \
         mount -t overlay o -o lowerdir=l0,upperdir=merged/u,workdir=merged/w over",
    );
    assert!(said.is_err(), "being an upper of overlayfs: {said:?}");
    assert!(names(&m.at("u")).is_empty());
    assert!(fx.lower_changes().is_none());
}
