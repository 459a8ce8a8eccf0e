//! What may be kept as a secret: its name, its one server, its place, and a value that fits this place or can sign. It
//! opens and seals nothing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dromia_contracts::Fault;
use dromia_contracts::vault::{
    NAME_RULE, NewSecret, SIGNING_BYTES, SIGNING_PREFIX, SecretPlacement, SecretValue, is_name,
};
use zeroize::Zeroizing;

use super::fault::invalid_request;
use crate::egress::is_free_header;
use crate::egress::target::RequestTarget;

/// Checks a secret that is to be set, and returns its server in canonical form.
pub(super) fn check_new_secret(new: &NewSecret) -> Result<String, Fault> {
    if !is_name(&new.name) {
        return Err(invalid_request(format!("name: a secret's name is {NAME_RULE}")));
    }
    if let SecretPlacement::Header(name) = &new.placement
        && !is_free_header(name)
    {
        return Err(invalid_request("placement: a request cannot carry this header".to_owned()));
    }
    check_placement(&new.placement, &new.value)?;
    let url = if new.host.contains("://") { new.host.clone() } else { format!("https://{}", new.host) };
    let target = RequestTarget::parse_url(&url)
        .map_err(|refused| invalid_request(format!("host: {}", refused.reason)))?;
    if !target.is_origin() {
        return Err(invalid_request(
            "host: leave out the path; write api.example.com or api.example.com:8443".to_owned(),
        ));
    }
    Ok(target.to_string())
}

/// Checks that a value fits the place of its secret, or can sign.
pub(super) fn check_placement(placement: &SecretPlacement, value: &SecretValue) -> Result<(), Fault> {
    match placement {
        SecretPlacement::Header(_) | SecretPlacement::Bearer if !value.expose_secret().is_ascii() => {
            Err(invalid_request("value: a header allows ASCII only".to_owned()))
        }
        SecretPlacement::Signature if !is_signing_key(value.expose_secret()) => Err(invalid_request(
            "value: a signing key is whsec_ and 24 to 64 bytes in base64; create one with: echo whsec_$(head \
             -c 32 /dev/urandom | base64)"
                .to_owned(),
        )),
        SecretPlacement::Header(_)
        | SecretPlacement::Bearer
        | SecretPlacement::Query(_)
        | SecretPlacement::Signature => Ok(()),
    }
}

fn is_signing_key(value: &str) -> bool {
    let key = value.strip_prefix(SIGNING_PREFIX).and_then(|encoded| STANDARD.decode(encoded).ok());
    key.map(Zeroizing::new).is_some_and(|key| SIGNING_BYTES.contains(&key.len()))
}
