//! The FUSE adapter: decode, call the union, reply; nothing else.
