//! The reads, one file per noun. Each takes a [`ScopeView`], which is what a scope sees.

pub(crate) mod agent;
pub(crate) mod answer;
pub(crate) mod approval;
pub(crate) mod audit;
pub(crate) mod budget;
pub(crate) mod capability;
pub(crate) mod checkpoint;
pub(crate) mod cost;
pub(crate) mod delivery;
pub(crate) mod file;
pub(crate) mod ids;
pub(crate) mod inbox;
pub(crate) mod journal;
pub(crate) mod key;
pub(crate) mod openings;
pub(crate) mod recent;
pub(crate) mod retention;
pub(crate) mod run;
pub(crate) mod session;
pub(crate) mod tail;
pub(crate) mod task;
pub(crate) mod tenant;
pub(crate) mod token;
pub(crate) mod vault;

use rusqlite::{Connection, params};

use dromia_contracts::id::{AgentId, TenantId};
use dromia_contracts::scope::Scope;
use dromia_contracts::store::PageRequest;

use crate::reader::ReadFailure;

/// What answers each read of the port, by the name that the read has there.
pub(crate) mod answers {
    pub(crate) use super::agent::{
        by_handle as agent_by_handle, by_id as agent, find_revision as agent_revision, list_agents as agents,
        list_deleting as deleting_agents, list_revisions as agent_revisions,
    };
    pub(crate) use super::answer::by_key as kept_answer;
    pub(crate) use super::approval::{
        by_id as approval, list_approvals as approvals, list_delayed as cooling_approvals,
        list_rules as approval_rules,
    };
    pub(crate) use super::budget::list_budgets as budgets;
    pub(crate) use super::capability::list_capabilities as capabilities;
    pub(crate) use super::checkpoint::of_run as run_checkpoint;
    pub(crate) use super::cost::{list_spending as run_spending, sum_since as spending_since};
    pub(crate) use super::delivery::{
        by_id as delivery_record, count_waiting as outbox_waiting, feed_state,
        find_first_open as first_open_delivery, list_deliveries as deliveries,
        list_outbox as open_deliveries, list_unnumbered as unnumbered_deliveries, read_feed as feed_items,
    };
    pub(crate) use super::file::{find_known_file as file_label, list_files as file_labels};
    pub(crate) use super::ids::find_ids as ids_like;
    pub(crate) use super::inbox::read_inbox as inbox_items;
    pub(crate) use super::journal::journal_page as journal_entries;
    pub(crate) use super::key::find_visible_key as find_keyed_item;
    pub(crate) use super::openings::read_openings as opening_inputs;
    pub(crate) use super::retention::{
        find_hold as session_hold, list_erasing as erasing_sessions, list_held as held_sessions,
        list_idle as idle_sessions,
    };
    pub(crate) use super::run::{
        by_id as run, list_open_runs as open_runs, list_parked_runs as parked_runs, list_runs as runs,
        list_signalled_runs as signalled_runs, list_troubled as troubled_runs, list_working as working_runs,
    };
    pub(crate) use super::session::{
        by_id as session, by_key as session_by_key, find_pin as pinned_text,
        list_pending as pending_sessions, list_sessions as sessions, list_state as session_state,
        state_entry,
    };
    pub(crate) use super::tail::read_tail as session_tail;
    pub(crate) use super::task::list_below_root as child_sessions;
    pub(crate) use super::task::list_of_session as session_children;
    pub(crate) use super::tenant::{
        by_handle as tenant_by_handle, count_rows as tenant_counts, list_deleting as deleting_tenants,
        list_tenants as tenants, of_scope as tenant_record,
    };
    pub(crate) use super::token::{by_id as token_by_id, find_token_owner, list_tokens as tokens};
    pub(crate) use super::vault::{by_name as secret, find_vault_key as vault_key, list_secrets as secrets};
}

/// What a scope sees: a tenant's rows, possibly those of one agent only.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScopeView {
    pub(crate) tenant: TenantId,
    pub(crate) only: Option<AgentId>,
}

impl ScopeView {
    pub(crate) fn for_scope(scope: &Scope) -> Self {
        Self { tenant: scope.tenant(), only: scope.agent() }
    }

    pub(crate) fn sees_agent(&self, agent: AgentId) -> bool {
        self.only.is_none_or(|only| only == agent)
    }

    /// Returns whether the rows of an agent are found: the scope sees it, and it is not being erased.
    pub(crate) fn finds_agent(&self, db: &Connection, agent: AgentId) -> Found<bool> {
        let found = self.sees_agent(agent)
            && db
                .prepare_cached("SELECT 1 FROM agents WHERE tenant = ?1 AND agent = ?2 AND state <> 3")?
                .exists(params![self.tenant.as_bytes(), agent.as_bytes()])?;
        Ok(found)
    }

    /// Returns whether a filter by agent and the scope exclude each other.
    pub(crate) fn excludes_agent(&self, wanted: Option<AgentId>) -> bool {
        matches!((self.only, wanted), (Some(only), Some(wanted)) if only != wanted)
    }

    /// Joins a filter by agent with the scope's own.
    pub(crate) fn join_agent(&self, wanted: Option<AgentId>) -> Option<AgentId> {
        wanted.or(self.only)
    }
}

/// The rows of a page that SQL is asked for.
fn page_limit<Id>(page: &PageRequest<Id>) -> i64 {
    row_limit(page.limit)
}

fn row_limit(limit: usize) -> i64 {
    i64::try_from(limit.min(PageRequest::<()>::LIMIT_MAX)).unwrap_or(0)
}

/// Sorts before and after every id.
const FIRST: [u8; 0] = [];
const LAST: [u8; 17] = [0xff; 17];

type Found<T> = Result<T, ReadFailure>;
