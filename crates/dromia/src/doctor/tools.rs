//! Tools of the operator's own: that their servers can be reached, that a secret does not travel in the open, and that no
//! listing of what others wrote is declared trusted. No tool is called and no secret is sent.

use serde_json::Value;

use super::outbox::is_open;
use super::{CheckContext, CheckResult, DoctorCheck, ok_result, warning_result};
use crate::redact;

pub(super) const CHECKS: &[DoctorCheck] = &[
    DoctorCheck { id: "tools.reachable", run: check_reachable },
    DoctorCheck { id: "tools.encrypted", run: check_encrypted },
    DoctorCheck { id: "tools.labels", run: check_labels },
];

/// Words in the names of tools that list or search what several people may have written.
const LISTING: [&str; 18] = [
    "all",
    "browse",
    "channel",
    "feed",
    "find",
    "history",
    "inbox",
    "list",
    "messages",
    "news",
    "notifications",
    "query",
    "received",
    "recent",
    "search",
    "threads",
    "transactions",
    "unread",
];

/// The most servers that are asked.
const SERVERS_MAX: usize = 8;

/// The tools of the file, as far as they have an address.
fn external_tools<'scene>(scene: &'scene CheckContext<'_>) -> Vec<(&'scene str, &'scene Value)> {
    let external = scene.raw_config().and_then(|written| written.get("tools")?.get("external")?.as_object());
    let external = external.into_iter().flatten();
    external.filter_map(|(_, tool)| Some((tool.get("url")?.as_str()?, tool))).collect()
}

fn check_reachable(scene: &CheckContext<'_>) -> CheckResult {
    // One server may have many tools, each below a path of its own.
    let mut servers: Vec<(String, &str)> = Vec::new();
    for (url, _) in external_tools(scene) {
        let server = reqwest::Url::parse(url)
            .map_or_else(|_| url.to_owned(), |url| url.origin().ascii_serialization());
        if !servers.iter().any(|(known, _)| *known == server) {
            servers.push((server, url));
        }
    }
    let asked = servers.iter().take(SERVERS_MAX);
    let silent: Vec<_> = asked
        .filter_map(|(_, url)| {
            scene.world.reach_url(url).err().map(|problem| format!("{}: {problem}", redact::redact_url(url)))
        })
        .collect();
    if servers.is_empty() {
        return ok_result("dromia.yaml has no external tool");
    }
    if silent.is_empty() {
        return ok_result(format!("all {} servers of external tools answer", servers.len().min(SERVERS_MAX)));
    }
    warning_result(
        format!("no answer within 2 s from {}", silent.join(", ")),
        "start the server, or correct tools.external.NAME.url or `egress` in dromia.yaml, or the network",
    )
}

fn check_encrypted(scene: &CheckContext<'_>) -> CheckResult {
    let external = external_tools(scene);
    let open: Vec<_> = external
        .iter()
        .filter(|(url, tool)| tool.get("secret").is_some() && is_open(url))
        .map(|(url, _)| redact::redact_url(url))
        .collect();
    if open.is_empty() {
        return ok_result("no external tool sends a secret without encryption");
    }
    warning_result(
        format!("external tools send secrets without encryption to {}", open.join(", ")),
        "write https in tools.external.NAME.url, and set the secret again for that server",
    )
}

/// A listing returns text of others: a stranger who can add to it writes into the model's context. Where the operator
/// declares it trusted, the engine treats that text as the operator's own, and no plan freezes.
fn check_labels(scene: &CheckContext<'_>) -> CheckResult {
    let external = scene.raw_config().and_then(|written| written.get("tools")?.get("external")?.as_object());
    let listings = external.into_iter().flatten().filter(|(name, tool)| is_trusted_listing(name, tool));
    let listings: Vec<_> = listings.map(|(name, _)| name.as_str()).collect();
    if listings.is_empty() {
        return ok_result("no external tool marks listings as trusted");
    }
    warning_result(
        format!(
            "these external tools mark listings as trusted that others may have written: {} list or search",
            listings.join(", ")
        ),
        "remove tools.external.NAME.result_label, unless only you can write what the tool lists",
    )
}

fn is_trusted_listing(name: &str, tool: &Value) -> bool {
    let label = tool.get("result_label").and_then(Value::as_str);
    let is_trusted = label.is_some_and(|label| label.starts_with("trusted/"));
    let is_word = |word: &str| LISTING.contains(&word);
    is_trusted && (tool.get("records").is_some() || name.split(['.', '_', '-']).any(is_word))
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::super::test_home::PlantedHome;

    fn configured(url: &str, more: &str) -> PlantedHome {
        let planted = PlantedHome::healthy_home();
        planted.write_config(&format!(
            "tools: {{ external: {{ bank.pay: {{ description: Pays., url: '{url}'{more} }} }} }}\n"
        ));
        planted
    }

    #[test]
    fn an_unreachable_tool_server_is_named() {
        let mut planted = configured("http://127.0.0.1:9/pay", "");
        assert_eq!(planted.severity_of("tools.reachable"), Severity::Ok);
        planted.world.reached = Err("connection refused".to_owned());
        let verdict = planted.result_of("tools.reachable");
        assert_eq!(verdict.severity, Severity::Warning);
        assert!(verdict.message.contains("http://127.0.0.1:9/pay: connection refused"), "{verdict:?}");
    }

    /// Tools by their name and what else is written of them, and whether the doctor warns of them.
    const LISTINGS: [(&str, &str, bool); 7] = [
        ("mail.search", ", result_label: trusted/agent", true),
        ("bank.recent_transactions", ", result_label: trusted/public", true),
        ("crm.people", ", result_label: trusted/agent, records: { keys: [id], names: [name] }", true),
        ("crm.people", ", records: { keys: [id], names: [name] }", false),
        ("mail.search", "", false),
        ("mail.search", ", result_label: untrusted/agent", false),
        ("bank.balance", ", result_label: trusted/agent", false),
    ];

    /// Compares what a check says of each tool with what it must.
    fn check_listings(warns: impl Fn(&str, &str) -> bool) -> Result<(), String> {
        for (name, more, expected) in LISTINGS {
            if warns(name, more) != expected {
                return Err(format!("{name}{more}"));
            }
        }
        Ok(())
    }

    #[test]
    fn a_listing_declared_trusted_is_reported() {
        let warns = |name: &str, more: &str| {
            let planted = PlantedHome::healthy_home();
            planted.write_config(&format!(
                "tools: {{ external: {{ {name}: {{ description: Tells., url: 'https://h.example/'{more} }} }} }}\n"
            ));
            let verdict = planted.result_of("tools.labels");
            assert!(verdict.severity == Severity::Ok || verdict.message.contains(name), "{verdict:?}");
            verdict.severity == Severity::Warning
        };
        assert_eq!(check_listings(warns), Ok(()));
    }

    /// Planted faults: a check that reads no names, one that reads no labels, and one that knows no records.
    #[test]
    fn a_check_that_reads_half_of_a_listing_is_caught() {
        let is_trusted = |more: &str| more.contains(": trusted/");
        let lists = |name: &str| name.contains("search") || name.contains("transactions");
        let has_records = |more: &str| more.contains("records");
        check_listings(|_, more| is_trusted(more)).expect_err("it reads no names");
        check_listings(|name, more| lists(name) || has_records(more)).expect_err("it reads no labels");
        check_listings(|name, more| is_trusted(more) && lists(name)).expect_err("it knows no records");
        let whole = |name: &str, more: &str| is_trusted(more) && (lists(name) || has_records(more));
        assert_eq!(check_listings(whole), Ok(()), "what is caught is what each of them leaves out");
    }

    #[test]
    fn a_tool_secret_sent_unencrypted_is_reported() {
        for (url, more, severity) in [
            ("https://bank.example/pay", ", secret: bank", Severity::Ok),
            ("http://127.0.0.1:9/pay", ", secret: bank", Severity::Ok),
            ("http://bank.example/pay", "", Severity::Ok),
            ("http://bank.example/pay", ", secret: bank", Severity::Warning),
        ] {
            assert_eq!(configured(url, more).severity_of("tools.encrypted"), severity, "{url}{more}");
        }
    }
}
