//! `status`: how the server stands.

use dromia_api::shown;
use dromia_api::status::{Damaged, Policy, Status};

use super::Cli;
use crate::error::Outcome;
use crate::exit::Exit;
use crate::output::{Output, pairs, time};

pub(super) async fn run(cli: &Cli<'_>, output: &mut Output<'_>) -> Outcome<Exit> {
    let status: Status = cli.client.get("/v1/status").await?;
    let is_sound = status.store.writable && status.store.damaged.is_none();
    output.show(&status, text)?;
    // A store that takes no writes, or is damaged, is a failure a script must notice.
    Ok(if is_sound { Exit::Done } else { Exit::Failed })
}

fn text(status: &Status) -> String {
    let load = status.load;
    let store = &status.store;
    let mode = match (store.writable, &store.read_only_cause) {
        (true, _) => "takes writes".to_owned(),
        (false, None) => "answers reads only".to_owned(),
        (false, Some(cause)) => format!("answers reads only: {cause}"),
    };
    let policy = status.policy.as_ref();
    pairs(&[
        ("version", status.version.clone()),
        ("started", format!("{} ({} s ago)", time(status.started_at), status.uptime_seconds)),
        ("draining", if status.draining { "yes".to_owned() } else { String::new() }),
        ("listening", status.listening.clone().unwrap_or_default()),
        ("tenants", status.tenants.to_string()),
        ("runs", format!("{} of {} active, {} ready", load.active, load.active_max, load.ready)),
        ("store", mode),
        ("damaged", store.damaged.as_ref().map(damaged).unwrap_or_default()),
        ("store size", format!("{} bytes, log {} bytes", store.file_bytes, store.wal_bytes)),
        ("commits", format!("{} ({} batches, {} rows)", store.commits, store.batches, store.rows)),
        ("policy", policy.map(counts).unwrap_or_default()),
        ("refused", policy.and_then(refused).unwrap_or_default()),
    ])
}

/// Says that the file is damaged, and what to do.
fn damaged(damaged: &Damaged) -> String {
    let problem = damaged.problem.as_ref().map(|problem| format!("; {}", shown(problem)));
    format!(
        "since {} (times met: {}{}): the rest is served; stop the server, look with `dromia doctor` and restore a backup",
        time(damaged.since),
        damaged.met,
        problem.unwrap_or_default(),
    )
}

/// Says which policy counts: its digest, and the files beside the built-in one.
fn counts(policy: &Policy) -> String {
    match &policy.files[..] {
        [] => policy.digest.to_string(),
        files => format!("{}: {}", policy.digest, shown(&files.join(", "))),
    }
}

/// Says what lies in the home and does not count.
fn refused(policy: &Policy) -> Option<String> {
    let refused = policy.refused.as_ref()?;
    let (problem, since) = (shown(&refused.problem), time(refused.since));
    Some(format!("what lies in policies/ does not count since {since}: {problem}"))
}

#[cfg(test)]
mod tests {
    use dromia_api::Digest;
    use dromia_api::status::{Load, PolicyRefused, Store};

    use super::*;

    #[test]
    fn a_read_only_store_is_told_with_its_cause() {
        let status = Status {
            version: "0.1.0".into(),
            started_at: "2026-01-02T03:04:05Z".parse().unwrap(),
            uptime_seconds: 9,
            draining: false,
            listening: Some("http://127.0.0.1:7741".into()),
            tenants: 2,
            load: Load { active: 1, ready: 0, active_max: 64 },
            store: Store {
                writable: false,
                read_only_cause: Some("no space left".into()),
                damaged: Some(Damaged {
                    since: "2026-01-02T03:04:07Z".parse().unwrap(),
                    met: 3,
                    problem: Some("the main file: database disk image is malformed".into()),
                }),
                wal_bytes: 1,
                file_bytes: 4096,
                commits: 7,
                batches: 8,
                rows: 9,
                writer_micros: 10,
                bytes_written: 11,
            },
            policy: Some(Policy {
                digest: Digest::default(),
                files: vec!["policies/a.rego".into(), "policies/b.rego".into()],
                refused: Some(PolicyRefused {
                    problem: "policies/a.rego:3:1: there is no function `foo` here".into(),
                    since: "2026-01-02T03:04:09Z".parse().unwrap(),
                }),
            }),
        };
        insta::assert_snapshot!(text(&status), @r"
        version     0.1.0
        started     2026-01-02 03:04:05Z (9 s ago)
        listening   http://127.0.0.1:7741
        tenants     2
        runs        1 of 64 active, 0 ready
        store       answers reads only: no space left
        damaged     since 2026-01-02 03:04:07Z (times met: 3; the main file: database disk image is malformed): the rest is served; stop the server, look with `dromia doctor` and restore a backup
        store size  4096 bytes, log 1 bytes
        commits     7 (8 batches, 9 rows)
        policy      0000000000000000000000000000000000000000000000000000000000000000: policies/a.rego, policies/b.rego
        refused     what lies in policies/ does not count since 2026-01-02 03:04:09Z: policies/a.rego:3:1: there is no function `foo` here
        ");
    }
}
