//! A simulated machine, driven by a seed.
