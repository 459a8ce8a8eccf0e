//! What a second opinion about a call leads to: its cost is reserved, it is given or cut off, and the call is judged again.
//!
//! An opinion decides nothing here. It stays in the state until the owner judges the call again and applies the rule
//! for objections. One that is durable is never asked for again; one that was cut off is, and stays charged whole.

use dromia_contracts::CallId;
use dromia_contracts::Digest;
use dromia_contracts::entry::{Entry, OpinionCalled, OpinionGiven};
use dromia_contracts::model::TokenUsage;
use dromia_contracts::opinion::ModelOpinion;

use super::{DecisionDraft, NextAction, OpinionRequest, OpinionResult};
use crate::config::SecondOpinion;
use crate::state::OpinionState;

impl DecisionDraft {
    /// Reserves what the answers may take.
    pub(super) fn reserve_opinion(&mut self, call: CallId, consults: OpinionRequest) -> NextAction {
        let OpinionRequest { call: doubted, second, prepared, sent } = consults;
        let SecondOpinion { model, samples, .. } = second;
        self.push_entry(Entry::OpinionCalled(OpinionCalled {
            call,
            action: doubted.action,
            model,
            samples,
            input_tokens: prepared.input_tokens,
            output_tokens_max: prepared.output_tokens_max,
            reserved_micros: prepared.reserved_micros.saturating_mul(samples.into()),
            unpriced: !prepared.priced,
            sent,
            judged: None,
        }));
        NextAction::Consult(doubted)
    }

    /// Records the opinion; the call is judged again with it.
    pub(super) fn record_opinion(&mut self, call: CallId, consulted: OpinionResult) -> NextAction {
        let open = self.state.next_call().filter(|(due, _)| *due == call);
        let Some(OpinionState::Open { action, .. }) = open.map(|(_, known)| &known.opined) else {
            return self.go_on();
        };
        let OpinionResult { opinion, usage, tokens, cost_micros } = consulted;
        let (action, opinion) = (*action, Some(opinion));
        let given = OpinionGiven { call, action, opinion, usage, tokens, cost_micros };
        self.push_entry(Entry::OpinionGiven(given));
        self.go_on()
    }

    /// Records that no model could be asked, which cost nothing.
    pub(super) fn record_unasked_opinion(
        &mut self,
        call: CallId,
        action: Digest,
        opinion: ModelOpinion,
    ) -> NextAction {
        let (opinion, usage) = (Some(opinion), TokenUsage::default());
        let (tokens, cost_micros) = (0, 0);
        let given = OpinionGiven { call, action, opinion, usage, tokens, cost_micros };
        self.push_entry(Entry::OpinionGiven(given));
        self.go_on()
    }

    /// Closes an opinion that was cut off: its answer is unknown, so its reservation stays charged in full. Returns of
    /// which call it was, and how many times in a row that happened.
    pub(super) fn lose_opinion(&mut self) -> Option<(CallId, u32)> {
        let (call, known) = self.state.next_call()?;
        let OpinionState::Open { action, reserved_micros, lost } = known.opined else { return None };
        self.push_entry(Entry::OpinionGiven(OpinionGiven {
            call,
            action,
            opinion: None,
            usage: TokenUsage::default(),
            tokens: 0,
            cost_micros: reserved_micros,
        }));
        Some((call, lost.saturating_add(1)))
    }
}
