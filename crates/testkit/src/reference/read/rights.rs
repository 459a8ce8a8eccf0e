//! Who there is and what they may: credentials, agents, approvals, and what is known of an agent's files.

use dromia_contracts::agent::{AgentRecord, AgentState};
use dromia_contracts::approval::ApprovalRequest;
use dromia_contracts::capability::CapabilityRecord;
use dromia_contracts::file::{FileLabel, KnownFile};
use dromia_contracts::store::{ApprovalFilter, PageRequest};
use dromia_contracts::token::TokenRecord;
use dromia_contracts::{AgentId, ApprovalId, CapabilityId, Scope, TokenId};

use crate::reference::rows::TenantRows;
use crate::reference::scope_view::page_rows;

impl TenantRows {
    pub(super) fn list_tokens(
        &self,
        scope: &Scope,
        name: Option<&str>,
        asked: PageRequest<TokenId>,
    ) -> Vec<TokenRecord> {
        let tokens = self.tokens.values().map(|row| row.token.clone());
        let named = tokens.filter(|token| name.is_none_or(|name| token.name == name));
        let seen = named.filter(|_| scope.agent().is_none());
        page_rows(seen.map(|token| (token.id, token)), asked, false)
    }

    pub(super) fn list_agents(
        &self,
        scope: &Scope,
        state: Option<AgentState>,
        asked: PageRequest<AgentId>,
    ) -> Vec<AgentRecord> {
        let wanted = self.agents.values().filter(|agent| {
            self.sees_agent(scope, agent.id) && state.is_none_or(|state| state == agent.state)
        });
        page_rows(wanted.map(|agent| (agent.id, agent.clone())), asked, false)
    }

    pub(super) fn list_approvals(
        &self,
        scope: &Scope,
        filter: ApprovalFilter,
        asked: PageRequest<ApprovalId>,
    ) -> Vec<ApprovalRequest> {
        let wanted = |approval: &&ApprovalRequest| {
            filter.agent.is_none_or(|agent| agent == approval.agent)
                && filter.open_at.is_none_or(|now| approval.state_at(now).is_open())
        };
        let seen = self.approvals.values().filter(|approval| self.sees_agent(scope, approval.agent));
        page_rows(seen.filter(wanted).rev().map(|approval| (approval.id, approval.clone())), asked, true)
    }

    pub(super) fn find_file(&self, scope: &Scope, agent: AgentId, path: &str) -> KnownFile {
        if !self.sees_agent(scope, agent) {
            return KnownFile::default();
        }
        let file = self.files.get(&agent).and_then(|files| files.get(path)).cloned();
        let rest = self.files_rest.get(&agent).copied();
        KnownFile { file, rest: rest.unwrap_or(KnownFile::default().rest) }
    }

    pub(super) fn list_files(
        &self,
        scope: &Scope,
        agent: AgentId,
        asked: PageRequest<&str>,
    ) -> Vec<(String, FileLabel)> {
        let files = self.files.get(&agent).filter(|_| self.sees_agent(scope, agent));
        let files = files.into_iter().flatten();
        let files = files.map(|(path, file)| (path.as_str(), (path.clone(), file.clone())));
        page_rows(files, asked, false)
    }

    pub(super) fn list_capabilities(
        &self,
        scope: &Scope,
        asked: PageRequest<CapabilityId>,
    ) -> Vec<CapabilityRecord> {
        let held = self.capabilities.iter().filter(|(_, row)| self.sees_agent(scope, row.holder));
        page_rows(held.map(|(id, row)| (*id, row.clone())), asked, false)
    }
}
