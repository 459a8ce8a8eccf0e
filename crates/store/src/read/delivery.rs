//! Deliveries, the outbox across tenants, and the feed.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use dromia_contracts::delivery::{
    DeliveryAttempt, DeliveryRecord, DeliveryState, DeliverySummary, FeedItem, FeedState, FeedSubscriber,
    OpenDelivery,
};
use dromia_contracts::id::{AgentId, DeliveryId, TenantId};
use dromia_contracts::store::{DeliveryFilter, PageRequest};

use super::{Found, LAST, ScopeView, page_limit, row_limit};
use crate::check_value;
use crate::column_codes::{self, StoredEnum as _, stored_counter};
use crate::reader::ReadFailure;
use crate::row::{delivery_columns, delivery_seal, read_attempt_end, read_delivery};

/// A page of the feed ends with the message that passes this many bytes.
const FEED_BYTES: usize = 1 << 20;

/// A row with its message, after `delivery_columns`.
fn read_whole(row: &Row<'_>, from: usize) -> rusqlite::Result<(DeliverySummary, [u8; 8], Bytes)> {
    let body = Bytes::from(row.get::<_, Vec<u8>>(from + 19)?);
    Ok((read_delivery(row, from)?, column_codes::read_bytes(row, from + 18)?, body))
}

/// Checks a message against its digest.
fn check_digest(
    (delivery, digest, body): (DeliverySummary, [u8; 8], Bytes),
) -> Found<(DeliverySummary, Bytes)> {
    if delivery_seal(&delivery, &body) == digest {
        Ok((delivery, body))
    } else {
        Err(ReadFailure::damaged_row(delivery.id, "it does not match its digest"))
    }
}

pub(crate) fn by_id(db: &Connection, view: ScopeView, id: DeliveryId) -> Found<Option<DeliveryRecord>> {
    let found = db
        .prepare_cached(concat!(
            "SELECT ",
            delivery_columns!(),
            ", digest, body FROM deliveries WHERE tenant = ?1 AND delivery = ?2"
        ))?
        .query_row(params![view.tenant.as_bytes(), id.as_bytes()], |row| read_whole(row, 0))
        .optional()?;
    let Some(found) = found else { return Ok(None) };
    if !view.finds_agent(db, found.0.source.agent)? {
        return Ok(None);
    }
    let (delivery, body) = check_digest(found)?;
    let mut select = db.prepare_cached(&format!(
        "{} WHERE tenant = ?1 AND delivery = ?2 ORDER BY number DESC LIMIT ?3",
        check_value::ATTEMPTS.select_sql()
    ))?;
    let values = params![view.tenant.as_bytes(), id.as_bytes(), row_limit(usize::MAX)];
    let mut attempts = select
        .query_map(values, |row| {
            check_value::ATTEMPTS.check_row(row)?;
            Ok(DeliveryAttempt {
                number: row.get(2)?,
                began_at: column_codes::read_time(row, 4)?,
                ended: read_attempt_end(row, 5)?,
            })
        })?
        .collect::<Result<Vec<_>, _>>()?;
    attempts.reverse();
    Ok(Some(DeliveryRecord { delivery, body, attempts }))
}

pub(crate) fn list_deliveries(
    db: &Connection,
    view: ScopeView,
    filter: &DeliveryFilter,
    page: PageRequest<DeliveryId>,
) -> Found<Vec<DeliverySummary>> {
    let mut conditions = String::new();
    if view.only.is_some() {
        conditions.push_str(" AND agent = ?3");
    }
    if let Some(state) = filter.state {
        // Said again in the words of the partial indices, so that they are used.
        conditions.push_str(match state {
            DeliveryState::Prepared | DeliveryState::Sending | DeliveryState::Failed => {
                " AND state = ?4 AND state <= 2"
            }
            DeliveryState::Delivered => " AND state = ?4",
            DeliveryState::Dead | DeliveryState::UnknownAfterSend => " AND state = ?4 AND state >= 4",
        });
    }
    if filter.target.is_some() {
        conditions.push_str(" AND target = ?5");
    }
    let before = page.after.as_ref().map_or(&LAST[..], |id| &id.as_bytes()[..]);
    let mut select = db.prepare_cached(&format!(
        concat!(
            "SELECT ",
            delivery_columns!(),
            " FROM deliveries WHERE tenant = ?1 AND delivery < ?2{} AND EXISTS (SELECT 1 FROM agents a \
              WHERE a.tenant = ?1 AND a.agent = deliveries.agent AND a.state <> 3) \
              ORDER BY delivery DESC LIMIT ?6"
        ),
        conditions
    ))?;
    let values = params![
        view.tenant.as_bytes(),
        before,
        view.only.as_ref().map(AgentId::as_bytes),
        filter.state.map(DeliveryState::stored_code),
        filter.target,
        page_limit(&page),
    ];
    let found = select.query_map(values, |row| read_delivery(row, 0))?.collect::<Result<_, _>>()?;
    Ok(found)
}

/// Lists the first open delivery of each target, of every tenant. Each is found by a seek of its own, so a long queue
/// before one target costs nothing.
pub(crate) fn list_outbox(db: &Connection, page: PageRequest<(TenantId, &str)>) -> Found<Vec<OpenDelivery>> {
    let most = page.limit.min(PageRequest::<()>::LIMIT_MAX);
    let (mut tenant, mut target) = match page.after {
        Some((tenant, target)) => (tenant.as_bytes().to_vec(), target.to_owned()),
        None => (Vec::new(), String::new()),
    };
    let mut select = db.prepare_cached(concat!(
        "SELECT tenant, ",
        delivery_columns!(),
        " FROM deliveries INDEXED BY deliveries_open WHERE state <= 2 AND (tenant, target) > (?1, ?2) \
         ORDER BY tenant, target, position LIMIT 1"
    ))?;
    let mut found = Vec::new();
    while found.len() < most {
        let next = select
            .query_row(params![tenant, target], |row| {
                Ok(OpenDelivery {
                    tenant: TenantId::from_bytes(column_codes::read_bytes(row, 0)?),
                    delivery: read_delivery(row, 1)?,
                })
            })
            .optional()?;
        let Some(next) = next else { break };
        tenant = next.tenant.as_bytes().to_vec();
        target.clone_from(&next.delivery.target);
        found.push(next);
    }
    Ok(found)
}

/// Finds the first open delivery of one target.
pub(crate) fn find_first_open(
    db: &Connection,
    tenant: TenantId,
    target: &str,
) -> Found<Option<OpenDelivery>> {
    let mut select = db.prepare_cached(concat!(
        "SELECT ",
        delivery_columns!(),
        " FROM deliveries INDEXED BY deliveries_open WHERE state <= 2 AND tenant = ?1 AND target = ?2 \
         ORDER BY position LIMIT 1"
    ))?;
    let found =
        select.query_row(params![tenant.as_bytes(), target], |row| read_delivery(row, 0)).optional()?;
    Ok(found.map(|delivery| OpenDelivery { tenant, delivery }))
}

pub(crate) fn count_waiting(db: &Connection, tenant: TenantId, target: &str) -> Found<u64> {
    let count = db
        .prepare_cached(
            "SELECT count(*) FROM deliveries INDEXED BY deliveries_open \
             WHERE state <= 2 AND tenant = ?1 AND target = ?2",
        )?
        .query_row(params![tenant.as_bytes(), target], |row| column_codes::read_counter(row, 0))?;
    Ok(count)
}

pub(crate) fn list_unnumbered(
    db: &Connection,
    after: Option<TenantId>,
    most: usize,
) -> Found<Vec<(TenantId, DeliveryId)>> {
    let mut select = db.prepare_cached(
        "SELECT tenant, delivery FROM deliveries INDEXED BY deliveries_unnumbered \
         WHERE feed IS NULL AND tenant > ?1 ORDER BY tenant, target, position LIMIT ?2",
    )?;
    // Every tenant comes after no bytes at all.
    let after = after.map_or_else(Vec::new, |tenant| tenant.as_bytes().to_vec());
    let found = select
        .query_map(params![after, row_limit(most)], |row| {
            Ok((
                TenantId::from_bytes(column_codes::read_bytes(row, 0)?),
                DeliveryId::from_bytes(column_codes::read_bytes(row, 1)?),
            ))
        })?
        .collect::<Result<_, _>>()?;
    Ok(found)
}

pub(crate) fn read_feed(db: &Connection, view: ScopeView, after: u64, most: usize) -> Found<Vec<FeedItem>> {
    let only = if view.only.is_some() { " AND agent = ?4" } else { "" };
    let mut select = db.prepare_cached(&format!(
        concat!(
            "SELECT ",
            delivery_columns!(),
            ", digest, body FROM deliveries INDEXED BY deliveries_feed \
              WHERE tenant = ?1 AND feed IS NOT NULL AND feed > ?2{} AND EXISTS (SELECT 1 FROM agents a \
              WHERE a.tenant = ?1 AND a.agent = deliveries.agent AND a.state <> 3) ORDER BY feed LIMIT ?3"
        ),
        only
    ))?;
    let only = view.only.as_ref().map(AgentId::as_bytes);
    // Without an agent the statement has three places only.
    let mut found = match only {
        Some(agent) => {
            select.query(params![view.tenant.as_bytes(), stored_counter(after), row_limit(most), agent])?
        }
        None => select.query(params![view.tenant.as_bytes(), stored_counter(after), row_limit(most)])?,
    };
    let (mut items, mut bytes) = (Vec::new(), 0);
    while let Some(row) = found.next()? {
        let (delivery, body) = check_digest(read_whole(row, 0)?)?;
        bytes += body.len();
        items.push(FeedItem { number: delivery.feed.unwrap_or_default(), delivery, body });
        if bytes > FEED_BYTES {
            break;
        }
    }
    Ok(items)
}

pub(crate) fn feed_state(db: &Connection, view: ScopeView) -> Found<FeedState> {
    let last = db
        .prepare_cached("SELECT last FROM feeds WHERE tenant = ?1")?
        .query_row([view.tenant.as_bytes()], |row| column_codes::read_counter(row, 0))
        .optional()?
        .unwrap_or(0);
    if view.only.is_some() {
        return Ok(FeedState { last, subscribers: Vec::new() });
    }
    let mut select =
        db.prepare_cached("SELECT name, cursor, at FROM subscribers WHERE tenant = ?1 ORDER BY name")?;
    let subscribers = select
        .query_map([view.tenant.as_bytes()], |row| {
            Ok(FeedSubscriber {
                name: row.get(0)?,
                cursor: column_codes::read_counter(row, 1)?,
                at: column_codes::read_time(row, 2)?,
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(FeedState { last, subscribers })
}
