//! Tools of the operator's own: that their servers can be reached, and that a secret does not travel in the open. No tool
//! is called and no secret is sent.

use serde_json::Value;

use super::outbox::is_open;
use super::{Check, Scene, Verdict, ok, warning};
use crate::redact;

pub(super) const CHECKS: &[Check] =
    &[Check { id: "tools.reachable", run: reachable }, Check { id: "tools.encrypted", run: encrypted }];

/// The most servers that are asked.
const SERVERS_MAX: usize = 8;

/// The tools of the file, as far as they have an address.
fn external<'scene>(scene: &'scene Scene<'_>) -> Vec<(&'scene str, &'scene Value)> {
    let external = scene.written().and_then(|written| written.get("tools")?.get("external")?.as_object());
    let external = external.into_iter().flatten();
    external.filter_map(|(_, tool)| Some((tool.get("url")?.as_str()?, tool))).collect()
}

fn reachable(scene: &Scene<'_>) -> Verdict {
    // One server may have many tools, each below a path of its own.
    let mut servers: Vec<(String, &str)> = Vec::new();
    for (url, _) in external(scene) {
        let server = reqwest::Url::parse(url)
            .map_or_else(|_| url.to_owned(), |url| url.origin().ascii_serialization());
        if !servers.iter().any(|(known, _)| *known == server) {
            servers.push((server, url));
        }
    }
    let asked = servers.iter().take(SERVERS_MAX);
    let silent: Vec<_> = asked
        .filter_map(|(_, url)| {
            scene.world.reach(url).err().map(|problem| format!("{}: {problem}", redact::url(url)))
        })
        .collect();
    if servers.is_empty() {
        return ok("no tool of your own is configured");
    }
    if silent.is_empty() {
        return ok(format!("{} servers of your own tools, each answers", servers.len().min(SERVERS_MAX)));
    }
    warning(
        format!("no answer within 2 s from {}", silent.join(", ")),
        "start the server, or mend tools.external.NAME.url or `egress` in dromia.yaml, or the network",
    )
}

fn encrypted(scene: &Scene<'_>) -> Verdict {
    let external = external(scene);
    let open: Vec<_> = external
        .iter()
        .filter(|(url, tool)| tool.get("secret").is_some() && is_open(url))
        .map(|(url, _)| redact::url(url))
        .collect();
    if open.is_empty() {
        return ok("no secret of a tool of your own leaves in the open");
    }
    warning(
        format!("secrets are sent in the open to {}", open.join(", ")),
        "write https in tools.external.NAME.url, and set the secret again for that server",
    )
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::super::plant::Planted;

    fn configured(url: &str, more: &str) -> Planted {
        let planted = Planted::sound();
        planted.configure(&format!(
            "tools: {{ external: {{ bank.pay: {{ description: Pays., url: '{url}'{more} }} }} }}\n"
        ));
        planted
    }

    #[test]
    fn a_server_of_a_tool_that_does_not_answer_is_named() {
        let mut planted = configured("http://127.0.0.1:9/pay", "");
        assert_eq!(planted.found("tools.reachable"), Severity::Ok);
        planted.world.reached = Err("connection refused".to_owned());
        let verdict = planted.verdict("tools.reachable");
        assert_eq!(verdict.severity, Severity::Warning);
        assert!(verdict.message.contains("http://127.0.0.1:9/pay: connection refused"), "{verdict:?}");
    }

    #[test]
    fn a_secret_that_leaves_in_the_open_is_told() {
        for (url, more, severity) in [
            ("https://bank.example/pay", ", secret: bank", Severity::Ok),
            ("http://127.0.0.1:9/pay", ", secret: bank", Severity::Ok),
            ("http://bank.example/pay", "", Severity::Ok),
            ("http://bank.example/pay", ", secret: bank", Severity::Warning),
        ] {
            assert_eq!(configured(url, more).found("tools.encrypted"), severity, "{url}{more}");
        }
    }
}
