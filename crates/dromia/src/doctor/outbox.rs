//! Outgoing messages: given up, stuck, or sent where others can read along.

use jiff::Span;
use serde_json::Value;

use super::{CheckContext, CheckResult, DoctorCheck, ServerProbe, ok_result, warning_result};
use crate::redact;

pub(super) const CHECKS: &[DoctorCheck] = &[
    DoctorCheck { id: "outbox.stopped", run: check_stopped },
    DoctorCheck { id: "outbox.waiting", run: check_waiting },
    DoctorCheck { id: "outbox.encrypted", run: check_encrypted },
];

fn check_stopped(scene: &CheckContext<'_>) -> CheckResult {
    let count = match scene.world.server_probe() {
        ServerProbe::Answers(answers) => Some(answers.stopped),
        ServerProbe::Absent => {
            scene.offline_inspector().and_then(|store| store.stopped_deliveries().ok().flatten())
        }
        ServerProbe::Mute(_) => None,
    };
    match count {
        None => ok_result("the server does not answer, so this was not checked"),
        Some(0) => ok_result("no message is dead"),
        Some(count) => warning_result(
            if count == 1 {
                "1 message is dead, or was sent and may not have arrived".to_owned()
            } else {
                format!("{count} messages are dead, or were sent and may not have arrived")
            },
            "`dromia delivery list --state dead` and `--state unknown_after_send`, then `dromia delivery show` and \
             `redrive`",
        ),
    }
}

fn check_waiting(scene: &CheckContext<'_>) -> CheckResult {
    let oldest = match scene.world.server_probe() {
        ServerProbe::Answers(answers) => answers.oldest_delivery,
        ServerProbe::Absent => {
            scene.offline_inspector().and_then(|store| store.oldest_delivery_at().ok().flatten())
        }
        ServerProbe::Mute(_) => return ok_result("the server does not answer, so this was not checked"),
    };
    let Some(oldest) = oldest else { return ok_result("no message waits") };
    let is_old = oldest.checked_add(Span::new().minutes(10)).is_ok_and(|late| late < scene.world.now());
    if is_old {
        return warning_result(
            format!("a message has waited since {oldest:.0}"),
            "`dromia delivery list --state failed` and `dromia delivery show` show the reason; correct its \
             receiver, or channels.NAME.url in dromia.yaml",
        );
    }
    ok_result(format!("a message has waited since {oldest:.0}, not long"))
}

fn check_encrypted(scene: &CheckContext<'_>) -> CheckResult {
    let channels = scene.raw_config().and_then(|written| written.get("channels")).and_then(Value::as_object);
    let urls = channels.into_iter().flatten().filter_map(|(_, channel)| channel.get("url")?.as_str());
    let open: Vec<_> = urls.filter(|url| is_open(url)).map(redact::redact_url).collect();
    if open.is_empty() {
        return ok_result("no channel sends answers without encryption");
    }
    warning_result(
        format!("channels send answers without encryption to {}", open.join(", ")),
        "write https in channels.NAME.url; a signature does not hide the text",
    )
}

/// Tells whether what is sent to an address can be read on its way.
pub(super) fn is_open(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_near = host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
    url.scheme() == "http" && !is_near
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::super::test_home::PlantedHome;

    #[test]
    fn abandoned_and_waiting_messages_are_reported() {
        let mut planted = PlantedHome::healthy_home();
        planted.world.answers_mut().stopped = 2;
        assert_eq!(planted.severity_of("outbox.stopped"), Severity::Warning);
        let now = planted.world.now;
        planted.world.answers_mut().oldest_delivery = Some(now);
        assert_eq!(planted.severity_of("outbox.waiting"), Severity::Ok);
        let old = now.checked_sub(jiff::Span::new().minutes(11)).expect("a time");
        planted.world.answers_mut().oldest_delivery = Some(old);
        assert_eq!(planted.severity_of("outbox.waiting"), Severity::Warning);
    }

    #[test]
    fn an_unencrypted_webhook_channel_is_reported() {
        let planted = PlantedHome::healthy_home();
        for (url, severity) in [
            ("https://shop.example/hook", Severity::Ok),
            ("http://127.0.0.1:9/hook", Severity::Ok),
            ("http://[::1]:9/hook", Severity::Ok),
            ("http://localhost/hook", Severity::Ok),
            ("http://shop.example/hook", Severity::Warning),
            ("http://10.0.0.7/hook", Severity::Warning),
        ] {
            planted.write_config(&format!(
                "channels:\n  orders: {{ kind: webhook, agent: ops, url: '{url}', secret: env:S }}\n"
            ));
            assert_eq!(planted.severity_of("outbox.encrypted"), severity, "{url}");
        }
    }
}
