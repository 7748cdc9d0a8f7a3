//! How hosts give to the dispatcher what their machines send.

use std::sync::Arc;

use anabranch_domain::{CommandId, StreamId};

use super::Style;
use super::dispatcher::Dispatcher;
use crate::host::{Drive, Out, Outbox};

/// Gives what the instances of one kind send to the dispatcher.
pub struct ToDispatcher {
    dispatcher: Arc<Dispatcher>,
    style: Style,
}

impl ToDispatcher {
    pub fn new(dispatcher: Arc<Dispatcher>, drive: Drive) -> Self {
        let style = match drive {
            Drive::Insists => Style::Insist,
            Drive::Asked | Drive::Reports => Style::Report,
        };
        Self { dispatcher, style }
    }
}

impl Outbox for ToDispatcher {
    fn send(&self, from: &StreamId, out: Out, again: bool) {
        match out {
            Out::Command(command) => self.dispatcher.command(from.clone(), command, self.style),
            Out::Call(call, role) => self.dispatcher.call(call, role, self.style, again),
            Out::Reply(reply) => self.dispatcher.bring(reply),
            // The host keeps these to itself.
            Out::Timer(..) | Out::Ended => {}
        }
    }

    fn is_sending(&self, id: CommandId) -> bool {
        self.dispatcher.is_sending(id)
    }

    fn forget(&self, receiver: &StreamId, from: &StreamId) {
        self.dispatcher.forget(receiver, from);
    }
}
