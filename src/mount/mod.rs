//! `capasfs`: arguments and options to a mounted, serving filesystem.
