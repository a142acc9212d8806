//! The `capas` command line: one file per command group.
