//! The image store: blobs, layers unpacked once, names.
