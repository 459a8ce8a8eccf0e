//! What a batch adds to its tenant's chain of seals: only what it really writes, so a repeated batch adds nothing.

use jiff::Timestamp;

use dromia_contracts::audit::{AuditAct, AuditChange};
use dromia_contracts::store::BatchRequester;

use super::{BatchDraft, TableDraft};
use crate::seal::ChainGrowth;

/// The acts of a batch. Every change of what an actor may do, use or spend is an act, whatever made it. The list is
/// derived from what the batch writes, so no caller can forget an act.
pub(super) struct ActList<'b> {
    wanted: Option<&'b BatchRequester>,
    acts: Vec<(Option<i64>, AuditAct)>,
}

impl ActList<'_> {
    /// Notes a change that was made at a time.
    pub(super) fn note_change(&mut self, at: Timestamp, change: AuditChange) {
        let act = self.make_act(change);
        self.acts.push((Some(at.as_millisecond()), act));
    }

    /// Notes a change that has no time of its own: it gets that of the request.
    pub(super) fn note_wanted(&mut self, change: AuditChange) {
        let at = self.wanted.map(|wanted| wanted.at.as_millisecond());
        let act = self.make_act(change);
        self.acts.push((at, act));
    }

    /// Notes a change of what agents and machinery write too: custom state and messages. It is an act only if the batch
    /// names a requester.
    pub(super) fn note_request(&mut self, at: Timestamp, change: AuditChange) {
        if self.wanted.is_some() {
            self.note_change(at, change);
        }
    }

    fn make_act(&self, change: AuditChange) -> AuditAct {
        AuditAct { by: self.wanted.map(|wanted| wanted.by.clone()), change }
    }
}

impl BatchDraft<'_> {
    /// Lists the acts and the spans of the batch.
    pub(crate) fn chain_growth(&self) -> ChainGrowth {
        let spans = self.runs.entry_spans();
        let at = self.runs.latest_update(&spans).map(Timestamp::as_millisecond);
        let mut list = ActList { wanted: self.batch.wanted.as_ref(), acts: Vec::new() };
        for draft in self.acts_order() {
            draft.note_acts(&mut list);
        }
        ChainGrowth { tenant: self.db.tenant, acts: list.acts, spans, at }
    }

    /// The tables in the order in which the chain has their acts.
    fn acts_order(&self) -> [&dyn TableDraft; 11] {
        [
            &self.own_tenant,
            &self.tokens,
            &self.agents,
            &self.vault,
            &self.capabilities,
            &self.budgets,
            &self.approvals,
            &self.sessions,
            &self.retention,
            &self.states,
            &self.deliveries,
        ]
    }
}
