//! `capasfs`: arguments and options to a mounted, serving filesystem.

pub mod args;
pub mod attach;
pub mod check;
mod claim;
pub mod failure;
pub mod log;
pub mod options;
pub mod serve;
mod split;
pub mod table;
mod values;
