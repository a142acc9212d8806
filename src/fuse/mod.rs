//! The FUSE adapter, the only code that names fuser: decode, call the union,
//! reply; nothing else.

mod adapter;
mod answer;
mod backing;
mod convert;
mod crew;
mod habits;
mod handshake;
mod ioctl;
mod linger;
mod listing;
mod open;
mod reply;
mod session;

pub use session::{Allow, Running, Settings, serve};
