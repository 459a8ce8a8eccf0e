//! What runs spent on each model, read off the entries of their attempts.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use dromia_contracts::cost::{CostLedger, CostTotals};
use dromia_contracts::entry::{DecodeError, Entry};
use dromia_contracts::id::{AgentId, RunId, TenantId};
use dromia_contracts::session::IMPORT;
use dromia_contracts::store::{PageRequest, RunFilter, RunSpending, SpendingSum};

use super::journal::unpack_fields;
use super::{Found, ScopeView};
use crate::column_codes;
use crate::reader::ReadFailure;

/// No body is read but a short one that lies in its row.
const ATTEMPTS: &str = "SELECT seq, at, kind, version, fields, packed FROM entries \
                        WHERE tenant = ?1 AND run = ?2 AND kind IN ('model_called', 'model_replied', 'model_failed', \
                        'opinion_called', 'opinion_given') ORDER BY seq";

/// Agents that are being erased and sessions that an import fills are looked up once each, and not for each run. The runs of a
/// file have the time of their session, so almost no run needs a look at its session.
const SUM: &str = "SELECT count(*), coalesce(sum(model_calls), 0), coalesce(sum(input_tokens), 0), \
                   coalesce(sum(output_tokens), 0), coalesce(sum(cost_micros), 0), coalesce(sum(unpriced), 0) FROM \
                   (SELECT model_calls, input_tokens, output_tokens, cost_micros, unpriced FROM runs \
                   WHERE tenant = ?1 AND run >= ?2 AND (?3 IS NULL OR agent = ?3) \
                   AND agent NOT IN (SELECT agent FROM agents WHERE tenant = ?1 AND state = 3 AND state <> 0) \
                   AND session NOT IN (SELECT session FROM hidden_sessions WHERE tenant = ?1) \
                   AND NOT (substr(run, 1, 6) = substr(session, 1, 6) AND EXISTS (SELECT 1 FROM sessions s \
                   WHERE s.tenant = ?1 AND s.agent = runs.agent AND s.session = runs.session AND s.platform = ?4)) \
                   ORDER BY run DESC LIMIT ?5)";

pub(crate) fn sum_since(db: &Connection, view: ScopeView, first: RunId, most: usize) -> Found<SpendingSum> {
    let only = view.only.as_ref().map(AgentId::as_bytes);
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let values = params![view.tenant.as_bytes(), first.as_bytes(), only, IMPORT, most];
    let sum = db.prepare_cached(SUM)?.query_row(values, |row| {
        Ok(SpendingSum {
            runs: column_codes::read_counter(row, 0)?,
            spent: CostTotals {
                model_calls: column_codes::read_counter(row, 1)?,
                input_tokens: column_codes::read_counter(row, 2)?,
                output_tokens: column_codes::read_counter(row, 3)?,
                cost_micros: column_codes::read_counter(row, 4)?,
                unpriced_calls: column_codes::read_counter(row, 5)?,
            },
        })
    })?;
    Ok(sum)
}

pub(crate) fn list_spending(
    db: &Connection,
    view: ScopeView,
    filter: RunFilter,
    page: PageRequest<RunId>,
) -> Found<Vec<RunSpending>> {
    let runs = super::run::list_runs(db, view, filter, page)?;
    runs.into_iter()
        .map(|run| Ok(RunSpending { models: spending_by_model(db, view.tenant, run.id)?, run }))
        .collect()
}

fn spending_by_model(db: &Connection, tenant: TenantId, run: RunId) -> Found<Vec<(String, CostTotals)>> {
    let mut select = db.prepare_cached(ATTEMPTS)?;
    let mut rows = select.query(params![tenant.as_bytes(), run.as_bytes()])?;
    let mut ledger = CostLedger::default();
    let mut models = BTreeMap::<String, CostTotals>::new();
    while let Some(row) = rows.next()? {
        let seq = column_codes::read_counter(row, 0)?;
        let (kind, mut fields): (String, String) = (row.get(2)?, row.get(4)?);
        if let Some(packed) = row.get::<_, Option<Vec<u8>>>(5)? {
            fields = unpack_fields(&packed, || format!("entry {seq} of {run}"))?;
        }
        // What a newer version wrote is not summed up; its run is held until that version is back.
        let entry = match Entry::decode(&kind, row.get(3)?, &fields) {
            Ok(entry) => entry,
            Err(DecodeError::Unknown { .. }) => continue,
            Err(error) => {
                return Err(ReadFailure::damaged_row(format!("entry {seq} of {run}"), error.to_string()));
            }
        };
        if let Some(attempt) = ledger.apply_entry(seq, column_codes::read_time(row, 1)?, &entry) {
            let spent = CostTotals::from(&attempt);
            models.entry(attempt.model).or_default().add(spent);
        }
    }
    if let Some(attempt) = ledger.open_attempt() {
        models.entry(attempt.model.clone()).or_default().add(CostTotals::from(attempt));
    }
    Ok(models.into_iter().collect())
}
