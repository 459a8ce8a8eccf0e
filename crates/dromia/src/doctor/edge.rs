//! The edge: the files of TLS, who can reach the server, and what one token may take of it.
//!
//! Asked of the configuration as it would be resolved now; `config.valid` reports one that is not valid.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use dromia_gateway::TlsFiles;
use dromia_gateway::tls::inspect_certificate;

use super::{CheckContext, CheckResult, DoctorCheck, ServerProbe, error_result, ok_result, warning_result};
use crate::config::{self, ResolvedConfig};

pub(super) const CHECKS: &[DoctorCheck] = &[
    DoctorCheck { id: "tls.files", run: check_tls_files },
    DoctorCheck { id: "tls.expiry", run: check_tls_expiry },
    DoctorCheck { id: "edge.reach", run: check_listener_exposure },
    DoctorCheck { id: "edge.limits", run: check_token_limits },
    DoctorCheck { id: "edge.actors", run: check_actor_limits },
];

/// From how many days on a certificate should be renewed.
const DAYS_WARNING: i64 = 21;

/// What is said where the configuration cannot be asked: what was not looked at is not called sound.
pub(super) fn unchecked_result(scene: &CheckContext<'_>) -> CheckResult {
    if !scene.home.config_path().is_file() {
        return ok_result("there is no dromia.yaml to check");
    }
    warning_result("not checked: dromia.yaml is not valid", "`dromia doctor --only config` shows the mistake")
}

pub(super) fn resolved_config(scene: &CheckContext<'_>) -> Option<ResolvedConfig> {
    scene.home.config_path().is_file().then(|| config::load_resolved(scene.home, &[]).ok()).flatten()
}

/// The files of TLS, or what is said without them.
fn configured_tls(scene: &CheckContext<'_>) -> Result<TlsFiles, CheckResult> {
    let resolved = resolved_config(scene).ok_or_else(|| unchecked_result(scene))?;
    let files = resolved.server.tls.map(|files| files.relative_to(scene.home.root_dir()));
    files.ok_or_else(|| ok_result("TLS is not used"))
}

fn check_tls_files(scene: &CheckContext<'_>) -> CheckResult {
    let files = match configured_tls(scene) {
        Ok(files) => files,
        Err(verdict) => return verdict,
    };
    if let Err(problem) = inspect_certificate(&files) {
        return error_result(
            problem.to_string(),
            "correct the files, or http.tls in dromia.yaml; then restart the server",
        );
    }
    if is_open_to_all(&files.key) {
        return warning_result(
            format!("every user of this machine can read {}", files.key.display()),
            format!(
                "run chmod 600 {}, and get a new key if another user may have read it",
                files.key.display()
            ),
        );
    }
    ok_result(format!("{} and its key match", files.cert.display()))
}

fn is_open_to_all(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o007 != 0)
}

fn check_tls_expiry(scene: &CheckContext<'_>) -> CheckResult {
    let files = match configured_tls(scene) {
        Ok(files) => files,
        Err(verdict) => return verdict,
    };
    let Ok(validity) = inspect_certificate(&files) else {
        return ok_result("there is no certificate to check");
    };
    let cert = files.cert.display();
    let renew = format!("renew {cert}; a running server loads the new one within a minute");
    let now = scene.world.now();
    let days = validity.not_after.duration_since(now).as_hours() / 24;
    if now < validity.not_before {
        return warning_result(
            format!("{cert} is not valid before {}", validity.not_before),
            "wait, use another certificate, or correct the clock",
        );
    }
    if validity.not_after < now {
        return error_result(
            format!("{cert} expired at {}, so clients refuse it", validity.not_after),
            renew,
        );
    }
    if days < DAYS_WARNING {
        return warning_result(format!("{cert} expires in {days} days"), renew);
    }
    ok_result(format!("{cert} expires in {days} days"))
}

/// The address on which a running server listens; it may differ from the address in the file.
fn listening_address(scene: &CheckContext<'_>) -> Option<SocketAddr> {
    let ServerProbe::Answers(answers) = scene.world.server_probe() else { return None };
    let (_, address) = answers.status.listening.as_deref()?.split_once("://")?;
    address.parse().ok()
}

fn check_listener_exposure(scene: &CheckContext<'_>) -> CheckResult {
    let Some(resolved) = resolved_config(scene) else { return unchecked_result(scene) };
    let address = listening_address(scene).unwrap_or(resolved.server.listen);
    if address.ip().to_canonical().is_loopback() {
        return ok_result(format!("only this machine can reach {address}"));
    }
    if resolved.server.hosts.is_empty() {
        return warning_result(
            format!("other machines can reach {address}, and it serves no host name"),
            "list the names of its certificate under http.hosts in dromia.yaml",
        );
    }
    ok_result(format!(
        "other machines can reach {address}, with TLS, as {}",
        resolved.server.hosts.join(", ")
    ))
}

fn check_token_limits(scene: &CheckContext<'_>) -> CheckResult {
    let Some(resolved) = resolved_config(scene) else { return unchecked_result(scene) };
    let limits = resolved.gateway_config(None);
    let at_a_time = format!(
        "{} requests and {} streams at a time",
        limits.callers.token_requests_max, limits.callers.token_streams_max
    );
    if limits.callers.token_rate_max > 0 {
        return ok_result(format!(
            "a token may send {} requests per second, {at_a_time}",
            limits.callers.token_rate_max
        ));
    }
    let said = format!("a token may have {at_a_time}, at any rate");
    if resolved.server.listen.ip().to_canonical().is_loopback() {
        return ok_result(said);
    }
    warning_result(
        format!("{said}, and other machines can reach this server"),
        "set limits.token_rate_max in dromia.yaml to what an honest client needs",
    )
}

/// An actor behind a channel is known to the other system alone, so the channel's key bounds no single actor.
fn check_actor_limits(scene: &CheckContext<'_>) -> CheckResult {
    let Some(resolved) = resolved_config(scene) else { return unchecked_result(scene) };
    let rate = resolved.server.limits.actor_inputs_per_minute_max;
    if rate > 0 {
        return ok_result(format!("an actor may send {rate} inputs per minute"));
    }
    let said = "an actor may send inputs at any rate";
    if resolved.channels.webhook_channels().next().is_none()
        || resolved.server.listen.ip().to_canonical().is_loopback()
    {
        return ok_result(said);
    }
    warning_result(
        format!("{said}, and other machines can reach the channels of this server"),
        "set limits.actor_inputs_per_minute_max in dromia.yaml to what one person needs",
    )
}

#[cfg(test)]
mod tests {
    use dromia_testkit::tls::{CERTIFICATE, EXPIRED, KEY, OTHER_KEY};

    use super::super::Severity;
    use super::super::test_home::{PlantedHome, set_mode};
    fn planted(cert: &str, key: &str) -> PlantedHome {
        let planted = PlantedHome::healthy_home();
        std::fs::write(planted.home.root_dir().join("cert.pem"), cert).expect("is written");
        let path = planted.home.root_dir().join("key.pem");
        std::fs::write(&path, key).expect("is written");
        set_mode(&path, 0o600);
        configured(&planted, "");
        planted
    }

    fn configured(planted: &PlantedHome, more: &str) {
        planted.write_config(&format!(
            "version: 1\nmodels: {{ default: {{ kind: scripted }} }}\n{more}\nhttp:\n  tls: {{ cert: cert.pem, key: key.pem }}\n"
        ));
    }

    #[test]
    fn matching_tls_files_pass_and_their_expiry_is_reported() {
        let planted = planted(CERTIFICATE, KEY);
        assert_eq!(planted.severity_of("tls.files"), Severity::Ok);
        let verdict = planted.result_of("tls.expiry");
        assert_eq!(verdict.severity, Severity::Ok);
        assert!(verdict.message.ends_with("expires in 35642 days"), "{verdict:?}");
    }

    #[test]
    fn mismatched_missing_or_exposed_tls_files_are_reported() {
        let wrong = planted(CERTIFICATE, OTHER_KEY);
        assert_eq!(wrong.severity_of("tls.files"), Severity::Error);
        let open = planted(CERTIFICATE, KEY);
        set_mode(&open.home.root_dir().join("key.pem"), 0o644);
        assert_eq!(open.severity_of("tls.files"), Severity::Warning);
        std::fs::remove_file(open.home.root_dir().join("cert.pem")).expect("is removed");
        let verdict = open.result_of("tls.files");
        assert_eq!(verdict.severity, Severity::Error);
        assert!(verdict.message.contains("cert.pem cannot be read"), "{verdict:?}");
    }

    #[test]
    fn an_expiring_expired_or_not_yet_valid_certificate_is_reported() {
        let mut planted = planted(EXPIRED, KEY);
        for (now, found) in [
            ("2024-12-31T00:00:00Z", Severity::Warning),
            ("2025-06-01T00:00:00Z", Severity::Ok),
            ("2026-01-20T00:00:00Z", Severity::Warning),
            ("2026-02-02T00:00:00Z", Severity::Error),
        ] {
            planted.world.now = now.parse().expect("a time");
            assert_eq!(planted.severity_of("tls.expiry"), found, "{now}");
        }
    }

    #[test]
    fn a_skipped_check_is_not_reported_as_passed() {
        let planted = planted(CERTIFICATE, KEY);
        let ids = [
            "tls.files",
            "tls.expiry",
            "edge.reach",
            "edge.limits",
            "edge.actors",
            "vault.named",
            "config.names",
        ];
        planted.write_config("version: 1\nlisten: [\n");
        for id in ids {
            let verdict = planted.result_of(id);
            assert_eq!(verdict.severity, Severity::Warning, "{id}: {verdict:?}");
            assert!(verdict.fix.is_some_and(|fix| fix.contains("--only config")), "{id}");
        }
        std::fs::remove_file(planted.home.config_path()).expect("is removed");
        for id in ids {
            assert_eq!(planted.severity_of(id), Severity::Ok, "{id}: a home may do without the file");
        }
    }

    #[test]
    fn a_public_server_needs_host_names_and_a_rate_limit() {
        let planted = planted(CERTIFICATE, KEY);
        assert_eq!(
            (planted.severity_of("edge.reach"), planted.severity_of("edge.limits")),
            (Severity::Ok, Severity::Ok)
        );
        configured(&planted, "listen: 0.0.0.0:7700");
        let found = (planted.severity_of("edge.reach"), planted.severity_of("edge.limits"));
        assert_eq!(found, (Severity::Warning, Severity::Warning));
        planted.write_config(
            "version: 1\nlisten: 0.0.0.0:7700\nlimits: { token_rate_max: 50 }\nhttp:\n  hosts: [agents.example]\n  tls: { cert: cert.pem, key: key.pem }\n",
        );
        let verdict = planted.result_of("edge.limits");
        assert_eq!((planted.severity_of("edge.reach"), verdict.severity), (Severity::Ok, Severity::Ok));
        assert!(verdict.message.contains("50 requests per second"), "{verdict:?}");
    }

    #[test]
    fn public_channels_need_a_rate_limit_for_each_actor() {
        let planted = planted(CERTIFICATE, KEY);
        let channel = "channels:\n  in: { kind: webhook, agent: ops, url: 'https://shop.example/', secret: 'secret:in' }";
        for (more, found) in [
            ("listen: 0.0.0.0:7700".to_owned(), Severity::Ok),
            (channel.to_owned(), Severity::Ok),
            (format!("listen: 0.0.0.0:7700\n{channel}"), Severity::Warning),
            (
                format!("listen: 0.0.0.0:7700\nlimits: {{ actor_inputs_per_minute_max: 6 }}\n{channel}"),
                Severity::Ok,
            ),
        ] {
            configured(&planted, &more);
            let verdict = planted.result_of("edge.actors");
            assert_eq!(verdict.severity, found, "{more}: {verdict:?}");
            assert_eq!(
                verdict.message.contains("6 inputs per minute"),
                more.contains("limits"),
                "{verdict:?}"
            );
        }
    }
}
