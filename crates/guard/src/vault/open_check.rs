//! Checks whether sealed values open, for the checks of a home. Nothing that was opened leaves this file.

use dromia_contracts::TenantId;
use dromia_contracts::vault::{KeyBytes, SealedSecret};

use super::{LOCKED, open_secret_value};

/// Tells whether a stored secret opens with its tenant's key: it is the one that was sealed for this tenant, under this name
/// and version, for this server and this place.
pub fn secret_opens(tenant: TenantId, over: &KeyBytes, sealed: &SealedSecret) -> bool {
    open_secret_value(tenant, over, sealed).is_ok()
}

/// Tells whether this is the reason of a secret that does not open, whatever its value: setting it again does not fix
/// that.
pub fn is_locked(reason: &str) -> bool {
    reason == LOCKED.reason
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_locked_secret_is_called_locked() {
        assert!(is_locked(LOCKED.reason) && !is_locked("another reason"));
    }
}
