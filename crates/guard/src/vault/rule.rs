//! What may be kept as a secret: its name, its one server, its place, and a value that can stand there or can sign. It opens
//! and seals nothing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dromia_contracts::Fault;
use dromia_contracts::vault::{
    NAME_RULE, NewSecret, Placement, SIGNING_BYTES, SIGNING_PREFIX, SecretValue, is_name,
};
use zeroize::Zeroizing;

use super::fault::invalid;
use crate::egress::is_free_header;
use crate::egress::target::Target;

/// Checks a secret that is to be set, and returns its server in canonical form.
pub(super) fn check(new: &NewSecret) -> Result<String, Fault> {
    if !is_name(&new.name) {
        return Err(invalid(format!("name: a secret's name is {NAME_RULE}")));
    }
    if let Placement::Header(name) = &new.placement
        && !is_free_header(name)
    {
        return Err(invalid("placement: this header is the connection's own or no header".to_owned()));
    }
    fits(&new.placement, &new.value)?;
    let url = if new.host.contains("://") { new.host.clone() } else { format!("https://{}", new.host) };
    let target = Target::read(&url).map_err(|refused| invalid(format!("host: {}", refused.reason)))?;
    if !target.is_origin() {
        return Err(invalid(
            "host: a host has no path; write api.example.com or api.example.com:8443".to_owned(),
        ));
    }
    Ok(target.to_string())
}

/// Checks that a value can stand where its secret does, or can sign.
pub(super) fn fits(placement: &Placement, value: &SecretValue) -> Result<(), Fault> {
    match placement {
        Placement::Header(_) | Placement::Bearer if !value.expose().is_ascii() => {
            Err(invalid("value: a header holds ASCII only".to_owned()))
        }
        Placement::Signature if !is_signing_key(value.expose()) => Err(invalid(
            "value: what signs is whsec_ and 24 to 64 bytes in base64; make one with: \
             echo whsec_$(head -c 32 /dev/urandom | base64)"
                .to_owned(),
        )),
        Placement::Header(_) | Placement::Bearer | Placement::Query(_) | Placement::Signature => Ok(()),
    }
}

fn is_signing_key(value: &str) -> bool {
    let key = value.strip_prefix(SIGNING_PREFIX).and_then(|encoded| STANDARD.decode(encoded).ok());
    key.map(Zeroizing::new).is_some_and(|key| SIGNING_BYTES.contains(&key.len()))
}
