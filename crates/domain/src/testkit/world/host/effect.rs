use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use anabranch_model::{CommandId, StreamId};

use super::{Host, Scene, Send, Work};
use crate::command::{Outcome, ReplyEnvelope};
use crate::effect::Effect;
use crate::json::Json;
use crate::testkit::world::message::Message;

/// A third party that carries out calls of one effect. It is outside of the services, so it
/// survives their crashes; a clone is the same third party.
pub struct Provider<F: Effect> {
    inner: Rc<RefCell<Inner<F>>>,
}

struct Inner<F: Effect> {
    #[expect(clippy::type_complexity, reason = "a function of the test")]
    carry_out: Box<dyn FnMut(&F) -> Result<F::Outcome, crate::Rejection>>,
    down: bool,
    knows_keys: bool,
    outcomes: BTreeMap<CommandId, Outcome>,
    calls: u64,
    carried_out: u64,
}

impl<F: Effect> Clone for Provider<F> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

impl<F: Effect> Provider<F> {
    /// One who carries each key out once.
    pub fn new(
        carry_out: impl FnMut(&F) -> Result<F::Outcome, crate::Rejection> + 'static,
    ) -> Self {
        Self {
            inner: Rc::new(RefCell::new(Inner {
                carry_out: Box::new(carry_out),
                down: false,
                knows_keys: true,
                outcomes: BTreeMap::new(),
                calls: 0,
                carried_out: 0,
            })),
        }
    }

    /// The same, but it has no memory of keys: each call is carried out.
    #[must_use]
    pub fn without_keys(self) -> Self {
        self.inner.borrow_mut().knows_keys = false;
        self
    }

    /// From now on nobody answers.
    pub fn go_down(&self) {
        self.inner.borrow_mut().down = true;
    }

    /// It answers again.
    pub fn come_up(&self) {
        self.inner.borrow_mut().down = false;
    }

    /// How many calls have reached it while it was up.
    pub fn calls(&self) -> u64 {
        self.inner.borrow().calls
    }

    /// How many calls it has carried out.
    pub fn carried_out(&self) -> u64 {
        self.inner.borrow().carried_out
    }

    fn call(&self, key: CommandId, request: &Json) -> Result<Outcome, String> {
        let inner = &mut *self.inner.borrow_mut();
        if inner.down {
            return Ok(Outcome::Unavailable(format!("{} is down", F::NAME)));
        }
        inner.calls += 1;
        if inner.knows_keys
            && let Some(outcome) = inner.outcomes.get(&key)
        {
            return Ok(outcome.clone());
        }
        let request: F = request.parse().map_err(|error| error.to_string())?;
        let outcome = match (inner.carry_out)(&request) {
            Ok(done) => {
                inner.carried_out += 1;
                Outcome::Done(Json::of(&done).map_err(|error| error.to_string())?)
            }
            Err(rejection) => Outcome::Refused(rejection),
        };
        inner.outcomes.insert(key, outcome.clone());
        Ok(outcome)
    }
}

pub struct EffectHost<F: Effect> {
    pub provider: Provider<F>,
}

impl<F: Effect> Host for EffectHost<F> {
    fn name(&self) -> String {
        format!("effect {}", F::NAME)
    }

    fn takes(&self, message: &Message) -> bool {
        matches!(message, Message::Call { envelope, .. } if envelope.call.effect == F::NAME)
    }

    fn take(&mut self, message: &Message, _: &Scene<'_>) -> Result<Work, String> {
        let Message::Call {
            envelope,
            role,
            causes,
        } = message
        else {
            return Ok(Work::nothing());
        };
        let outcome = self.provider.call(envelope.key, &envelope.call.request)?;
        Ok(Work::send(vec![Send::Message(Message::Reply(
            ReplyEnvelope {
                to: envelope.reply_to.clone(),
                from: envelope.reply_to.clone(),
                id: envelope.key,
                name: envelope.call.effect.clone(),
                role: role.clone(),
                outcome,
                causes: causes.clone(),
            },
        ))]))
    }

    fn evict(&mut self, _: &StreamId) {}

    fn as_any(&self) -> &dyn Any {
        self
    }
}
