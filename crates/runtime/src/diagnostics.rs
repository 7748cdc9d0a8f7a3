use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use anabranch_domain::Timestamp;
use serde::Serialize;

/// The most diagnostics that are kept.
const NOTES_MAX: usize = 256;

/// What went wrong and was mended or worked around: the newest few, for an operator.
pub struct Diagnostics {
    kept: Mutex<VecDeque<Diagnostic>>,
    service: String,
    alerts: AlertSink,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// When.
    pub at: Timestamp,
    /// What happened, what was kept and what to do.
    pub text: String,
}

/// Something that a person should know at once: something is parked or has stopped, a circuit is
/// open, what is called or read is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Alert {
    /// When.
    pub at: Timestamp,
    /// The service.
    pub service: String,
    /// What happened, what was kept and what to do.
    pub text: String,
}

/// Is told of each alert.
pub type AlertSink = Arc<dyn Fn(&Alert) + Send + Sync>;

/// Writes each alert as a line to the standard error.
pub fn alerts_to_stderr() -> AlertSink {
    Arc::new(|alert| {
        let text = alert.text.replace(['\n', '\r'], " ");
        let (at, service) = (alert.at, &alert.service);
        // Where nobody reads it, it stands among the diagnostics all the same.
        drop(writeln!(std::io::stderr(), "{at}  {service}: {text}"));
    })
}

impl Default for Diagnostics {
    /// Of nobody in particular; alerts are told to nobody.
    fn default() -> Self {
        Self::new(String::new(), Arc::new(|_| {}))
    }
}

impl Diagnostics {
    /// Those of this service.
    pub fn new(service: String, alerts: AlertSink) -> Self {
        Self {
            kept: Mutex::default(),
            service,
            alerts,
        }
    }

    /// Adds a note; beyond the most that are kept, the oldest goes.
    pub fn add(&self, at: Timestamp, text: impl Into<String>) {
        let mut diagnostics = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if diagnostics.len() == NOTES_MAX {
            diagnostics.pop_front();
        }
        diagnostics.push_back(Diagnostic {
            at,
            text: text.into(),
        });
    }

    /// Adds a note that a person should know at once.
    pub fn alert(&self, at: Timestamp, text: impl Into<String>) {
        let text = text.into();
        self.add(at, text.clone());
        (self.alerts)(&Alert {
            at,
            service: self.service.clone(),
            text,
        });
    }

    /// The diagnostics, oldest first.
    pub fn all(&self) -> Vec<Diagnostic> {
        let diagnostics = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        diagnostics.iter().cloned().collect()
    }
}
