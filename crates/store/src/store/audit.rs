//! What the audit reads of the store, and what it has written of acts that no batch shows.
//!
//! Most acts are noted by the writer with the batch that does them; only what changes no row is noted here.

use dromia_contracts::audit::{
    Act, AuditCursor, AuditFilter, AuditHead, AuditLog, AuditMark, AuditPage, Change,
};
use dromia_contracts::digest::Digest;
use dromia_contracts::id::{SessionId, TenantId};
use dromia_contracts::scope::{Operator, Scope};
use dromia_contracts::store::{Page, Read};

use super::SqliteStore;
use crate::read::{self, View};
use crate::writer::queue::Note;

impl AuditLog for SqliteStore {
    fn audit_items<'a>(
        &'a self,
        scope: &'a Scope,
        filter: AuditFilter,
        after: AuditCursor,
        limit: usize,
    ) -> Read<'a, AuditPage> {
        let view = View::of(scope);
        self.read(move |r| read::audit::items(r, view, filter, after, limit))
    }

    fn audit_end<'a>(&'a self, scope: &'a Scope) -> Read<'a, AuditCursor> {
        let view = View::of(scope);
        self.read(move |r| read::audit::end(&r.db, view.tenant))
    }

    fn audit_heads<'a>(&'a self, _: &'a Operator, page: Page<TenantId>) -> Read<'a, Vec<AuditHead>> {
        self.read(move |r| read::audit::heads(&r.db, page))
    }

    fn audit_mark<'a>(&'a self, _: &'a Operator) -> Read<'a, Option<AuditMark>> {
        self.read(move |r| Ok(crate::seal::marked(&r.db)?))
    }

    fn audit_marked<'a>(&'a self, _: &'a Operator, mark: AuditMark) -> Read<'a, ()> {
        // Of no tenant; the queue only wants to know whose turn it is.
        self.note(TenantId::from_bytes([0; 16]), Note::Mark(mark))
    }

    fn audit_config<'a>(
        &'a self,
        _: &'a Operator,
        tenant: TenantId,
        config: Digest,
        at: jiff::Timestamp,
    ) -> Read<'a, ()> {
        self.note(tenant, Note::Config { config, at: at.as_millisecond() })
    }

    fn audit_exported<'a>(
        &'a self,
        scope: &'a Scope,
        session: SessionId,
        at: jiff::Timestamp,
    ) -> Read<'a, ()> {
        let change = Change::SessionExported { session };
        let act = Act { by: Some(scope.actor().clone()), change };
        self.note(scope.tenant(), Note::Act { act, at: at.as_millisecond() })
    }
}
