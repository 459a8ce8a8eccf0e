//! Acts of the reference store: a mutation leaves an act if it changed the row that it is about.
//!
//! It keeps acts only, without a hash chain: a chain is for a store that has a disk to distrust.

use dromia_contracts::Digest;
use dromia_contracts::audit::{AuditAct, AuditChange};
use dromia_contracts::revision::{AgentField, grants_beyond};
use dromia_contracts::scope::Scope;
use dromia_contracts::store::{BatchRequester, Mutation};
use dromia_contracts::token::TokenState;
use jiff::Timestamp;

use super::ReferenceStore;
use super::rows::TenantRows;

impl ReferenceStore {
    /// Returns every act of a scope's tenant with its time, in their order. An act that says no time has that of the one
    /// before.
    pub fn list_acts(&self, scope: &Scope) -> Vec<(Timestamp, AuditAct)> {
        self.lock_state().tenants.get(&scope.tenant()).map(|rows| rows.acts.clone()).unwrap_or_default()
    }
}

/// An act that a mutation is, if it changes anything.
pub(super) struct CandidateAct<'b> {
    mutation: &'b Mutation,
    at: Option<Timestamp>,
    act: AuditAct,
    before: String,
}

impl<'b> CandidateAct<'b> {
    /// Looks at a mutation before it is played; nothing for what runs and machinery write.
    pub(super) fn from_mutation(
        rows: Option<&TenantRows>,
        mutation: &'b Mutation,
        wanted: Option<&BatchRequester>,
    ) -> Option<Self> {
        let (at, change) = change_of(rows, mutation, wanted)?;
        let act = AuditAct { by: wanted.map(|wanted| wanted.by.clone()), change };
        Some(Self { mutation, at, act, before: row_state_text(rows, mutation) })
    }
}

impl TenantRows {
    /// Notes an act whose mutation was played, if it changed anything.
    pub(super) fn note_act(&mut self, candidate: Option<CandidateAct<'_>>) {
        let Some(CandidateAct { mutation, at, act, before }) = candidate else { return };
        if row_state_text(Some(self), mutation) != before {
            let last = self.acts.last().map_or(self.create.at, |(at, _)| *at);
            self.acts.push((at.unwrap_or(last), act));
        }
    }
}

/// Says what a mutation would change, and when.
fn change_of(
    rows: Option<&TenantRows>,
    mutation: &Mutation,
    wanted: Option<&BatchRequester>,
) -> Option<(Option<Timestamp>, AuditChange)> {
    let now = wanted.map(|wanted| wanted.at);
    let name = String::clone;
    Some(match mutation {
        Mutation::TenantCreate(create) => {
            (Some(create.at), AuditChange::TenantCreated { handle: create.handle.clone() })
        }
        Mutation::TenantSuspensionSet(since) => {
            (now, AuditChange::TenantSuspensionSet { suspended: since.is_some() })
        }
        Mutation::TenantErase(at) => (Some(*at), AuditChange::TenantDeleted),
        Mutation::TokenCreate(create) => {
            let (token, name, scopes) = (create.token, name(&create.name), create.scopes);
            let (hash, expires_at) = (create.hash, create.expires_at);
            (Some(create.at), AuditChange::TokenCreated { token, name, scopes, hash, expires_at })
        }
        Mutation::TokenRevoke(revoke) => (Some(revoke.at), AuditChange::TokenRevoked { token: revoke.token }),
        Mutation::AgentCreate(create) => {
            let (agent, handle, revision) = (create.agent, create.handle.clone(), create.revision);
            (Some(create.at), AuditChange::AgentCreated { agent, handle, revision })
        }
        Mutation::AgentRevise(revise) => {
            let agents = &rows?.agents;
            let agent = agents.rows.get(&revise.agent)?;
            let config = &agents.find_config(agent.id, agent.revision)?;
            let mut changed = AgentField::list_changed(config, &revise.config);
            changed.extend((agent.display_name != revise.display_name).then_some(AgentField::DisplayName));
            changed.extend((agent.labels != revise.labels).then_some(AgentField::Labels));
            let (agent, number, revision) = (agent.id, revise.after + 1, revise.revision);
            let granted = grants_beyond(&revise.config.grants, &config.grants);
            let taken = grants_beyond(&config.grants, &revise.config.grants);
            let change = AuditChange::AgentRevised { agent, number, revision, changed, granted, taken };
            (Some(revise.at), change)
        }
        Mutation::AgentRename(rename) => {
            (now, AuditChange::AgentRenamed { agent: rename.agent, handle: rename.handle.clone() })
        }
        Mutation::AgentStateSet(set) => (now, AuditChange::AgentStateSet { agent: set.agent, to: set.to }),
        Mutation::StatePut(put) => {
            now?;
            (Some(put.at), AuditChange::StatePut { session: put.session, name: name(&put.name) })
        }
        Mutation::DeliveryRedrive(redrive) => {
            now?;
            (Some(redrive.at), AuditChange::DeliveryRedriven { delivery: redrive.delivery })
        }
        Mutation::SecretPut(sealed) => {
            let secret = &sealed.secret;
            let (name, version, host) = (name(&secret.name), secret.version, name(&secret.host));
            (Some(secret.changed_at), AuditChange::SecretSet { name, version, host })
        }
        Mutation::SecretErase(erase) => (now, AuditChange::SecretErased { name: name(&erase.name) }),
        Mutation::VaultKeyPut(put) if put.replaces.is_some() => (now, AuditChange::VaultKeyReplaced),
        Mutation::CapabilityPut(put) => {
            let (capability, holder, rights) = (put.id, put.holder, put.rights.clone());
            let change = match put.parent {
                None => AuditChange::CapabilityGranted { capability, holder, rights },
                Some(from) => AuditChange::CapabilityDelegated { capability, from, holder, rights },
            };
            (Some(put.created_at), change)
        }
        Mutation::CapabilityRevoke(revoke) => {
            let holder = rows?.capabilities.rows.get(&revoke.capability)?.holder;
            (Some(revoke.at), AuditChange::CapabilityRevoked { capability: revoke.capability, holder })
        }
        Mutation::CapabilityDrop(drop) => {
            let known = rows?.capabilities.rows.get(&drop.capability)?;
            let had_ended = match now {
                Some(now) => known.state_at(now) != TokenState::Active,
                None => known.revoked_at.is_some(),
            };
            if had_ended {
                return None;
            }
            (now, AuditChange::CapabilityRevoked { capability: known.id, holder: known.holder })
        }
        Mutation::BudgetSet(set) => (now, AuditChange::BudgetSet { budget: set.budget.clone() }),
        Mutation::BudgetRemove(remove) => (now, AuditChange::BudgetRemoved { name: name(&remove.name) }),
        Mutation::ApprovalAnswer(answer) => {
            let (approval, approved) = (answer.approval, answer.approved);
            let agent = rows?.approvals.rows.get(&approval)?.source.agent;
            (Some(answer.answered.at), AuditChange::ApprovalAnswered { approval, agent, approved })
        }
        Mutation::ApprovalRulePut(put) => {
            let rule = Digest::from_bytes(*blake3::hash(put.rule.as_bytes()).as_bytes());
            let (name, answer, agent) = (name(&put.name), put.answer, put.agent);
            let (session, expires_at) = (put.session, put.expires_at);
            let change = AuditChange::ApprovalRuleSet { name, answer, agent, session, expires_at, rule };
            (Some(put.created_at), change)
        }
        Mutation::ApprovalRuleRemove(remove) => {
            (now, AuditChange::ApprovalRuleRemoved { name: name(&remove.name) })
        }
        Mutation::SessionOpen(open) if open.believes => {
            (Some(open.at), AuditChange::SessionTrusted { session: open.session, agent: open.agent })
        }
        Mutation::SessionHoldSet(set) => {
            let (session, held) = (set.session, set.hold.is_some());
            let agent = rows?.sessions.rows.get(&session)?.agent;
            (now, AuditChange::SessionHoldSet { session, agent, held })
        }
        // Its acts, one for each session of the tree, are noted where it is played.
        Mutation::SessionErase(_)
        | Mutation::SessionOpen(_)
        | Mutation::ImportEnd(_)
        | Mutation::InboxPut(_)
        | Mutation::PinPut(_)
        | Mutation::RunAppend(_)
        | Mutation::RunTakeover(_)
        | Mutation::DeliveryPrepare(_)
        | Mutation::DeliveryStart(_)
        | Mutation::DeliverySettle(_)
        | Mutation::DeliveryDrop(_)
        | Mutation::FeedNumber(_)
        | Mutation::CursorMove(_)
        | Mutation::VaultKeyPut(_)
        | Mutation::FileLabelsPut(_)
        | Mutation::ApprovalAsk(_)
        | Mutation::AnswerPut(_) => return None,
    })
}

/// Renders the row that a mutation is about; the text differs where the row does.
fn row_state_text(rows: Option<&TenantRows>, mutation: &Mutation) -> String {
    let Some(rows) = rows else { return "no tenant".to_owned() };
    match mutation {
        Mutation::TenantSuspensionSet(_) => format!("{:?}", rows.suspended_at.is_some()),
        Mutation::TenantErase(_) => format!("{:?}", rows.erased_at),
        Mutation::TokenCreate(create) => format!("{:?}", rows.tokens.rows.get(&create.token)),
        Mutation::TokenRevoke(revoke) => format!("{:?}", rows.tokens.rows.get(&revoke.token)),
        Mutation::AgentCreate(create) => format!("{:?}", rows.agents.rows.get(&create.agent)),
        Mutation::AgentRevise(revise) => format!("{:?}", rows.agents.rows.get(&revise.agent)),
        Mutation::AgentRename(rename) => format!("{:?}", rows.agents.rows.get(&rename.agent)),
        Mutation::AgentStateSet(set) => format!("{:?}", rows.agents.rows.get(&set.agent)),
        Mutation::SessionOpen(open) => {
            format!("{:?}", rows.sessions.rows.get(&open.session).map(|row| row.id))
        }
        Mutation::SessionHoldSet(set) => format!("{:?}", rows.sessions.holds.get(&set.session)),
        Mutation::StatePut(put) => {
            let row = rows.sessions.states.get(&(put.session, put.name.clone()));
            format!("{:?}", row.map(|row| row.version))
        }
        Mutation::DeliveryRedrive(redrive) => {
            let row = rows.outbox.rows.get(&redrive.delivery);
            format!("{:?}", row.map(|row| row.delivery.redrives))
        }
        Mutation::SecretPut(sealed) => secret_version_text(rows, &sealed.secret.name),
        Mutation::SecretErase(erase) => secret_version_text(rows, &erase.name),
        Mutation::VaultKeyPut(_) => format!("{:?}", rows.vault.key),
        Mutation::CapabilityPut(put) => format!("{:?}", rows.capabilities.rows.get(&put.id)),
        Mutation::CapabilityRevoke(revoke) => format!("{:?}", rows.capabilities.rows.get(&revoke.capability)),
        Mutation::CapabilityDrop(drop) => format!("{:?}", rows.capabilities.rows.get(&drop.capability)),
        Mutation::BudgetSet(set) => format!("{:?}", rows.budgets.find_budget(&set.budget.name)),
        Mutation::BudgetRemove(remove) => format!("{:?}", rows.budgets.find_budget(&remove.name)),
        Mutation::ApprovalAnswer(answer) => {
            format!("{:?}", rows.approvals.rows.get(&answer.approval).map(|known| known.state))
        }
        Mutation::ApprovalRulePut(rule) => format!("{:?}", rows.approvals.rules.get(&rule.name)),
        Mutation::ApprovalRuleRemove(remove) => format!("{:?}", rows.approvals.rules.get(&remove.name)),
        // The tenant is there; and the others are no acts.
        _ => "a tenant".to_owned(),
    }
}

fn secret_version_text(rows: &TenantRows, name: &str) -> String {
    format!("{:?}", rows.vault.secrets.get(name).map(|known| known.secret.version))
}
