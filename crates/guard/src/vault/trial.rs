//! Whether what is sealed opens, for whoever looks after a home. Nothing that was opened leaves this file.

use dromia_contracts::TenantId;
use dromia_contracts::vault::{KeyBytes, SealedSecret};

use super::{LOCKED, opened};

/// Tells whether a stored secret opens with its tenant's key: it is the one that was sealed for this tenant, under this name
/// and version, for this server and this place.
pub fn opens(tenant: TenantId, over: &KeyBytes, sealed: &SealedSecret) -> bool {
    opened(tenant, over, sealed).is_ok()
}

/// Tells whether this is what is said where a secret does not open, whatever its value: setting it anew does not mend that.
pub fn is_locked(reason: &str) -> bool {
    reason == LOCKED.reason
}
