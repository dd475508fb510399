//! The tracker, fed with observations.
