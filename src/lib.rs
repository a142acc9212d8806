#![doc = include_str!("ARCHITECTURE.md")]

pub mod build;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod container;
pub mod fuse;
pub mod layer;
pub mod layers;
pub mod mount;
pub mod registry;
pub mod store;
pub mod sys;
pub mod union;
