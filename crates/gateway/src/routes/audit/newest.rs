//! Pages that begin with the newest record. A chain is read forward only, so windows of it are read one after the other, from
//! its end to its beginning, and each is given out backward.

use dromia_api::ListPage;
use dromia_api::audit::AuditRecord;
use dromia_contracts::Scope;
use dromia_contracts::audit::AuditCursor;

use super::{AuditRecordFilter, READS_MAX, read_chain};
use crate::core::GatewayCore;
use crate::failure::Answer;

/// How many seals one window has.
const SEALS: u64 = 32;

/// Reads the newest records before a place, about `limit` of them; an entry of several records is never torn.
pub(super) async fn newest_page(
    core: &GatewayCore,
    scope: &Scope,
    wanted: &AuditRecordFilter,
    mut before: AuditCursor,
    limit: usize,
) -> Answer<ListPage<AuditRecord>> {
    let mut page = ListPage { items: Vec::<AuditRecord>::new(), next: None };
    for _ in 0..READS_MAX {
        let from = AuditCursor { seal: before.seal.saturating_sub(SEALS), ..AuditCursor::default() };
        for record in read_window(core, scope, wanted, from, before).await?.into_iter().rev() {
            let last = page.items.last().map(|last| &last.place);
            if page.items.len() >= limit && last != Some(&record.place) {
                page.next = last.cloned();
                return Ok(page);
            }
            page.items.push(record);
        }
        if from == AuditCursor::default() {
            return Ok(page);
        }
        before = from;
    }
    page.next = Some(before.to_string());
    Ok(page)
}

/// Reads the records between two places, in their order. There are as many reads as the window's seals have entries
/// for.
async fn read_window(
    core: &GatewayCore,
    scope: &Scope,
    wanted: &AuditRecordFilter,
    from: AuditCursor,
    before: AuditCursor,
) -> Answer<Vec<AuditRecord>> {
    let (mut records, mut after) = (Vec::new(), from);
    loop {
        let read = read_chain(core, scope, wanted, after).await?;
        let is_before =
            |record: &AuditRecord| record.place.parse::<AuditCursor>().is_ok_and(|place| place < before);
        records.extend(read.records.into_iter().filter(is_before));
        if read.is_last || read.next >= before {
            return Ok(records);
        }
        after = read.next;
    }
}
