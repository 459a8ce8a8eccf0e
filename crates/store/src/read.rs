//! The reads, one file per noun. Each takes a [`ScopeView`], which is what a scope sees.

pub(crate) mod agent;
pub(crate) mod approval;
pub(crate) mod audit;
pub(crate) mod budget;
pub(crate) mod capability;
pub(crate) mod cost;
pub(crate) mod delivery;
pub(crate) mod file;
pub(crate) mod journal;
pub(crate) mod key;
pub(crate) mod recent;
pub(crate) mod run;
pub(crate) mod session;
pub(crate) mod tail;
pub(crate) mod tenant;
pub(crate) mod token;
pub(crate) mod vault;

use rusqlite::{Connection, params};

use dromia_contracts::id::{AgentId, TenantId};
use dromia_contracts::scope::Scope;
use dromia_contracts::store::PageRequest;

use crate::reader::ReadFailure;

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
