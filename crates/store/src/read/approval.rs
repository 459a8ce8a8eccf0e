//! Approvals and the rules that answer them. Rules belong to the tenant, so a view of one agent finds none.

use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::de::DeserializeOwned;

use dromia_contracts::approval::{ApprovalRequest, ApprovalRuleRecord};
use dromia_contracts::id::{AgentId, ApprovalId, TenantId};
use dromia_contracts::store::{ApprovalFilter, CoolingApproval, PageRequest};

use super::{Found, LAST, ScopeView, page_limit};
use crate::column_codes;

/// Reads a record, which is in the first column.
pub(crate) fn read_record<T: DeserializeOwned>(row: &Row<'_>) -> rusqlite::Result<T> {
    let text: String = row.get(0)?;
    serde_json::from_str(&text)
        .map_err(|error| column_codes::unreadable_column(0, Type::Text, error.to_string()))
}

/// Finds an approval of a tenant, under any scope.
pub(crate) fn of_tenant(
    db: &Connection,
    tenant: TenantId,
    id: ApprovalId,
) -> rusqlite::Result<Option<ApprovalRequest>> {
    db.prepare_cached("SELECT record FROM approvals WHERE tenant = ?1 AND approval = ?2")?
        .query_row(params![tenant.as_bytes(), id.as_bytes()], read_record)
        .optional()
}

pub(crate) fn by_id(db: &Connection, view: ScopeView, id: ApprovalId) -> Found<Option<ApprovalRequest>> {
    let Some(approval) = of_tenant(db, view.tenant, id)? else { return Ok(None) };
    Ok(if view.finds_agent(db, approval.source.agent)? { Some(approval) } else { None })
}

pub(crate) fn list_approvals(
    db: &Connection,
    view: ScopeView,
    filter: ApprovalFilter,
    page: PageRequest<ApprovalId>,
) -> Found<Vec<ApprovalRequest>> {
    if view.excludes_agent(filter.agent) {
        return Ok(Vec::new());
    }
    let agent = view.join_agent(filter.agent);
    let mut conditions = String::new();
    if agent.is_some() {
        conditions.push_str(" AND agent = ?3");
    }
    if filter.open_at.is_some() {
        conditions.push_str(" AND open = 1 AND expires_at > ?4");
    }
    let before = page.after.as_ref().map_or(&LAST[..], |id| &id.as_bytes()[..]);
    let mut select = db.prepare_cached(&format!(
        "SELECT record FROM approvals WHERE tenant = ?1 AND approval < ?2{conditions} \
         AND EXISTS (SELECT 1 FROM agents a \
         WHERE a.tenant = ?1 AND a.agent = approvals.agent AND a.state <> 3) \
         ORDER BY approval DESC LIMIT ?5"
    ))?;
    let values = params![
        view.tenant.as_bytes(),
        before,
        agent.as_ref().map(AgentId::as_bytes),
        filter.open_at.map(Timestamp::as_millisecond),
        page_limit(&page),
    ];
    Ok(select.query_map(values, read_record)?.collect::<Result<_, _>>()?)
}

/// Lists what is allowed by itself. That is looked for when one is due and after a start, so it has no index of its own: it
/// walks along the open ones. The tenants take turns, and records are read again by their rows, so that none is sorted whole.
pub(crate) fn list_delayed(
    db: &Connection,
    open_at: Timestamp,
    skip: usize,
    most: usize,
) -> Found<Vec<CoolingApproval>> {
    let mut select = db.prepare_cached(
        "WITH cooling AS (SELECT rowid AS place, tenant, approval, \
         julianday(json_extract(record, '$.cools_until')) AS until \
         FROM approvals INDEXED BY approvals_open WHERE open = 1 AND expires_at > ?1 \
         AND json_extract(record, '$.cools_until') IS NOT NULL \
         AND EXISTS (SELECT 1 FROM agents a \
         WHERE a.tenant = approvals.tenant AND a.agent = approvals.agent AND a.state <> 3)), \
         turns AS (SELECT place, until, \
         row_number() OVER (PARTITION BY tenant ORDER BY until, approval) AS turn FROM cooling) \
         SELECT known.record, known.tenant FROM turns CROSS JOIN approvals known ON known.rowid = turns.place \
         ORDER BY turns.turn, turns.until, known.tenant, known.approval LIMIT ?2 OFFSET ?3",
    )?;
    let skip = i64::try_from(skip).unwrap_or(i64::MAX);
    let values =
        params![open_at.as_millisecond(), page_limit(&PageRequest::<ApprovalId>::first_page(most)), skip];
    let rows = select.query_map(values, |row| {
        let approval: ApprovalRequest = read_record(row)?;
        let tenant = TenantId::from_bytes(column_codes::read_bytes(row, 1)?);
        Ok(approval.deadlines.cools_until.map(|until| CoolingApproval {
            tenant,
            approval: approval.id,
            until,
        }))
    })?;
    Ok(rows.filter_map(Result::transpose).collect::<Result<_, _>>()?)
}

/// Reads all rules of a tenant, by name.
pub(crate) fn all_rules(db: &Connection, tenant: TenantId) -> rusqlite::Result<Vec<ApprovalRuleRecord>> {
    let mut select =
        db.prepare_cached("SELECT record FROM approval_rules WHERE tenant = ?1 ORDER BY name")?;
    let rules = select.query_map([tenant.as_bytes()], read_record)?;
    rules.collect()
}

pub(crate) fn list_rules(db: &Connection, view: ScopeView) -> Found<Vec<ApprovalRuleRecord>> {
    if view.only.is_some() { Ok(Vec::new()) } else { Ok(all_rules(db, view.tenant)?) }
}
