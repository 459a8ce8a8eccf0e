//! The state of a capability wherever it is listed: by itself, by what it was made from, and by its token.
//!
//! It is the answer of the gate, without a call: what is said to be active here covers something, and nothing else does.

use dromia_contracts::capability::{CapabilityRecord, CapabilityState};
use dromia_contracts::token::TokenState;
use jiff::Timestamp;

use super::live::{MismatchReason, TenantCapabilities};

impl TenantCapabilities {
    /// Returns the state of a stored capability. One that memory does not hold has its own state.
    pub(super) fn capability_state(&self, capability: &CapabilityRecord, now: Timestamp) -> CapabilityState {
        let own = capability.state_at(now);
        let Some(row) = self.rows.get(&capability.id).filter(|_| own == TokenState::Active) else {
            return own.into();
        };
        // It may have been taken back since the store was read.
        let own = row.capability.state_at(now);
        if own != TokenState::Active {
            return own.into();
        }
        match self.check_standing(capability.id, now).map_err(|fallen| fallen.why) {
            Ok(_) if row.token.is_none() => CapabilityState::Unreadable,
            Ok(_) => CapabilityState::Active,
            Err(MismatchReason::Revoked) => CapabilityState::ParentRevoked,
            // Nothing lasts longer than what it is made from, so its own time is over as well.
            Err(MismatchReason::Expired) => CapabilityState::Expired,
            Err(_) => CapabilityState::ParentGone,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use bytes::Bytes;
    use dromia_contracts::capability::CapabilityUse;
    use dromia_contracts::{Actor, AgentId, CapabilityId};

    use super::super::right::{Resource, Right};
    use super::super::root::{ROOT_ID, RootKey, RootKeys};
    use super::super::token::CapabilityToken;
    use super::*;

    const HOLDER: AgentId = AgentId::from_bytes([9; 16]);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("an instant")
    }

    fn row(id: u8, parent: Option<u8>, token: &CapabilityToken) -> CapabilityRecord {
        CapabilityRecord {
            id: CapabilityId::from_bytes([id; 16]),
            holder: HOLDER,
            parent: parent.map(|parent| CapabilityId::from_bytes([parent; 16])),
            usage: CapabilityUse::Held,
            rights: vec!["tool:time.now".to_owned()],
            until: None,
            wall_ms_max: None,
            token: token.to_bytes().expect("it is short").into(),
            by: Actor::new("cli:ada"),
            created_at: at(0),
            revoked_at: None,
        }
    }

    /// A first capability and what was made from it, with the keys that open both.
    fn pair() -> ([CapabilityRecord; 2], RootKeys) {
        let root = RootKey::new(ROOT_ID, &[7; 32]).expect("a key");
        let rights = [Right::unlimited(Resource::tool("time.now").expect("a tool"))];
        let first = CapabilityToken::grant_rights(&root, HOLDER, &rights, &[1; 32]).expect("it is signed");
        let second = first.narrow_rights(Some(HOLDER), &rights, &[2; 32]).expect("it is narrowed");
        let roots = RootKeys::new(vec![root.public_root()]).expect("one key");
        ([row(1, None, &first), row(2, Some(1), &second)], roots)
    }

    fn states(rows: &[CapabilityRecord], roots: Option<RootKeys>, now: Timestamp) -> Vec<&'static str> {
        let held = TenantCapabilities::new(rows.to_vec(), roots);
        rows.iter().map(|row| held.capability_state(row, now).as_str()).collect()
    }

    #[test]
    fn a_child_capability_is_no_more_valid_than_its_parent() {
        let (rows, roots) = pair();
        let [first, second] = rows.clone();
        let (now, roots) = (at(5), Some(roots));
        assert_eq!(states(&rows, roots.clone(), now), ["active", "active"]);
        let revoked = CapabilityRecord { revoked_at: Some(at(3)), ..first.clone() };
        assert_eq!(states(&[revoked, second.clone()], roots.clone(), now), ["revoked", "parent_revoked"]);
        let expired = CapabilityRecord { until: Some(at(5)), ..first };
        assert_eq!(states(&[expired, second.clone()], roots.clone(), now), ["expired", "expired"]);
        assert_eq!(states(slice::from_ref(&second), roots.clone(), now), ["parent_gone"]);
        // Its own end is told before that of its parent.
        let ended = CapabilityRecord { revoked_at: Some(at(4)), ..second };
        assert_eq!(states(&[ended], roots, now), ["revoked"]);
    }

    #[test]
    fn a_capability_that_no_key_verifies_is_not_active() {
        let (rows, roots) = pair();
        assert_eq!(states(&rows, None, at(5)), ["unreadable"; 2], "there is no key");
        let other = RootKey::new(ROOT_ID, &[8; 32]).expect("a key");
        let others = RootKeys::new(vec![other.public_root()]).expect("one key");
        assert_eq!(states(&rows, Some(others), at(5)), ["unreadable"; 2], "the tenant has another key");
        let [first, second] = rows;
        let changed = CapabilityRecord { token: Bytes::from_static(b"no token"), ..second };
        assert_eq!(states(&[first, changed], Some(roots), at(5)), ["active", "unreadable"]);
    }

    #[test]
    fn a_revocation_since_the_last_read_is_reported() {
        let ([first, _], roots) = pair();
        let revoked = CapabilityRecord { revoked_at: Some(at(3)), ..first.clone() };
        let held = TenantCapabilities::new(vec![revoked.clone()], Some(roots.clone()));
        assert_eq!(held.capability_state(&first, at(5)), CapabilityState::Revoked);
        let held = TenantCapabilities::new(vec![first], Some(roots.clone()));
        assert_eq!(held.capability_state(&revoked, at(5)), CapabilityState::Revoked, "memory is behind");
        assert_eq!(
            TenantCapabilities::new(Vec::new(), Some(roots)).capability_state(&revoked, at(2)),
            CapabilityState::Revoked
        );
    }
}
