//! The models: that the servers behind them can be reached. No key is sent and no model is called.

use super::config::texts;
use super::{Check, Scene, Verdict, ok, warning};
use crate::redact;

pub(super) const CHECKS: &[Check] = &[Check { id: "models.reachable", run: reachable }];

/// The most servers that are asked.
const SERVERS_MAX: usize = 8;

fn reachable(scene: &Scene<'_>) -> Verdict {
    let mut urls: Vec<&str> = Vec::new();
    if let Some(written) = scene.written() {
        texts(written, "", &mut |path, text| {
            if path.ends_with("base_url") && !urls.contains(&text) {
                urls.push(text);
            }
        });
    }
    let silent: Vec<_> = urls
        .iter()
        .take(SERVERS_MAX)
        .filter_map(|url| {
            scene.world.reach(url).err().map(|problem| format!("{}: {problem}", redact::url(url)))
        })
        .collect();
    if urls.is_empty() {
        return ok("no server of models is configured");
    }
    if silent.is_empty() {
        return ok(format!("{} servers of models, each answers", urls.len().min(SERVERS_MAX)));
    }
    warning(
        format!("no answer within 2 s from {}", silent.join(", ")),
        "start the server, or mend base_url or `egress` in dromia.yaml, or the network",
    )
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::super::plant::Planted;

    #[test]
    fn a_server_of_a_model_that_does_not_answer_is_named() {
        let mut planted = Planted::sound();
        planted
            .configure("models: { default: { kind: openai, base_url: 'http://127.0.0.1:9/v1', model: m } }");
        assert_eq!(planted.found("models.reachable"), Severity::Ok);
        planted.world.reached = Err("connection refused".to_owned());
        let verdict = planted.verdict("models.reachable");
        assert_eq!(verdict.severity, Severity::Warning);
        assert!(verdict.message.contains("http://127.0.0.1:9/v1: connection refused"), "{verdict:?}");
    }
}
