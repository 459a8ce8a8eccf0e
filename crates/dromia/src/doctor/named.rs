//! Secrets that the configuration names as keys: that each is in the vault, for its server and at its place. The start says so
//! too; here it is found before a run or a message fails. No value is opened. Those of tools of the operator's own are of
//! whichever tenant calls, so they are not looked for.

use std::collections::BTreeMap;

use dromia_api::{Placement, TENANT_DEFAULT};
use dromia_gateway::ChannelKey;
use dromia_models::Provider;

use super::edge::{resolved, unlooked};
use super::world::Kept;
use super::{Scene, Server, Verdict, error, ok};
use crate::config::Resolved;
use crate::keys;

/// A key that the configuration names.
struct Named {
    /// The entry that names it.
    place: String,
    tenant: String,
    secret: String,
    /// The address whose server it is for.
    url: String,
    placement: Placement,
}

pub(super) fn named(scene: &Scene<'_>) -> Verdict {
    let Some(resolved) = resolved(scene) else { return unlooked(scene) };
    let wanted = wanted(&resolved);
    if wanted.is_empty() {
        return ok("no key is in the vault");
    }
    let mut kept = BTreeMap::new();
    for named in &wanted {
        if !kept.contains_key(&named.tenant) {
            let Some(found) = secrets(scene, &named.tenant) else { return ok("nobody could be asked") };
            kept.insert(named.tenant.clone(), found);
        }
    }
    let wrong = wanted.iter().filter_map(|named| {
        let of_tenant = kept.get(&named.tenant)?;
        Some((named, problem(named, of_tenant)?))
    });
    let wrong: Vec<_> = wrong.collect();
    let Some((first, _)) = wrong.first() else {
        return ok(format!("{} keys are named, and each is in the vault", wanted.len()));
    };
    let Named { tenant, secret, url, placement, .. } = first;
    let told: Vec<_> = wrong.iter().map(|(_, problem)| problem.as_str()).collect();
    error(told.join("; "), format!("`{}`", keys::set_command(tenant, secret, url, placement)))
}

/// The keys that are to be in the vault: of models in the tenant `default`, of channels in theirs.
fn wanted(resolved: &Resolved) -> Vec<Named> {
    let models = resolved.models.models.iter().filter_map(|(alias, provider)| {
        let Provider::Http(http) = provider else { return None };
        Some(Named {
            place: format!("the model {alias}"),
            tenant: TENANT_DEFAULT.to_owned(),
            secret: http.vault_key.as_ref()?.name.clone(),
            url: http.base_url.clone(),
            placement: keys::placement(http.format.key_slot()),
        })
    });
    let channels = resolved.channels.named().filter_map(|(name, channel)| {
        let ChannelKey::InVault(secret) = &channel.key else { return None };
        Some(Named {
            place: format!("the channel {name}"),
            tenant: channel.tenant.to_string(),
            secret: secret.clone(),
            url: channel.url.clone(),
            placement: Placement::Signature,
        })
    });
    models.chain(channels).collect()
}

/// The secrets of a tenant, from the server or, without one, from the store.
fn secrets(scene: &Scene<'_>, tenant: &str) -> Option<Vec<Kept>> {
    match scene.server() {
        Server::Answers(_) => scene.world.secrets(tenant),
        Server::Absent => {
            let found = scene.store()?.secrets(tenant).ok()?.into_iter();
            let kept = |(name, host, placement): (String, String, String)| {
                Some(Kept { name, host, placement: placement.parse().ok()? })
            };
            Some(found.filter_map(kept).collect())
        }
        Server::Mute(_) => None,
    }
}

/// Says why a key cannot be used, if it cannot.
fn problem(named: &Named, kept: &[Kept]) -> Option<String> {
    let Named { place, secret, url, placement, .. } = named;
    let Some(found) = kept.iter().find(|kept| kept.name == *secret) else {
        return Some(format!("the secret {secret} of {place} is not in the vault"));
    };
    if origin(&found.host) != origin(url) {
        return Some(format!("the secret {secret} of {place} is for {}, another server", found.host));
    }
    if found.placement.slot() != placement.slot() {
        return Some(format!(
            "the secret {secret} of {place} is placed as {}, not as {placement}",
            found.placement
        ));
    }
    None
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> Option<String> {
    reqwest::Url::parse(url).ok().map(|url| url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::super::plant::Planted;
    use super::*;

    const NAMING: &str = "version: 1\nmodels:\n  default: { kind: scripted }\n  far: { kind: openai, base_url: 'https://hub.example/v1', model: m, key: 'secret:hub' }\nchannels:\n  orders: { kind: webhook, agent: assistant, tenant: acme, url: 'https://shop.example/hook', secret: 'secret:orders' }\n";

    fn kept(name: &str, host: &str, placement: &str) -> Kept {
        Kept { name: name.into(), host: host.into(), placement: placement.parse().expect("a placement") }
    }

    #[test]
    fn a_key_that_is_not_there_for_another_server_or_at_another_place_is_told() {
        let mut planted = Planted::sound();
        assert_eq!(planted.found("vault.named"), Severity::Ok);
        planted.configure(NAMING);
        let hub = || kept("hub", "https://hub.example:443", "bearer");
        let orders = |host: &str, placement: &str| kept("orders", host, placement);
        let set = "dromia --tenant acme secret set orders --stdin --host shop.example --placement signature";
        for (secrets, says, fix) in [
            (vec![], "the secret hub of the model far is not in the vault", "dromia secret set hub"),
            (vec![hub()], "the secret orders of the channel orders is not in the vault", set),
            (vec![hub(), orders("https://other.example:443", "signature")], "another server", set),
            (vec![hub(), orders("http://shop.example:80", "signature")], "another server", set),
            (vec![hub(), orders("https://shop.example:443", "bearer")], "placed as bearer", set),
        ] {
            planted.world.secrets = secrets;
            let verdict = planted.verdict("vault.named");
            assert_eq!(verdict.severity, Severity::Error, "{verdict:?}");
            assert!(verdict.message.contains(says), "{verdict:?}");
            assert!(verdict.fix.as_ref().is_some_and(|told| told.contains(fix)), "{verdict:?}");
        }
        planted.world.secrets = vec![hub(), orders("https://shop.example:443", "signature")];
        assert_eq!(planted.found("vault.named"), Severity::Ok);
        // Without a server the store is looked at, which has no secret.
        planted.world.server = Server::Absent;
        assert_eq!(planted.found("vault.named"), Severity::Error);
        planted.world.server = Server::Mute("it hangs".to_owned());
        assert_eq!(planted.found("vault.named"), Severity::Ok, "nobody could be asked");
    }
}
