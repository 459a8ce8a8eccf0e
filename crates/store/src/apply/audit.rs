//! What a batch adds to its tenant's chain of seals: only what it really writes, so a repeated batch adds nothing.

use dromia_contracts::approval::ApprovalRuleRecord;
use dromia_contracts::audit::{AuditAct, AuditChange};
use dromia_contracts::budget::BudgetDefinition;
use dromia_contracts::digest::Digest;
use dromia_contracts::store::{AgentCreate, TokenCreate};
use dromia_contracts::vault::{SealedSecret, SecretSummary};

use super::approval::RuleChange;
use super::capability::CapabilityDraft;
use super::session::SessionDraft;
use super::vault::SecretDraft;
use super::{BatchDraft, budget};
use crate::seal::{ChainGrowth, JournalSpan, SpanOwner};

impl BatchDraft<'_> {
    /// Lists the acts and the spans of the batch. Every change of what an actor may do, use or spend is an act,
    /// whatever made it; custom state and messages are acts only if the batch names a requester, because agents and
    /// machinery write them too. The list is derived from what the batch writes, so no caller can forget an act.
    pub(crate) fn chain_growth(&self) -> ChainGrowth {
        let mut grown =
            ChainGrowth { tenant: self.tenant, acts: Vec::new(), spans: self.entry_spans(), at: None };
        let touched =
            self.runs.iter().filter(|run| grown.spans.iter().any(|span| span.run == *run.run.as_bytes()));
        grown.at = touched.map(|run| run.updated_at.as_millisecond()).max();
        self.note_rights(&mut grown);
        self.note_secrets(&mut grown);
        self.note_capabilities(&mut grown);
        self.note_budgets(&mut grown);
        self.note_approvals(&mut grown);
        for open in self.sessions.iter().filter_map(SessionDraft::opened_by).filter(|open| open.believes) {
            let change = AuditChange::SessionTrusted { session: open.session, agent: open.agent };
            self.note_change(&mut grown, open.at.as_millisecond(), change);
        }
        if self.wanted.is_some() {
            for state in &self.states {
                let change =
                    AuditChange::StatePut { session: state.put.session, name: state.put.name.clone() };
                self.note_change(&mut grown, state.put.at.as_millisecond(), change);
            }
            for redrive in &self.redrives {
                let change = AuditChange::DeliveryRedriven { delivery: redrive.delivery };
                self.note_change(&mut grown, redrive.at.as_millisecond(), change);
            }
        }
        grown
    }

    fn note_rights(&self, grown: &mut ChainGrowth) {
        if let Some(tenant) = &self.new_tenant {
            let change = AuditChange::TenantCreated { handle: tenant.create.handle.clone() };
            self.note_change(grown, tenant.create.at.as_millisecond(), change);
        }
        for draft in &self.tokens {
            let TokenCreate { token, hash, name, scopes, expires_at, at } = draft.create;
            let change = AuditChange::TokenCreated {
                token: *token,
                name: name.clone(),
                scopes: *scopes,
                hash: *hash,
                expires_at: *expires_at,
            };
            self.note_change(grown, at.as_millisecond(), change);
            if let Some(at) = draft.revoked_at {
                self.note_change(grown, at.as_millisecond(), AuditChange::TokenRevoked { token: *token });
            }
        }
        for revoke in &self.revokes {
            self.note_change(
                grown,
                revoke.at.as_millisecond(),
                AuditChange::TokenRevoked { token: revoke.token },
            );
        }
        for draft in &self.agents {
            if let Some(AgentCreate { agent, handle, revision, at, .. }) = draft.create {
                let (handle, revision) = (handle.clone(), *revision);
                self.note_change(
                    grown,
                    at.as_millisecond(),
                    AuditChange::AgentCreated { agent: *agent, handle, revision },
                );
            }
            if draft.changed {
                self.note_wanted(grown, AuditChange::AgentStateSet { agent: draft.agent, to: draft.state });
            }
        }
    }

    fn note_secrets(&self, grown: &mut ChainGrowth) {
        for draft in &self.secrets {
            match draft {
                SecretDraft::Put(SealedSecret { secret, .. }) => {
                    let SecretSummary { name, version, host, changed_at, .. } = secret;
                    let (name, version, host) = (name.clone(), *version, host.clone());
                    self.note_change(
                        grown,
                        changed_at.as_millisecond(),
                        AuditChange::SecretSet { name, version, host },
                    );
                }
                SecretDraft::Erase(erase) => {
                    self.note_wanted(grown, AuditChange::SecretErased { name: erase.name.clone() });
                }
                SecretDraft::Same(_) => {}
            }
        }
        if self.vault_key.is_some_and(|put| put.replaces.is_some()) {
            self.note_wanted(grown, AuditChange::VaultKeyReplaced);
        }
    }

    fn note_capabilities(&self, grown: &mut ChainGrowth) {
        for draft in &self.capabilities {
            match draft {
                CapabilityDraft::Put(put) => {
                    let (capability, holder, rights) = (put.id, put.holder, put.rights.clone());
                    let change = match put.parent {
                        None => AuditChange::CapabilityGranted { capability, holder, rights },
                        Some(from) => AuditChange::CapabilityDelegated { capability, from, holder, rights },
                    };
                    self.note_change(grown, put.created_at.as_millisecond(), change);
                }
                CapabilityDraft::Revoke { revoke, holder } => {
                    let change =
                        AuditChange::CapabilityRevoked { capability: revoke.capability, holder: *holder };
                    self.note_change(grown, revoke.at.as_millisecond(), change);
                }
                CapabilityDraft::Drop { id, taken_from: Some(holder) } => {
                    self.note_wanted(
                        grown,
                        AuditChange::CapabilityRevoked { capability: *id, holder: *holder },
                    );
                }
                // One that had ended takes no right away by going.
                CapabilityDraft::Drop { taken_from: None, .. } | CapabilityDraft::Same(_) => {}
            }
        }
    }

    fn note_budgets(&self, grown: &mut ChainGrowth) {
        for change in self.budgets.iter().flat_map(|draft| &draft.changes) {
            self.note_wanted(
                grown,
                match change {
                    budget::BudgetRowChange::Set { budget, .. } => {
                        AuditChange::BudgetSet { budget: BudgetDefinition::clone(budget) }
                    }
                    budget::BudgetRowChange::Remove(name) => {
                        AuditChange::BudgetRemoved { name: (*name).to_owned() }
                    }
                },
            );
        }
    }

    fn note_approvals(&self, grown: &mut ChainGrowth) {
        for draft in &self.approvals {
            if let (Some(approved), Some(answer)) = (draft.answered, &draft.approval.answer) {
                let (approval, agent) = (draft.approval.id, draft.approval.agent);
                let change = AuditChange::ApprovalAnswered { approval, agent, approved };
                self.note_change(grown, answer.at.as_millisecond(), change);
            }
        }
        for change in self.approval_rules.iter().flat_map(|draft| &draft.changes) {
            match change {
                RuleChange::Put(rule) => {
                    let ApprovalRuleRecord {
                        name, answer, agent, session, rule, created_at, expires_at, ..
                    } = rule;
                    let change = AuditChange::ApprovalRuleSet {
                        name: name.clone(),
                        answer: *answer,
                        agent: *agent,
                        session: *session,
                        expires_at: *expires_at,
                        rule: Digest::from_bytes(*blake3::hash(rule.as_bytes()).as_bytes()),
                    };
                    self.note_change(grown, created_at.as_millisecond(), change);
                }
                RuleChange::Remove(name) => {
                    self.note_wanted(grown, AuditChange::ApprovalRuleRemoved { name: name.clone() });
                }
                RuleChange::Sweep(_) => {}
            }
        }
    }

    fn note_change(&self, grown: &mut ChainGrowth, at: i64, change: AuditChange) {
        grown.acts.push((Some(at), self.make_act(change)));
    }

    /// Notes a change that has no time of its own: it gets that of the request.
    fn note_wanted(&self, grown: &mut ChainGrowth, change: AuditChange) {
        let at = self.wanted.map(|wanted| wanted.at.as_millisecond());
        grown.acts.push((at, self.make_act(change)));
    }

    fn make_act(&self, change: AuditChange) -> AuditAct {
        AuditAct { by: self.wanted.map(|wanted| wanted.by.clone()), change }
    }

    /// The entries of the batch, those that follow one another in one journal together.
    fn entry_spans(&self) -> Vec<JournalSpan> {
        let mut spans: Vec<JournalSpan> = Vec::new();
        for entry in &self.entries {
            let run = *entry.run.as_bytes();
            if let Some(last) = spans.last_mut()
                && last.run == run
                && last.to + 1 == entry.seq
            {
                last.extend_to(entry.seq, &entry.chain);
                continue;
            }
            let draft = self.runs.iter().find(|draft| draft.run == entry.run && entry.seq == 1);
            let owner = draft.map(|draft| SpanOwner {
                agent: *draft.agent.as_bytes(),
                session: *draft.session.as_bytes(),
            });
            spans.push(JournalSpan::new(run, owner, entry.seq, &entry.chain));
        }
        spans
    }
}
