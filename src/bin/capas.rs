//! `capas`: the image store and containers.

fn main() {}
