//! The leases that a program appends and reads by.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anabranch_rpc::protocol as p;
use connectrpc::client::CallOptions;
use http::HeaderValue;

/// The header that shows a lease.
const LEASE_HEADER: &str = "anabranch-lease";

/// Shared by who registers and who appends.
#[derive(Clone, Default)]
pub struct Leases(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    /// By the number that each got here.
    tokens: BTreeMap<u64, String>,
    next: u64,
    /// How often they have changed.
    changes: u64,
}

impl Leases {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on appends carry this one too. By which number it is taken away.
    pub fn add(&self, token: String) -> u64 {
        let mut inner = self.lock();
        let number = inner.next;
        inner.next += 1;
        inner.changes += 1;
        inner.tokens.insert(number, token);
        number
    }

    pub fn remove(&self, number: u64) {
        let mut inner = self.lock();
        if inner.tokens.remove(&number).is_some() {
            inner.changes += 1;
        }
    }

    /// A call that shows them.
    pub fn options(&self) -> CallOptions {
        let inner = self.lock();
        let shown = inner.tokens.values();
        shown.fold(CallOptions::default(), |options, token| {
            match HeaderValue::from_str(token) {
                Ok(mut token) => {
                    token.set_sensitive(true);
                    options.with_header(LEASE_HEADER, token)
                }
                // A server gives none such.
                Err(_) => options,
            }
        })
    }

    /// Puts the leases into the next message of a call, if they are not what the call was told.
    pub fn tell(&self, told: &mut u64, message: &mut p::AppendManyRequest) {
        let inner = self.lock();
        if inner.changes == *told {
            return;
        }
        *told = inner.changes;
        message.leases = inner.tokens.values().cloned().collect();
        if message.leases.is_empty() {
            // Those that were told before are none any more.
            message.leases.push(String::new());
        }
    }
}
