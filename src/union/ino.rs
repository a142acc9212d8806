//! `st_ino`: the layers' own numbers on one file system, composite numbers
//! (kernel overlayfs's xino) on several, so that they stay the same over
//! copy-up and remount and never collide.

use super::options::Xino;
use parking_lot::RwLock;

/// Numbers up to here can carry the index of their file system above them;
/// the highest bit is left to node numbers that are no `st_ino`.
const SHIFT: u32 = 55;
const MOST: usize = 1 << (63 - SHIFT);

/// Which file systems there are.
#[derive(Debug)]
pub(super) struct Inos {
    composite: bool,
    /// Devices in the order in which they were first seen. Leaf lock.
    devices: RwLock<Vec<u64>>,
}

impl Inos {
    /// `devices`: those of the layers, the upper first.
    pub(super) fn new(xino: Xino, devices: &[u64]) -> Inos {
        let mut seen = Vec::new();
        for dev in devices {
            if !seen.contains(dev) {
                seen.push(*dev);
            }
        }
        Inos {
            composite: match xino {
                Xino::Auto => seen.len() > 1,
                Xino::On => true,
                Xino::Off => false,
            },
            devices: RwLock::new(seen),
        }
    }

    /// The union's number for an inode of a layer.
    pub(super) fn map(&self, dev: u64, ino: u64) -> u64 {
        if !self.composite {
            return ino;
        }
        let index = self.index(dev);
        if ino >> SHIFT == 0 && index < MOST {
            ino | (index as u64) << SHIFT
        } else {
            // No room for the index: mixed, which is the same at each mount
            // with the same layers, and collides only by chance.
            let mixed = (ino ^ (index as u64).rotate_right(9)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            mixed >> 1
        }
    }

    fn index(&self, dev: u64) -> usize {
        let find = |list: &[u64]| list.iter().position(|d| *d == dev);
        if let Some(index) = find(&self.devices.read()) {
            return index;
        }
        let mut devices = self.devices.write();
        find(&devices).unwrap_or_else(|| {
            devices.push(dev);
            devices.len() - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_system_is_itself() {
        let inos = Inos::new(Xino::Auto, &[5, 5]);
        assert_eq!(inos.map(5, 77), 77);
    }

    #[test]
    fn several_do_not_collide() {
        let inos = Inos::new(Xino::Auto, &[5, 9]);
        assert_eq!(inos.map(5, 77), 77);
        assert_ne!(inos.map(9, 77), 77);
        assert_ne!(inos.map(9, 77), inos.map(11, 77));
        assert_eq!(inos.map(9, 77), inos.map(9, 77));
        assert!(inos.map(9, u64::MAX) < 1 << 63);
    }
}
