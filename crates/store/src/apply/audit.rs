//! What a batch adds to its tenant's chain of seals: only what it really writes, so a repeated batch adds nothing.

use dromia_contracts::approval::ApprovalRule;
use dromia_contracts::audit::{Act, Change};
use dromia_contracts::budget::Budget;
use dromia_contracts::digest::Digest;
use dromia_contracts::store::{AgentCreate, TokenCreate};
use dromia_contracts::vault::{SealedSecret, Secret};

use super::approval::RuleChange;
use super::capability::CapabilityDraft;
use super::session::SessionDraft;
use super::vault::SecretDraft;
use super::{Draft, budget};
use crate::seal::{Grown, Owner, Span};

impl Draft<'_> {
    /// Lists the acts and the spans of the batch. Whatever changes what somebody may do, use or spend is an act, whoever
    /// did it; custom state and messages are acts only where somebody asked for them, because agents and machinery write
    /// them too. It is read off what the batch writes, so no caller can forget it.
    pub(crate) fn grown(&self) -> Grown {
        let mut grown = Grown { tenant: self.tenant, acts: Vec::new(), spans: self.spans(), at: None };
        let touched =
            self.runs.iter().filter(|run| grown.spans.iter().any(|span| span.run == *run.run.as_bytes()));
        grown.at = touched.map(|run| run.updated_at.as_millisecond()).max();
        self.note_rights(&mut grown);
        self.note_secrets(&mut grown);
        self.note_capabilities(&mut grown);
        self.note_budgets(&mut grown);
        self.note_approvals(&mut grown);
        for open in self.sessions.iter().filter_map(SessionDraft::opened).filter(|open| open.believes) {
            let change = Change::SessionTrusted { session: open.session, agent: open.agent };
            self.note(&mut grown, open.at.as_millisecond(), change);
        }
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
            let TokenCreate { token, hash, name, scopes, expires_at, at } = draft.create;
            let change = Change::TokenCreated {
                token: *token,
                name: name.clone(),
                scopes: *scopes,
                hash: Some(*hash),
                expires_at: *expires_at,
            };
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
                self.note_wanted(grown, Change::AgentStateSet { agent: draft.agent, to: draft.state });
            }
        }
    }

    fn note_secrets(&self, grown: &mut Grown) {
        for draft in &self.secrets {
            match draft {
                SecretDraft::Put(SealedSecret { secret, .. }) => {
                    let Secret { name, version, host, changed_at, .. } = secret;
                    let (name, version, host) = (name.clone(), *version, host.clone());
                    self.note(grown, changed_at.as_millisecond(), Change::SecretSet { name, version, host });
                }
                SecretDraft::Erase(erase) => {
                    self.note_wanted(grown, Change::SecretErased { name: erase.name.clone() });
                }
                SecretDraft::Same(_) => {}
            }
        }
        if self.vault_key.is_some_and(|put| put.replaces.is_some()) {
            self.note_wanted(grown, Change::VaultKeyReplaced);
        }
    }

    fn note_capabilities(&self, grown: &mut Grown) {
        for draft in &self.capabilities {
            match draft {
                CapabilityDraft::Put(put) => {
                    let (capability, holder, rights) = (put.id, put.holder, put.rights.clone());
                    let change = match put.parent {
                        None => Change::CapabilityGranted { capability, holder, rights },
                        Some(from) => Change::CapabilityDelegated { capability, from, holder, rights },
                    };
                    self.note(grown, put.created_at.as_millisecond(), change);
                }
                CapabilityDraft::Revoke { revoke, holder } => {
                    let change = Change::CapabilityRevoked { capability: revoke.capability, holder: *holder };
                    self.note(grown, revoke.at.as_millisecond(), change);
                }
                CapabilityDraft::Drop { id, taken_from: Some(holder) } => {
                    self.note_wanted(grown, Change::CapabilityRevoked { capability: *id, holder: *holder });
                }
                // One that had ended gives nobody less by going.
                CapabilityDraft::Drop { taken_from: None, .. } | CapabilityDraft::Same(_) => {}
            }
        }
    }

    fn note_budgets(&self, grown: &mut Grown) {
        for change in self.budgets.iter().flat_map(|draft| &draft.changes) {
            self.note_wanted(
                grown,
                match change {
                    budget::Change::Set { budget, .. } => Change::BudgetSet { budget: Budget::clone(budget) },
                    budget::Change::Remove(name) => Change::BudgetRemoved { name: (*name).to_owned() },
                },
            );
        }
    }

    fn note_approvals(&self, grown: &mut Grown) {
        for draft in &self.approvals {
            if let (Some(approved), Some(answer)) = (draft.answered, &draft.approval.answer) {
                let (approval, agent) = (draft.approval.id, draft.approval.agent);
                let change = Change::ApprovalAnswered { approval, agent, approved };
                self.note(grown, answer.at.as_millisecond(), change);
            }
        }
        for change in self.approval_rules.iter().flat_map(|draft| &draft.changes) {
            match change {
                RuleChange::Put(rule) => {
                    let ApprovalRule { name, answer, agent, session, rule, created_at, expires_at, .. } =
                        rule;
                    let change = Change::ApprovalRuleSet {
                        name: name.clone(),
                        answer: *answer,
                        agent: *agent,
                        session: *session,
                        expires_at: Some(*expires_at),
                        rule: Digest::from_bytes(*blake3::hash(rule.as_bytes()).as_bytes()),
                    };
                    self.note(grown, created_at.as_millisecond(), change);
                }
                RuleChange::Remove(name) => {
                    self.note_wanted(grown, Change::ApprovalRuleRemoved { name: name.clone() });
                }
                RuleChange::Sweep(_) => {}
            }
        }
    }

    fn note(&self, grown: &mut Grown, at: i64, change: Change) {
        grown.acts.push((Some(at), self.act(change)));
    }

    /// Notes a change that says no time of its own: it has that of whoever wants it.
    fn note_wanted(&self, grown: &mut Grown, change: Change) {
        let at = self.wanted.map(|wanted| wanted.at.as_millisecond());
        grown.acts.push((at, self.act(change)));
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
