//! `capasfs`: arguments and options to a mounted, serving filesystem.

pub mod args;
pub mod check;
pub mod failure;
pub mod options;
mod seal;
mod split;
pub mod table;
mod values;
