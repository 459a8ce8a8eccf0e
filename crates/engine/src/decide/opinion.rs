//! What a second opinion about a call leads to: its cost is reserved, it is given or cut off, and the call is judged again.
//!
//! An opinion decides nothing here. It lies in the state until the call is judged again, by whoever knows what an objection
//! leads to. One that is durable is never asked for again; one that was cut off is, and stays charged whole.

use dromia_contracts::CallId;
use dromia_contracts::Digest;
use dromia_contracts::entry::{Entry, OpinionCalled, OpinionGiven};
use dromia_contracts::model::Usage;
use dromia_contracts::opinion::Opinion;

use super::{Consulted, Consults, Draft, Next};
use crate::state::Opined;

impl Draft {
    /// Reserves what the answers may take.
    pub(super) fn consults(&mut self, call: CallId, consults: Consults) -> Next {
        let Consults { call: doubted, model, samples, prepared, sent } = consults;
        self.push(Entry::OpinionCalled(OpinionCalled {
            call,
            action: doubted.action,
            model,
            samples,
            input_tokens: prepared.input_tokens,
            output_tokens_max: prepared.output_tokens_max,
            reserved_micros: prepared.reserved_micros.saturating_mul(samples.into()),
            sent,
        }));
        Next::Consult(doubted)
    }

    /// Keeps what was said; the call is judged again with it.
    pub(super) fn consulted(&mut self, call: CallId, consulted: Consulted) -> Next {
        let open = self.state.next_call().filter(|(due, _)| *due == call);
        let Some(Opined::Open { action, .. }) = open.map(|(_, known)| &known.opined) else {
            return self.go_on();
        };
        let Consulted { opinion, usage, tokens, cost_micros } = consulted;
        let (action, opinion) = (*action, Some(opinion));
        self.push(Entry::OpinionGiven(OpinionGiven { call, action, opinion, usage, tokens, cost_micros }));
        self.go_on()
    }

    /// Keeps that nobody could be asked, which cost nothing.
    pub(super) fn unconsulted(&mut self, call: CallId, action: Digest, opinion: Opinion) -> Next {
        let (opinion, usage) = (Some(opinion), Usage::default());
        let (tokens, cost_micros) = (0, 0);
        self.push(Entry::OpinionGiven(OpinionGiven { call, action, opinion, usage, tokens, cost_micros }));
        self.go_on()
    }

    /// Closes an opinion that was cut off: nobody knows what was said, so it stays charged whole. Returns of which call it was,
    /// and how many times in a row that happened.
    pub(super) fn lose_opinion(&mut self) -> Option<(CallId, u32)> {
        let (call, known) = self.state.next_call()?;
        let Opined::Open { action, reserved_micros, lost } = known.opined else { return None };
        self.push(Entry::OpinionGiven(OpinionGiven {
            call,
            action,
            opinion: None,
            usage: Usage::default(),
            tokens: 0,
            cost_micros: reserved_micros,
        }));
        Some((call, lost.saturating_add(1)))
    }
}
