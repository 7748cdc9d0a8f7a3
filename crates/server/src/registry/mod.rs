//! Which services there are, where each is, and which categories each owns.
//!
//! 1. A service **registers**. What it says is appended to the log, together with the fact that it
//!    owns its categories, under the condition that nobody else did so meanwhile. So a restarted
//!    server knows the owners, and of two claimants one wins.
//! 2. The answer is a **lease**: a number, which grows with each registration, and a secret, of
//!    which the log keeps a hash. Renewing it changes this memory alone; after a restart every
//!    lease lasts for its whole time again.
//! 3. An **append** to a category that has an owner is let through with its lease only, and goes to
//!    the log with a condition on the stream that says so. An owner that was paused while another
//!    took over is refused, by the log itself if need be: no clock decides.
//! 4. When a lease has ended, another service may **claim** what it covered. Until one does, the
//!    categories stay owned, and the service itself may come back.

mod check;
mod denied;
mod fact;
mod guarded;
mod lease;
mod names;
mod registrar;
mod table;
#[cfg(test)]
mod tests;

pub use check::{about_of, lease_time};
pub use denied::Denied;
pub use fact::About;
pub use guarded::guarded;
pub use lease::{Lease, token};
pub use registrar::{Known, Registry, Subject};
pub use table::{Shown, State, check_reads, private};
