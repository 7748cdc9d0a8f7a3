//! Who calls a server, and what they may do.
//!
//! * A [`Key`] is what a caller has: `ab_<id>_<secret>`. Whoever holds it is its [`Principal`]. A server
//!   keeps only its [`KeyHash`], so what is stored lets nobody in.
//! * [`Scopes`] say what a principal may do: verb by verb, category by category. What no scope allows is
//!   refused, and a scope that denies beats all that allow.
//! * A [`KeyTable`] is what a server knows of keys. It follows from facts on the log, [`KeyFact`]: so a key
//!   that is revoked is refused everywhere as soon as that is read.
//! * [`may_listen`] says where a server may listen at all.
//! * An [`AuditChain`] is what was written down of who did what: each record holds the hash of the one
//!   before, so that a change of any is found.
//! * A client finds its key by [`Key::from_env`], in a file or in the environment: never in an argument,
//!   which everybody on the machine can see.
//!
//! Everything but [`Key::from_env`] and [`Key::read`] is pure.
//!
//! ```
//! use anabranch_access::{Scopes, Verb};
//!
//! let scopes = Scopes::parse(["read:*", "append:order", "deny:read:payment"])?;
//! assert!(scopes.allow(Verb::Read, "order"));
//! assert!(!scopes.allow(Verb::Read, "payment"));
//! assert!(!scopes.allow(Verb::Append, "payment"));
//! # Ok::<_, anabranch_access::ScopeError>(())
//! ```

mod audit;
mod caller;
mod fact;
mod key;
mod listen;
mod scope;
mod table;

pub use audit::{AUDIT_STREAM, AUDIT_TYPE, Act, AuditBreak, AuditChain, AuditRecord};
pub use caller::{Caller, Forbidden, Principal};
pub use fact::{FactError, KeyAdded, KeyFact};
pub use key::{KEY_FILE_VARIABLE, KEY_VARIABLE, Key, KeyError, KeyHash};
pub use listen::{Doors, Exposed, Listening, Reach, Transport, may_listen};
pub use scope::{Scope, ScopeError, Scopes, Verb};
pub use table::{KeyTable, Known, Unauthenticated, bearer};

/// The category of the facts about keys: one stream for each key.
pub const CATEGORY: &str = "$access";

/// The category of the audit.
pub const AUDIT: &str = "$audit";

/// Where the first key of a log is kept, in the log's directory.
pub const FIRST_KEY_FILE: &str = "admin.key";
