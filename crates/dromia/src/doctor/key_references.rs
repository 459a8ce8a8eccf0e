//! Secrets that the configuration names as keys: that each is in the vault, for its server and at its place. The start says so
//! too; here it is found before a run or a message fails. No value is opened. Those of tools of the operator's own are of
//! whichever tenant calls, so they are not looked for.

use std::collections::BTreeMap;

use dromia_api::{SecretPlacement, TENANT_DEFAULT};
use dromia_gateway::ChannelKey;
use dromia_models::ModelProvider;

use super::edge::{resolved_config, unchecked_result};
use super::environment::SecretRow;
use super::{CheckContext, CheckResult, ServerProbe, error_result, ok_result};
use crate::config::ResolvedConfig;
use crate::secret_command;

/// A key that the configuration names.
struct ConfiguredSecret {
    /// The entry that names it.
    place: String,
    tenant: String,
    secret: String,
    /// The address whose server it is for.
    url: String,
    placement: SecretPlacement,
}

pub(super) fn check_secrets(scene: &CheckContext<'_>) -> CheckResult {
    let Some(resolved) = resolved_config(scene) else { return unchecked_result(scene) };
    let wanted = configured_secrets(&resolved);
    if wanted.is_empty() {
        return ok_result("dromia.yaml refers to no key in the vault");
    }
    let mut kept = BTreeMap::new();
    for named in &wanted {
        if !kept.contains_key(&named.tenant) {
            let Some(found) = tenant_secrets(scene, &named.tenant) else {
                return ok_result("the server does not answer, so this was not checked");
            };
            kept.insert(named.tenant.clone(), found);
        }
    }
    let wrong = wanted.iter().filter_map(|named| {
        let of_tenant = kept.get(&named.tenant)?;
        Some((named, secret_problem(named, of_tenant)?))
    });
    let wrong: Vec<_> = wrong.collect();
    let Some((first, _)) = wrong.first() else {
        return ok_result(format!("dromia.yaml refers to {} keys, and all are in the vault", wanted.len()));
    };
    let ConfiguredSecret { tenant, secret, url, placement, .. } = first;
    let told: Vec<_> = wrong.iter().map(|(_, problem)| problem.as_str()).collect();
    error_result(
        told.join("; "),
        format!("`{}`", secret_command::set_command(tenant, secret, url, placement)),
    )
}

/// The keys that are to be in the vault: of models in the tenant `default`, of channels in theirs.
fn configured_secrets(resolved: &ResolvedConfig) -> Vec<ConfiguredSecret> {
    let models = resolved.models.models.iter().filter_map(|(alias, provider)| {
        let ModelProvider::Http(http) = provider else { return None };
        Some(ConfiguredSecret {
            place: format!("the model {alias}"),
            tenant: TENANT_DEFAULT.to_owned(),
            secret: http.vault_key.as_ref()?.name.clone(),
            url: http.base_url.clone(),
            placement: secret_command::placement_for_slot(http.format.key_slot()),
        })
    });
    let channels = resolved.channels.webhook_channels().filter_map(|(name, channel)| {
        let ChannelKey::InVault(secret) = &channel.key else { return None };
        Some(ConfiguredSecret {
            place: format!("the channel {name}"),
            tenant: channel.tenant.to_string(),
            secret: secret.clone(),
            url: channel.url.clone(),
            placement: SecretPlacement::Signature,
        })
    });
    models.chain(channels).collect()
}

/// The secrets of a tenant, from the server or, without one, from the store.
fn tenant_secrets(scene: &CheckContext<'_>, tenant: &str) -> Option<Vec<SecretRow>> {
    match scene.server_probe() {
        ServerProbe::Answers(_) => scene.world.tenant_secrets(tenant),
        ServerProbe::Absent => {
            let found = scene.offline_inspector()?.list_secrets(tenant).ok()?.into_iter();
            let kept = |(name, host, placement): (String, String, String)| {
                Some(SecretRow { name, host, placement: placement.parse().ok()? })
            };
            Some(found.filter_map(kept).collect())
        }
        ServerProbe::Mute(_) => None,
    }
}

/// Says why a key cannot be used, if it cannot.
fn secret_problem(named: &ConfiguredSecret, kept: &[SecretRow]) -> Option<String> {
    let ConfiguredSecret { place, secret, url, placement, .. } = named;
    let Some(found) = kept.iter().find(|kept| kept.name == *secret) else {
        return Some(format!("the secret {secret} of {place} is not in the vault"));
    };
    if url_origin(&found.host) != url_origin(url) {
        return Some(format!("the secret {secret} of {place} is for another server, {}", found.host));
    }
    if found.placement.request_slot() != placement.request_slot() {
        return Some(format!(
            "the secret {secret} of {place} has the placement {}, not {placement}",
            found.placement
        ));
    }
    None
}

/// Scheme, host and port of an address.
fn url_origin(url: &str) -> Option<String> {
    reqwest::Url::parse(url).ok().map(|url| url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::super::test_home::PlantedHome;
    use super::*;

    const NAMING: &str = "version: 1\nmodels:\n  default: { kind: scripted }\n  far: { kind: openai, base_url: 'https://hub.example/v1', model: m, key: 'secret:hub' }\nchannels:\n  orders: { kind: webhook, agent: assistant, tenant: acme, url: 'https://shop.example/hook', secret: 'secret:orders' }\n";

    fn kept(name: &str, host: &str, placement: &str) -> SecretRow {
        SecretRow { name: name.into(), host: host.into(), placement: placement.parse().expect("a placement") }
    }

    #[test]
    fn a_missing_misdirected_or_misplaced_secret_is_reported() {
        let mut planted = PlantedHome::healthy_home();
        assert_eq!(planted.severity_of("vault.named"), Severity::Ok);
        planted.write_config(NAMING);
        let hub = || kept("hub", "https://hub.example:443", "bearer");
        let orders = |host: &str, placement: &str| kept("orders", host, placement);
        let set = "dromia --tenant acme secret set orders --stdin --host shop.example --placement signature";
        for (secrets, says, fix) in [
            (vec![], "the secret hub of the model far is not in the vault", "dromia secret set hub"),
            (vec![hub()], "the secret orders of the channel orders is not in the vault", set),
            (vec![hub(), orders("https://other.example:443", "signature")], "another server", set),
            (vec![hub(), orders("http://shop.example:80", "signature")], "another server", set),
            (
                vec![hub(), orders("https://shop.example:443", "bearer")],
                "has the placement bearer, not signature",
                set,
            ),
        ] {
            planted.world.secrets = secrets;
            let verdict = planted.result_of("vault.named");
            assert_eq!(verdict.severity, Severity::Error, "{verdict:?}");
            assert!(verdict.message.contains(says), "{verdict:?}");
            assert!(verdict.fix.as_ref().is_some_and(|told| told.contains(fix)), "{verdict:?}");
        }
        planted.world.secrets = vec![hub(), orders("https://shop.example:443", "signature")];
        assert_eq!(planted.severity_of("vault.named"), Severity::Ok);
        // Without a server the store is looked at, which has no secret.
        planted.world.server = ServerProbe::Absent;
        assert_eq!(planted.severity_of("vault.named"), Severity::Error);
        planted.world.server = ServerProbe::Mute("it hangs".to_owned());
        assert_eq!(
            planted.severity_of("vault.named"),
            Severity::Ok,
            "the server does not answer, so this was not checked"
        );
    }
}
