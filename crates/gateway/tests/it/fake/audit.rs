//! The audit of the tests: each tenant has one act and then the entries of its one run, each under a seal of its own.

use dromia_contracts::agent::AgentState;
use dromia_contracts::audit::{
    AuditAct, AuditChange, AuditCursor, AuditFilter, AuditHead, AuditItem, AuditLog, AuditMark, AuditPage,
    AuditSigner, AuditWhat,
};
use dromia_contracts::run::RunRecord;
use dromia_contracts::store::{PageRequest, Read, ReadError};
use dromia_contracts::{Actor, Digest, OperatorScope, RunId, Scope, SessionId, TenantId};
use jiff::Timestamp;
use std::sync::Arc;

use super::Rooms;

/// The chains, made of what the rooms hold; and a notary that links and signs nothing.
#[derive(Debug)]
pub(crate) struct Ledger(pub(crate) Arc<Rooms>);

/// The number of a tenant's act, which no other tenant has.
pub(crate) fn seal_of(run: RunId) -> u64 {
    let bytes = run.as_bytes();
    u64::from(u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]))
}

impl Ledger {
    fn run(&self, tenant: TenantId) -> Option<RunRecord> {
        self.0.lock().runs.iter().find(|(owner, _)| *owner == tenant).map(|(_, run)| run.clone())
    }

    fn all(&self, tenant: TenantId) -> Vec<AuditItem> {
        let Some(run) = self.run(tenant) else { return Vec::new() };
        let first = seal_of(run.id);
        let change = AuditChange::AgentStateSet { agent: run.agent, to: AgentState::Running };
        let act = AuditAct { by: Some(Actor::new("cli:1")), change };
        let mut items = vec![AuditItem {
            place: AuditCursor { seal: first, span: 0, seq: 1 },
            at: Timestamp::UNIX_EPOCH,
            what: AuditWhat::Act { act, chain: Digest::default() },
        }];
        for entry in self.0.lock().journals.get(&run.id).into_iter().flatten() {
            items.push(AuditItem {
                place: AuditCursor { seal: first + entry.seq, span: 0, seq: entry.seq },
                at: entry.at,
                what: AuditWhat::Entry {
                    run: run.id,
                    agent: run.agent,
                    session: run.session,
                    entry: entry.clone(),
                },
            });
        }
        items
    }
}

fn ready<'a, T: Send + 'a>(value: T) -> Read<'a, T> {
    Box::pin(std::future::ready(Ok(value)))
}

impl AuditLog for Ledger {
    fn audit_items<'a>(
        &'a self,
        scope: &'a Scope,
        _: AuditFilter,
        after: AuditCursor,
        limit: usize,
    ) -> Read<'a, AuditPage> {
        let all = self.all(scope.tenant());
        let end = all.last().map_or(AuditCursor::default(), |item| item.place);
        let items: Vec<_> = all.into_iter().filter(|item| item.place > after).take(limit).collect();
        let next = items.last().map_or(after, |item| item.place);
        ready(AuditPage { is_last: next >= end, items, next })
    }

    fn audit_end<'a>(&'a self, scope: &'a Scope) -> Read<'a, AuditCursor> {
        let last = self.all(scope.tenant()).last().map_or(0, |item| item.place.seal);
        ready(AuditCursor { seal: last + 1, ..AuditCursor::default() })
    }

    fn audit_heads<'a>(&'a self, _: &'a OperatorScope, _: PageRequest<TenantId>) -> Read<'a, Vec<AuditHead>> {
        ready(Vec::new())
    }

    fn audit_mark<'a>(&'a self, _: &'a OperatorScope) -> Read<'a, Option<AuditMark>> {
        ready(None)
    }

    fn audit_marked<'a>(&'a self, _: &'a OperatorScope, _: AuditMark) -> Read<'a, ()> {
        ready(())
    }

    fn audit_config<'a>(
        &'a self,
        _: &'a OperatorScope,
        _: TenantId,
        _: Digest,
        _: Timestamp,
    ) -> Read<'a, ()> {
        ready(())
    }

    fn audit_act<'a>(&'a self, _: &'a Scope, change: AuditChange, _: Timestamp) -> Read<'a, ()> {
        self.0.lock().acts.push(change);
        ready(())
    }

    fn audit_exported<'a>(&'a self, scope: &'a Scope, session: SessionId, _: Timestamp) -> Read<'a, ()> {
        let mut rooms = self.0.lock();
        if let Some(cause) = rooms.read_only.clone() {
            return Box::pin(std::future::ready(Err(ReadError::Unavailable { cause })));
        }
        rooms.exported.push((scope.tenant(), scope.actor().clone(), session));
        drop(rooms);
        ready(())
    }
}

impl AuditSigner for Ledger {
    fn redact_secrets(&self, text: &str) -> String {
        text.replace("hunter2", "(redacted)")
    }

    fn first_line(&self, about: &str) -> (String, Digest) {
        (format!("first {about}\n"), Digest::default())
    }

    fn record_line(&self, after: Digest, record: &str) -> (String, Digest) {
        let mut link = *after.as_bytes();
        link[31] += 1;
        (format!("line {} {record}\n", link[31]), Digest::from_bytes(link))
    }

    fn last_line(&self, after: Digest, records: u64) -> String {
        format!("last {} {records}\n", after.as_bytes()[31])
    }
}
