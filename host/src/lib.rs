//! Every host call the sentry makes, in one place.

pub mod clock;
pub mod signals;
pub mod terminal;
