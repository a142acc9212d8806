//! Overlay semantics: plain values in and out, no FUSE, no system calls.

pub mod options;
