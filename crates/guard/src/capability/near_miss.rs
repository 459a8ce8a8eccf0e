//! The capability that nearly covers a call: it is of the same kind, and covers another place. Nothing is decided here:
//! a call that no capability speaks of is refused by default, and the refusal names the place that the agent's
//! capability allows.
//!
//! Only rows are read, and only after a refusal. The refusal names at most [`PLACES_NAMED`] places, of one capability.

use dromia_contracts::TenantId;
use dromia_contracts::capability::CapabilityUse;

use super::live::{LiveCapabilities, grants_holder};
use super::required::HOSTS;

/// The most places that a refusal names.
const PLACES_NAMED: usize = 3;

impl LiveCapabilities {
    /// Names the first active capability for these grants that is of one of the kinds, and the places that it allows.
    pub(crate) fn similar_capability(
        &self,
        tenant: TenantId,
        grants: &[String],
        kinds: &[&str],
    ) -> Option<String> {
        let (of, holder) = grants_holder(grants).filter(|(of, _)| *of == tenant)?;
        let (held, now) = (self.for_tenant(of)?, self.now());
        held.rows.iter().find_map(|(id, row)| {
            let capability = &row.capability;
            if capability.holder != holder || capability.usage != CapabilityUse::Held || row.token.is_none() {
                return None;
            }
            let right = row.rights.iter().find(|right| kinds.contains(&right.resource.kind_name()))?;
            let kind = right.resource.kind_name();
            let block = held.check_standing(*id, now).ok()?.len().saturating_sub(1);
            let of_kind = row.rights.iter().filter(|right| right.resource.kind_name() == kind);
            let mut places: Vec<&str> = of_kind.map(|right| right.resource.place_text()).collect();
            let more = if places.len() > PLACES_NAMED { " and more" } else { "" };
            places.truncate(PLACES_NAMED);
            let places = places.join(", ");
            let allows = match kind {
                HOSTS => format!("{kind} to {places}{more} at the port of the scheme"),
                _ => format!("{kind} under {places}{more}"),
            };
            Some(format!(
                "the agent has a capability for {kind}, but it does not cover this call ({id}: its block \
                 {block} allows {allows})"
            ))
        })
    }
}
