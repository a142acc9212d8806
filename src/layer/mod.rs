//! One directory tree through its root descriptor, and the on-disk marks.
