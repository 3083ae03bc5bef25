//! Every host call the sentry makes, in one place.
