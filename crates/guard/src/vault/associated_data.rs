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

#[cfg(test)]
mod tests {
    use dromia_contracts::vault::SecretPlacement;
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn a_sealed_key_is_bound_to_its_tenant_name_and_version() {
        let [one, other] = [1, 2].map(|byte| TenantId::from_bytes([byte; 16]));
        let secret = |name: &str, version| SecretSummary {
            name: name.to_owned(),
            version,
            host: "https://a.example:443".to_owned(),
            placement: SecretPlacement::Bearer,
            created_at: Timestamp::UNIX_EPOCH,
            changed_at: Timestamp::UNIX_EPOCH,
        };
        let (first, again) = (secret("a", 1), secret("a", 2));
        let bound = [
            tenant_context(one),
            tenant_context(other),
            key_context(one, &first),
            key_context(other, &first),
            key_context(one, &again),
            key_context(one, &secret("b", 1)),
            value_context(one, &first),
            value_context(other, &first),
            value_context(one, &again),
        ];
        for (place, context) in bound.iter().enumerate() {
            assert!(!bound[..place].contains(context), "{place}");
        }
    }
}
