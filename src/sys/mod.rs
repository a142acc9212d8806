//! The only place for `unsafe` and for system calls: descriptors in and out.
#![allow(unsafe_code)]
