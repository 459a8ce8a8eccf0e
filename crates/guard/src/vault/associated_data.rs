//! What is sealed together with a key or a value, so that a row which was moved or changed in the store does not open; and
//! the opening of a stored secret. How bytes are sealed is `vault/seal.rs`.

use dromia_contracts::TenantId;
use dromia_contracts::vault::{KeyBytes, SealedSecret, SecretSummary, SecretValue};

use super::seal::{self, UnsealError, join_context};

pub(super) fn open_secret_value(
    tenant: TenantId,
    over: &KeyBytes,
    sealed: &SealedSecret,
) -> Result<SecretValue, UnsealError> {
    let own = seal::open_sealed(over, &key_context(tenant, &sealed.secret), &sealed.key)?;
    let own = KeyBytes::new(own.as_slice().try_into().map_err(|_| UnsealError)?);
    let text = seal::open_sealed(&own, &value_context(tenant, &sealed.secret), &sealed.value)?;
    let text = std::str::from_utf8(&text).map_err(|_| UnsealError)?;
    SecretValue::new(text.to_owned()).map_err(|_| UnsealError)
}

/// What a tenant's key is sealed under, so that it opens for this tenant only.
pub fn tenant_context(tenant: TenantId) -> Vec<u8> {
    join_context(&[b"tenant key", tenant.as_bytes()])
}

pub(super) fn key_context(tenant: TenantId, secret: &SecretSummary) -> Vec<u8> {
    join_context(&[b"secret key", tenant.as_bytes(), secret.name.as_bytes(), &secret.version.to_be_bytes()])
}

pub(super) fn value_context(tenant: TenantId, secret: &SecretSummary) -> Vec<u8> {
    join_context(&[
        b"secret value",
        tenant.as_bytes(),
        secret.name.as_bytes(),
        &secret.version.to_be_bytes(),
        secret.host.as_bytes(),
        secret.placement.to_string().as_bytes(),
    ])
}
