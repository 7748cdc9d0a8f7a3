//! What an operator asks, and what the server answers.

mod entity;
mod files;
mod letter;
mod process;
mod registry;
mod service;
mod view;

pub use entity::{Entity, EntityStatus, History, Parked, Unparked};
pub use files::{FILE_BYTES_HEADER, FILE_HEADER, LogFiles};
pub use letter::{
    CallLetter, CommandLetter, DeadLetter, Edited, Letter, LetterDone, LetterOutcome,
    LettersRetried, Retried, RetryLetters, ServiceLetter, Why,
};
pub use process::{
    Delivery, HeldEvent, Instance, OperatorName, Process, ProcessDone, ResumeStep, SagaState,
    SagaStep, SettleStep, Settlement, StreamDone,
};
pub use registry::{LeaseState, Registration};
pub use service::{Category, Circuit, CircuitState, Diagnostic, Service, ServiceCircuit, Version};
pub use view::{
    CopyId, CopyState, CopyStatus, ParkedStream, PoisonEvent, ServiceView, View, ViewDone,
};
