//! Which capability lies beside a call: it is of the same kind, and covers another place. Nothing is decided here: a call that
//! no capability speaks of is refused by default, and whoever holds one for another place is told of that place.
//!
//! Only rows are looked at, and only behind a refusal. At most [`PLACES_TOLD`] places are told, of one capability.

use dromia_contracts::TenantId;
use dromia_contracts::capability::CapabilityUse;

use super::live::{Live, holder};
use super::sought::HOSTS;

/// The most places that are told.
const PLACES_TOLD: usize = 3;

impl Live {
    /// Says which standing capability of whoever holds these grants is of one of the kinds, and which places it allows.
    pub(crate) fn beside(&self, tenant: TenantId, grants: &[String], kinds: &[&str]) -> Option<String> {
        let (of, holder) = holder(grants).filter(|(of, _)| *of == tenant)?;
        let (held, now) = (self.of(of)?, self.now());
        held.rows.iter().find_map(|(id, row)| {
            let capability = &row.capability;
            if capability.holder != holder || capability.usage != CapabilityUse::Held || row.token.is_none() {
                return None;
            }
            let right = row.rights.iter().find(|right| kinds.contains(&right.resource.kind()))?;
            let kind = right.resource.kind();
            let block = held.stands(*id, now).ok()?.len().saturating_sub(1);
            let of_kind = row.rights.iter().filter(|right| right.resource.kind() == kind);
            let mut places: Vec<&str> = of_kind.map(|right| right.resource.place()).collect();
            let more = if places.len() > PLACES_TOLD { " and more" } else { "" };
            places.truncate(PLACES_TOLD);
            let places = places.join(", ");
            let allows = match kind {
                HOSTS => format!("{kind} to {places}{more} at the port of the scheme"),
                _ => format!("{kind} under {places}{more}"),
            };
            Some(format!(
                "a capability for {kind} is held, and does not cover this call ({id}: its block {block} allows {allows})"
            ))
        })
    }
}
