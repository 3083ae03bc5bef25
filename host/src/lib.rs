//! Every host call the sentry makes, in one place.

pub mod signals;
pub mod terminal;
