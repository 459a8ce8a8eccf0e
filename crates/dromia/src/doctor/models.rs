//! The models: that the servers behind them can be reached. No key is sent and no model is called.

use super::config::visit_texts;
use super::{CheckContext, CheckResult, DoctorCheck, ok_result, warning_result};
use crate::redact;

pub(super) const CHECKS: &[DoctorCheck] = &[DoctorCheck { id: "models.reachable", run: check_reachable }];

/// The most servers that are asked.
const SERVERS_MAX: usize = 8;

fn check_reachable(scene: &CheckContext<'_>) -> CheckResult {
    let mut urls: Vec<&str> = Vec::new();
    if let Some(written) = scene.raw_config() {
        visit_texts(written, "", &mut |path, text| {
            if path.ends_with("base_url") && !urls.contains(&text) {
                urls.push(text);
            }
        });
    }
    let silent: Vec<_> = urls
        .iter()
        .take(SERVERS_MAX)
        .filter_map(|url| {
            scene.world.reach_url(url).err().map(|problem| format!("{}: {problem}", redact::redact_url(url)))
        })
        .collect();
    if urls.is_empty() {
        return ok_result("dromia.yaml has no server of models");
    }
    if silent.is_empty() {
        return ok_result(format!("all {} servers of models answer", urls.len().min(SERVERS_MAX)));
    }
    warning_result(
        format!("no answer within 2 s from {}", silent.join(", ")),
        "start the server, or correct base_url or `egress` in dromia.yaml, or the network",
    )
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::super::test_home::PlantedHome;

    #[test]
    fn an_unreachable_model_server_is_named() {
        let mut planted = PlantedHome::healthy_home();
        planted.write_config(
            "models: { default: { kind: openai, base_url: 'http://127.0.0.1:9/v1', model: m } }",
        );
        assert_eq!(planted.severity_of("models.reachable"), Severity::Ok);
        planted.world.reached = Err("connection refused".to_owned());
        let verdict = planted.result_of("models.reachable");
        assert_eq!(verdict.severity, Severity::Warning);
        assert!(verdict.message.contains("http://127.0.0.1:9/v1: connection refused"), "{verdict:?}");
    }
}
