//! What the audit reads of the store, and what it has written of acts that no batch shows.
//!
//! Most acts are noted by the writer with the batch that does them; only what changes no row is noted here.

use dromia_contracts::audit::{
    AuditAct, AuditChange, AuditCursor, AuditFilter, AuditHead, AuditLog, AuditMark, AuditPage,
};
use dromia_contracts::digest::Digest;
use dromia_contracts::id::{SessionId, TenantId};
use dromia_contracts::scope::{OperatorScope, Scope};
use dromia_contracts::store::{PageRequest, Read};

use super::SqliteStore;
use crate::read::{self, ScopeView};
use crate::writer::queue::AuditNote;

impl AuditLog for SqliteStore {
    fn audit_items<'a>(
        &'a self,
        scope: &'a Scope,
        filter: AuditFilter,
        after: AuditCursor,
        limit: usize,
    ) -> Read<'a, AuditPage> {
        let view = ScopeView::for_scope(scope);
        self.read_of(view.tenant, move |r| read::audit::list_items(r, view, filter, after, limit))
    }

    fn audit_end<'a>(&'a self, scope: &'a Scope) -> Read<'a, AuditCursor> {
        let view = ScopeView::for_scope(scope);
        self.read_of(view.tenant, move |r| read::audit::chain_end(&r.db, view.tenant))
    }

    fn audit_heads<'a>(
        &'a self,
        _: &'a OperatorScope,
        page: PageRequest<TenantId>,
    ) -> Read<'a, Vec<AuditHead>> {
        self.read_for_node(move |r| read::audit::list_heads(&r.db, page))
    }

    fn audit_mark<'a>(&'a self, _: &'a OperatorScope) -> Read<'a, Option<AuditMark>> {
        self.read_for_node(move |r| Ok(crate::seal::read_checkpoint(&r.db)?))
    }

    fn audit_marked<'a>(&'a self, _: &'a OperatorScope, mark: AuditMark) -> Read<'a, ()> {
        // Of no tenant; the queue only wants to know whose turn it is.
        self.write_note(TenantId::from_bytes([0; 16]), AuditNote::Mark(mark))
    }

    fn audit_config<'a>(
        &'a self,
        _: &'a OperatorScope,
        tenant: TenantId,
        config: Digest,
        at: jiff::Timestamp,
    ) -> Read<'a, ()> {
        self.write_note(tenant, AuditNote::Config { config, at: at.as_millisecond() })
    }

    fn audit_exported<'a>(
        &'a self,
        scope: &'a Scope,
        session: SessionId,
        at: jiff::Timestamp,
    ) -> Read<'a, ()> {
        self.audit_act(scope, AuditChange::SessionExported { session }, at)
    }

    fn audit_act<'a>(&'a self, scope: &'a Scope, change: AuditChange, at: jiff::Timestamp) -> Read<'a, ()> {
        let act = AuditAct { by: Some(scope.actor().clone()), change };
        self.write_note(scope.tenant(), AuditNote::Act { act, at: at.as_millisecond() })
    }
}
