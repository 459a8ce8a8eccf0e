//! Ids by a part of them, as a scope sees them: every id of the noun is looked at.

use dromia_contracts::Scope;
use dromia_contracts::id_fragment::{IdFragment, IdKind};
use dromia_contracts::store::PageRequest;

use crate::reference::rows::TenantRows;

impl TenantRows {
    pub(super) fn ids_like(
        &self,
        scope: &Scope,
        kind: IdKind,
        fragment: IdFragment,
        limit: usize,
    ) -> Vec<[u8; 16]> {
        let sees = |agent| self.agents.is_seen(scope, agent);
        let mut ids: Vec<[u8; 16]> = match kind {
            IdKind::Run => {
                let runs = self.runs.rows.keys().filter(|id| self.seen_run(scope, **id).is_some());
                runs.map(|id| *id.as_bytes()).collect()
            }
            IdKind::Session => {
                let seen = |id| self.sessions.seen_session(scope, &self.agents, id).is_some();
                self.sessions.rows.keys().filter(|id| seen(**id)).map(|id| *id.as_bytes()).collect()
            }
            IdKind::Approval => {
                let approvals = self.approvals.rows.iter().filter(|(_, row)| sees(row.source.agent));
                approvals.map(|(id, _)| *id.as_bytes()).collect()
            }
            IdKind::Delivery => {
                let deliveries = self.outbox.rows.iter().filter(|(_, row)| sees(row.delivery.source.agent));
                deliveries.map(|(id, _)| *id.as_bytes()).collect()
            }
            IdKind::Capability => {
                let held = self.capabilities.rows.iter().filter(|(_, row)| sees(row.holder));
                held.map(|(id, _)| *id.as_bytes()).collect()
            }
            IdKind::Token if scope.agent().is_some() => Vec::new(),
            IdKind::Token => self.tokens.rows.keys().map(|id| *id.as_bytes()).collect(),
        };
        ids.retain(|id| fragment.fits_id(id));
        ids.sort_unstable_by(|a, b| b.cmp(a));
        ids.truncate(limit.min(PageRequest::<()>::LIMIT_MAX));
        ids
    }
}
