//! `status`: the state of the server.

use dromia_api::escape_hidden;
use dromia_api::status::{ConfigStatus, DamageStatus, NodeStatus, PolicyStatus};

use super::Cli;
use crate::error::Outcome;
use crate::exit::CommandExit;
use crate::output::{CommandOutput, draw_pairs, format_time};

pub(super) async fn run(cli: &Cli<'_>, output: &mut CommandOutput<'_>) -> Outcome<CommandExit> {
    let status: NodeStatus = cli.client.get("/v1/status").await?;
    let is_used = status.config.as_ref().is_none_or(|config| config.refused.is_none());
    let is_sound = is_used && status.store.writable && status.store.damaged.is_none();
    output.print_result(&status, status_text)?;
    // A store that takes no writes or is damaged, and a configuration that is not used, are failures a script must notice.
    Ok(if is_sound { CommandExit::Done } else { CommandExit::Failed })
}

fn status_text(status: &NodeStatus) -> String {
    let store = &status.store;
    let load = status
        .load
        .map(|load| format!("{} of {} active, {} ready", load.active, load.active_max, load.ready));
    let written = store.counters.map(|counters| {
        let size = format!("{} bytes, log {} bytes", counters.file_bytes, counters.wal_bytes);
        (size, format!("{} ({} batches, {} rows)", counters.commits, counters.batches, counters.rows))
    });
    let (size, commits) = written.unwrap_or_default();
    let mode = match (store.writable, &store.read_only_cause) {
        (true, _) => "takes writes".to_owned(),
        (false, None) => "only answers reads".to_owned(),
        (false, Some(cause)) => format!("only answers reads: {cause}"),
    };
    let (policy, config) = (status.policy.as_ref(), status.config.as_ref());
    draw_pairs(&[
        ("version", status.version.clone()),
        ("started", format!("{} ({} s ago)", format_time(status.started_at), status.uptime_seconds)),
        ("draining", if status.draining { "yes".to_owned() } else { String::new() }),
        ("listening", status.listening.clone().unwrap_or_default()),
        ("tenants", status.tenants.to_string()),
        ("runs", load.unwrap_or_default()),
        ("store", mode),
        ("damaged", store.damaged.as_ref().map(damage_notice).unwrap_or_default()),
        ("store size", size),
        ("commits", commits),
        ("policy", policy.map(policy_summary).unwrap_or_default()),
        ("refused", policy.and_then(policy_refusal_text).unwrap_or_default()),
        ("config", config.map(config_summary).unwrap_or_default()),
        ("config refused", config.and_then(config_refusal_text).unwrap_or_default()),
        ("next start", config.map(pending_text).unwrap_or_default()),
        ("disabled", config.map(|config| escape_hidden(&config.disabled.join("; "))).unwrap_or_default()),
    ])
}

/// Says which configuration counts, and loudly that it is not the one of the file.
fn config_summary(config: &ConfigStatus) -> String {
    let ConfigStatus { revision, since, is_fallback, .. } = config;
    let fallback = if *is_fallback {
        ", the last good one, because the file could not be used at the start"
    } else {
        ""
    };
    format!("revision {revision} since {}{fallback}", format_time(*since))
}

/// Says what is wrong with the file, and what to do.
fn config_refusal_text(config: &ConfigStatus) -> Option<String> {
    let refused = config.refused.as_ref()?;
    let (problem, since) = (escape_hidden(&refused.problem), format_time(refused.since));
    Some(format!(
        "the server has ignored dromia.yaml since {since}: {problem}; correct it, or go back with `dromia config \
         revert {}`",
        config.revision
    ))
}

/// Names the keys that wait for the next start.
fn pending_text(config: &ConfigStatus) -> String {
    if config.pending.is_empty() {
        return String::new();
    }
    format!("{} changed and take effect at the next start", escape_hidden(&config.pending.join(", ")))
}

/// Says that the file is damaged, and what to do.
fn damage_notice(damaged: &DamageStatus) -> String {
    let problem = damaged.problem.as_ref().map(|problem| format!("; {}", escape_hidden(problem)));
    format!(
        "since {}{}: the server answers requests for other data; stop it, run `dromia doctor` and restore a \
         backup",
        format_time(damaged.since),
        damaged.met.map_or_else(String::new, |met| format!(
            " (damaged rows read: {met}{})",
            problem.unwrap_or_default()
        )),
    )
}

/// Says which policy counts: its digest, and the files beside the built-in one.
fn policy_summary(policy: &PolicyStatus) -> String {
    match &policy.files[..] {
        [] => policy.digest.to_string(),
        files => format!("{}: {}", policy.digest, escape_hidden(&files.join(", "))),
    }
}

/// Says what lies in the home and does not count.
fn policy_refusal_text(policy: &PolicyStatus) -> Option<String> {
    let refused = policy.refused.as_ref()?;
    let (problem, since) = (escape_hidden(&refused.problem), format_time(refused.since));
    Some(format!("the server has ignored the files in policies/ since {since}: {problem}"))
}

#[cfg(test)]
mod tests {
    use dromia_api::Digest;
    use dromia_api::status::{ConfigRefused, LoadStatus, PolicyRefused, StoreCounters, StoreStatus};

    use super::*;

    #[test]
    fn a_read_only_store_is_shown_with_its_cause() {
        let status = NodeStatus {
            version: "0.1.0".into(),
            started_at: "2026-01-02T03:04:05Z".parse().unwrap(),
            uptime_seconds: 9,
            draining: false,
            listening: Some("http://127.0.0.1:7741".into()),
            tenants: 2,
            load: Some(LoadStatus { active: 1, ready: 0, active_max: 64 }),
            store: StoreStatus {
                writable: false,
                read_only_cause: Some("no space left".into()),
                damaged: Some(DamageStatus {
                    since: "2026-01-02T03:04:07Z".parse().unwrap(),
                    met: Some(3),
                    problem: Some("the main file: database disk image is malformed".into()),
                }),
                counters: Some(StoreCounters {
                    wal_bytes: 1,
                    file_bytes: 4096,
                    commits: 7,
                    batches: 8,
                    rows: 9,
                    writer_micros: 10,
                    bytes_written: 11,
                }),
            },
            policy: Some(PolicyStatus {
                digest: Digest::default(),
                files: vec!["policies/a.rego".into(), "policies/b.rego".into()],
                refused: Some(PolicyRefused {
                    problem: "policies/a.rego:3:1: there is no function `foo` here".into(),
                    since: "2026-01-02T03:04:09Z".parse().unwrap(),
                }),
            }),
            config: Some(ConfigStatus {
                revision: 7,
                digest: Digest::default(),
                since: "2026-01-02T03:04:05Z".parse().unwrap(),
                is_fallback: true,
                refused: Some(ConfigRefused {
                    problem: "dromia.yaml:3:1: unknown key `modles`".into(),
                    since: "2026-01-02T03:04:05Z".parse().unwrap(),
                }),
                pending: vec!["listen".into()],
                disabled: vec!["dromia.yaml:4:3: providers.a.key: the variable A is not set".into()],
            }),
        };
        insta::assert_snapshot!(status_text(&status), @r"
        version         0.1.0
        started         2026-01-02 03:04:05Z (9 s ago)
        listening       http://127.0.0.1:7741
        tenants         2
        runs            1 of 64 active, 0 ready
        store           only answers reads: no space left
        damaged         since 2026-01-02 03:04:07Z (damaged rows read: 3; the main file: database disk image is malformed): the server answers requests for other data; stop it, run `dromia doctor` and restore a backup
        store size      4096 bytes, log 1 bytes
        commits         7 (8 batches, 9 rows)
        policy          0000000000000000000000000000000000000000000000000000000000000000: policies/a.rego, policies/b.rego
        refused         the server has ignored the files in policies/ since 2026-01-02 03:04:09Z: policies/a.rego:3:1: there is no function `foo` here
        config          revision 7 since 2026-01-02 03:04:05Z, the last good one, because the file could not be used at the start
        config refused  the server has ignored dromia.yaml since 2026-01-02 03:04:05Z: dromia.yaml:3:1: unknown key `modles`; correct it, or go back with `dromia config revert 7`
        next start      listen changed and take effect at the next start
        disabled        dromia.yaml:4:3: providers.a.key: the variable A is not set
        ");
    }
}
