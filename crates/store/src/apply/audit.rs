//! What a batch adds to its tenant's chain of seals: only what it really writes, so a repeated batch adds nothing.

use dromia_contracts::audit::{Act, Change};
use dromia_contracts::store::{AgentCreate, TokenCreate};

use super::Draft;
use crate::seal::{Grown, Owner, Span};

impl Draft<'_> {
    /// Lists the acts and the spans of the batch. Whatever changes rights is an act, whoever did it; custom state and
    /// messages are acts only where somebody asked for them, because agents and machinery write them too.
    pub(crate) fn grown(&self) -> Grown {
        let mut grown = Grown { tenant: self.tenant, acts: Vec::new(), spans: self.spans(), at: None };
        let touched =
            self.runs.iter().filter(|run| grown.spans.iter().any(|span| span.run == *run.run.as_bytes()));
        grown.at = touched.map(|run| run.updated_at.as_millisecond()).max();
        self.note_rights(&mut grown);
        if self.wanted.is_some() {
            for state in &self.states {
                let change = Change::StatePut { session: state.put.session, name: state.put.name.clone() };
                self.note(&mut grown, state.put.at.as_millisecond(), change);
            }
            for redrive in &self.redrives {
                let change = Change::DeliveryRedriven { delivery: redrive.delivery };
                self.note(&mut grown, redrive.at.as_millisecond(), change);
            }
        }
        grown
    }

    fn note_rights(&self, grown: &mut Grown) {
        if let Some(tenant) = &self.new_tenant {
            let change = Change::TenantCreated { handle: tenant.create.handle.clone() };
            self.note(grown, tenant.create.at.as_millisecond(), change);
        }
        for draft in &self.tokens {
            let TokenCreate { token, name, scopes, at, .. } = draft.create;
            let change = Change::TokenCreated { token: *token, name: name.clone(), scopes: *scopes };
            self.note(grown, at.as_millisecond(), change);
            if let Some(at) = draft.revoked_at {
                self.note(grown, at.as_millisecond(), Change::TokenRevoked { token: *token });
            }
        }
        for revoke in &self.revokes {
            self.note(grown, revoke.at.as_millisecond(), Change::TokenRevoked { token: revoke.token });
        }
        for draft in &self.agents {
            if let Some(AgentCreate { agent, handle, revision, at, .. }) = draft.create {
                let (handle, revision) = (handle.clone(), *revision);
                self.note(
                    grown,
                    at.as_millisecond(),
                    Change::AgentCreated { agent: *agent, handle, revision },
                );
            }
            if draft.changed {
                let change = Change::AgentStateSet { agent: draft.agent, to: draft.state };
                let at = self.wanted.map(|wanted| wanted.at.as_millisecond());
                grown.acts.push((at, self.act(change)));
            }
        }
    }

    fn note(&self, grown: &mut Grown, at: i64, change: Change) {
        grown.acts.push((Some(at), self.act(change)));
    }

    fn act(&self, change: Change) -> Act {
        Act { by: self.wanted.map(|wanted| wanted.by.clone()), change }
    }

    /// The entries of the batch, those that follow one another in one journal together.
    fn spans(&self) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        for entry in &self.entries {
            let run = *entry.run.as_bytes();
            if let Some(last) = spans.last_mut()
                && last.run == run
                && last.to + 1 == entry.seq
            {
                last.grow(entry.seq, &entry.chain);
                continue;
            }
            let draft = self.runs.iter().find(|draft| draft.run == entry.run && entry.seq == 1);
            let owner = draft
                .map(|draft| Owner { agent: *draft.agent.as_bytes(), session: *draft.session.as_bytes() });
            spans.push(Span::new(run, owner, entry.seq, &entry.chain));
        }
        spans
    }
}
