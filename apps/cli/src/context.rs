//! What every command works with.

use anabranch::env::Env;

use crate::settings::Settings;

/// What every command works with.
pub struct Context {
    /// What the user configured.
    pub settings: Settings,
    /// The machine.
    pub env: Env,
}
