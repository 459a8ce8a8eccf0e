//! Messages on their way out: given up, stuck, or sent where others can read along.

use jiff::Span;
use serde_json::Value;

use super::{Check, Scene, Server, Verdict, ok, warning};
use crate::redact;

pub(super) const CHECKS: &[Check] = &[
    Check { id: "outbox.stopped", run: stopped },
    Check { id: "outbox.waiting", run: waiting },
    Check { id: "outbox.encrypted", run: encrypted },
];

fn stopped(scene: &Scene<'_>) -> Verdict {
    let count = match scene.world.server() {
        Server::Answers(answers) => Some(answers.stopped),
        Server::Absent => scene.store().and_then(|store| store.stopped_deliveries().ok().flatten()),
        Server::Mute(_) => None,
    };
    match count {
        None => ok("nobody could be asked"),
        Some(0) => ok("no message is given up"),
        Some(count) => warning(
            if count == 1 {
                "1 message is given up, or was sent and may not have arrived".to_owned()
            } else {
                format!("{count} messages are given up, or were sent and may not have arrived")
            },
            "`dromia delivery list --state dead` and `--state unknown_after_send`, then `dromia delivery show` and \
             `redrive`",
        ),
    }
}

fn waiting(scene: &Scene<'_>) -> Verdict {
    let oldest = match scene.world.server() {
        Server::Answers(answers) => answers.oldest_delivery,
        Server::Absent => scene.store().and_then(|store| store.oldest_delivery_at().ok().flatten()),
        Server::Mute(_) => return ok("nobody could be asked"),
    };
    let Some(oldest) = oldest else { return ok("no message waits") };
    let is_old = oldest.checked_add(Span::new().minutes(10)).is_ok_and(|late| late < scene.world.now());
    if is_old {
        return warning(
            format!("a message waits since {oldest:.0}"),
            "`dromia delivery list --state failed` and `dromia delivery show` say why; mend its receiver, or \
             channels.NAME.url in dromia.yaml",
        );
    }
    ok(format!("a message waits since {oldest:.0}, not long"))
}

fn encrypted(scene: &Scene<'_>) -> Verdict {
    let channels = scene.written().and_then(|written| written.get("channels")).and_then(Value::as_object);
    let urls = channels.into_iter().flatten().filter_map(|(_, channel)| channel.get("url")?.as_str());
    let open: Vec<_> = urls.filter(|url| is_open(url)).map(redact::url).collect();
    if open.is_empty() {
        return ok("no answer leaves in the open");
    }
    warning(
        format!("answers are sent in the open to {}", open.join(", ")),
        "write https in channels.NAME.url; a signature hides nothing",
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
    use super::super::plant::Planted;

    #[test]
    fn messages_given_up_and_messages_that_wait_are_told() {
        let mut planted = Planted::sound();
        planted.world.answers().stopped = 2;
        assert_eq!(planted.found("outbox.stopped"), Severity::Warning);
        let now = planted.world.now;
        planted.world.answers().oldest_delivery = Some(now);
        assert_eq!(planted.found("outbox.waiting"), Severity::Ok);
        let old = now.checked_sub(jiff::Span::new().minutes(11)).expect("a time");
        planted.world.answers().oldest_delivery = Some(old);
        assert_eq!(planted.found("outbox.waiting"), Severity::Warning);
    }

    #[test]
    fn an_answer_that_leaves_in_the_open_is_told() {
        let planted = Planted::sound();
        for (url, severity) in [
            ("https://shop.example/hook", Severity::Ok),
            ("http://127.0.0.1:9/hook", Severity::Ok),
            ("http://[::1]:9/hook", Severity::Ok),
            ("http://localhost/hook", Severity::Ok),
            ("http://shop.example/hook", Severity::Warning),
            ("http://10.0.0.7/hook", Severity::Warning),
        ] {
            planted.configure(&format!(
                "channels:\n  orders: {{ kind: webhook, agent: ops, url: '{url}', secret: env:S }}\n"
            ));
            assert_eq!(planted.found("outbox.encrypted"), severity, "{url}");
        }
    }
}
