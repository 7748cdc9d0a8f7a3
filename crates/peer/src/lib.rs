//! What services in different processes say to each other.
//!
//! [`RemotePort`] is a [`Port`](anabranch_runtime::Port) like any other, whose other side is a server
//! before another fleet: commands, answers, and questions go there over HTTP and come to what a
//! local port would give.
//!
//! * **Where** something is served a [`Directory`] says. Its answer is kept, so that a directory that
//!   is away holds nobody up; when nobody is at the address any more, it is asked again.
//! * **What is repeated** is what certainly did not happen. A request whose answer is lost comes back as
//!   [`Unknown`](anabranch_runtime::SendError::Unknown): sent again with its id, it gives the first outcome.
//! * **How it looks** on the wire are the types of `anabranch-wire` that begin with `Peer`; [`convert`] and
//!   [`problem`] lead to them and back, for both sides.

pub mod convert;
mod directory;
pub mod line;
mod port;
pub mod problem;

pub use directory::{Directory, FixedDirectory};
pub use port::{Declared, PeerOptions, RemotePort};

/// The beginning of the paths that one service asks another by.
pub const PATH: &str = "/peer/";

/// Where commands go.
pub const COMMANDS: &str = "/peer/commands";
/// Where answers to processes and sagas go.
pub const ANSWERS: &str = "/peer/answers";
/// Where entities are told to forget.
pub const FORGET: &str = "/peer/forget";
/// Where questions to views go.
pub const QUERIES: &str = "/peer/queries";

/// Where all of these go together, one behind another; see [`mod@line`].
pub const MANY: &str = "/peer/many";

/// The code of the refusal of a server that does not have what is asked for: the address is old.
pub const NOT_HERE: &str = "not-here";
