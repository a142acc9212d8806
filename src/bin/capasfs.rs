//! `capasfs`: the driver (daemon, mount helper and `mount_program` in one).

fn main() {}
