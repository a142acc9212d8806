//! `capasfs`: arguments and options to a mounted, serving filesystem.

pub mod args;
pub mod failure;
pub mod options;
mod split;
pub mod table;
mod values;
