//! The command that sets a secret for a server at a place, as hints print it. It knows no value.

use dromia_api::TENANT_DEFAULT;
use dromia_contracts::vault::{SecretPlacement, SecretSlot};

/// Where `dromia secret set` places a key that a request wants at a slot.
pub(crate) fn placement_for_slot(slot: SecretSlot) -> SecretPlacement {
    match slot {
        SecretSlot::Header(name) if name == "authorization" => SecretPlacement::Bearer,
        SecretSlot::Header(name) => SecretPlacement::Header(name),
        SecretSlot::Query(name) => SecretPlacement::Query(name),
    }
}

/// The server of an address, as a secret names the one that it is for.
pub(crate) fn secret_host(url: &str) -> String {
    let origin = reqwest::Url::parse(url).map(|url| url.origin().ascii_serialization());
    let origin = origin.unwrap_or_else(|_| "HOST".to_owned());
    origin.strip_prefix("https://").unwrap_or(&origin).to_owned()
}

/// The command that sets a secret of a tenant for the server of an address.
pub(crate) fn set_command(tenant: &str, secret: &str, url: &str, placement: &SecretPlacement) -> String {
    let host = secret_host(url);
    let of = if tenant == TENANT_DEFAULT { String::new() } else { format!("--tenant {tenant} ") };
    format!("dromia {of}secret set {secret} --stdin --host {host} --placement {placement} < key.txt")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_names_the_server_and_the_place() {
        let header = |name: &str| placement_for_slot(SecretSlot::Header(name.to_owned()));
        for (tenant, url, placement, command) in [
            (
                "default",
                "https://api.openai.com/v1",
                header("authorization"),
                "dromia secret set k --stdin --host api.openai.com --placement bearer < key.txt",
            ),
            (
                "default",
                "http://127.0.0.1:9/v1",
                header("x-api-key"),
                "dromia secret set k --stdin --host http://127.0.0.1:9 --placement header:x-api-key < key.txt",
            ),
            (
                "acme",
                "https://shop.example:8443/hook?a=b",
                SecretPlacement::Signature,
                "dromia --tenant acme secret set k --stdin --host shop.example:8443 --placement signature < key.txt",
            ),
        ] {
            assert_eq!(set_command(tenant, "k", url, &placement), command);
        }
    }
}
