//! The store: that it opens, that its schema is known, and that its file is sound.
//!
//! While a server has it, the server is asked and the files are left alone.

use dromia_store::{
    BodiesOfRows, IntegrityStatus, LogLoss, OpenError, RowComparison, SqliteStore, StoreConfig,
};

use super::{
    CheckContext, CheckResult, DoctorCheck, PATIENCE, ServerProbe, error_result, ok_result, warning_result,
};
use crate::home::StorePresence;

pub(super) const CHECKS: &[DoctorCheck] = &[
    DoctorCheck { id: "store.opens", run: check_opens },
    DoctorCheck { id: "store.schema", run: check_schema },
    DoctorCheck { id: "store.writable", run: check_writable },
    DoctorCheck { id: "store.integrity", run: check_integrity },
    DoctorCheck { id: "store.log", run: check_wal_size },
    DoctorCheck { id: "store.bodies", run: check_bodies },
    DoctorCheck { id: "store.rows", run: check_rows },
];

const MIB: u64 = 1 << 20;
/// The log restarts below this while readers end in time.
const LOG_WARNING: u64 = 40 * MIB;

const RESTORE: &str =
    "stop the server, copy the home, and restore a backup as `dromia docs backup` describes";

fn check_opens(scene: &CheckContext<'_>) -> CheckResult {
    if let ServerProbe::Answers(_) = scene.world.server_probe() {
        return ok_result("a server has the store open");
    }
    if scene.home.config_path().is_file() {
        match scene.home.store_presence() {
            StorePresence::Store => {}
            StorePresence::Nothing => {
                let fix = "create the store with `dromia init`, which keeps dromia.yaml";
                return error_result("the home has no store", fix);
            }
            StorePresence::Remains { told } => return error_result(told, scene.home.restore_hint()),
        }
    }
    let Some(store) = scene.offline_inspector() else { return ok_result("there is no store to check") };
    match store.open() {
        Ok(()) => ok_result("the store is readable"),
        Err(problem) => error_result(format!("the store cannot be read: {}", error_chain(&problem)), RESTORE),
    }
}

fn check_schema(scene: &CheckContext<'_>) -> CheckResult {
    // Of a store that is lost `store.opens` tells.
    if !scene.home.store_dir().is_dir() || !matches!(scene.home.store_presence(), StorePresence::Store) {
        return ok_result("there is no store to check");
    }
    match SqliteStore::plan_migration(&StoreConfig::new(scene.home.store_dir())) {
        Ok(plan) if plan.steps.is_empty() => ok_result(format!("schema {}", plan.found)),
        // The header lags behind the log of a server that has just brought it up to date.
        Ok(plan) if matches!(scene.world.server_probe(), ServerProbe::Answers(_)) => {
            ok_result(format!("schema {}, and a server has the store open", plan.known))
        }
        Ok(plan) => warning_result(
            format!("the next start migrates schema {} to {}", plan.found, plan.known),
            "`dromia migrate state --dry-run` shows the steps; the migration writes a backup first",
        ),
        Err(OpenError::NewerSchema { found, known }) => error_result(
            format!("a newer program wrote schema {found}; this program supports {known}"),
            "use the newer program",
        ),
        Err(problem) => error_result(error_chain(&problem), RESTORE),
    }
}

fn check_writable(scene: &CheckContext<'_>) -> CheckResult {
    match scene.world.server_probe() {
        ServerProbe::Answers(answers) if !answers.status.store.writable => {
            let cause = answers.status.store.read_only_cause.as_deref().unwrap_or("a write failed");
            error_result(
                format!("the store only answers reads: {cause}"),
                "fix the cause, usually a full disk; the server retries by itself",
            )
        }
        ServerProbe::Answers(_) => ok_result("the store accepts writes"),
        ServerProbe::Absent | ServerProbe::Mute(_) => ok_result("no server writes to it"),
    }
}

fn check_integrity(scene: &CheckContext<'_>) -> CheckResult {
    if let ServerProbe::Answers(answers) = scene.world.server_probe() {
        return match &answers.status.store.damaged {
            Some(damaged) => {
                let (since, met) = (damaged.since, damaged.met.unwrap_or_default());
                let problem = damaged.problem.as_deref().unwrap_or("the server's log shows the place");
                error_result(
                    format!("the file is damaged (since {since}; damaged rows read: {met}): {problem}"),
                    RESTORE,
                )
            }
            None => ok_result(
                "a server has the store open and has read no damaged row; stop the server to check the whole \
                 file",
            ),
        };
    }
    let Some(store) = scene.offline_inspector() else {
        return ok_result("a server has the store open, or there is none");
    };
    match store.check_integrity() {
        Ok(IntegrityStatus::Sound) => ok_result(
            "every page, row and index is valid; `dromia audit verify` compares rows with their digests",
        ),
        Ok(IntegrityStatus::SoundSoFar) => ok_result(format!(
            "everything checked in {} s is valid; `dromia audit verify` checks the whole store",
            PATIENCE.as_secs()
        )),
        Ok(IntegrityStatus::Damaged(problem)) => {
            error_result(format!("the file is damaged: {problem}"), RESTORE)
        }
        Err(problem) => error_result(format!("the store cannot be read: {}", error_chain(&problem)), RESTORE),
    }
}

fn check_wal_size(scene: &CheckContext<'_>) -> CheckResult {
    let bytes = match scene.world.server_probe() {
        ServerProbe::Answers(answers) => {
            answers.status.store.counters.map_or(0, |counters| counters.wal_bytes)
        }
        ServerProbe::Absent | ServerProbe::Mute(_) => scene.store_inspector().log_bytes().unwrap_or_default(),
    };
    match scene.offline_inspector().map(|store| store.log_loss()) {
        Some(Ok(Some(LogLoss::Lost(problem)))) => return error_result(problem, RESTORE),
        Some(Ok(Some(LogLoss::Unproven(problem)))) => {
            return warning_result(
                problem,
                "compare the last messages with a backup, then start the server, which clears this warning",
            );
        }
        _ => {}
    }
    let text = format!("{} MiB are in the log", bytes / MIB);
    if bytes < LOG_WARNING {
        return ok_result(text);
    }
    warning_result(
        text,
        "wait for a backup that is being made, or end the program that reads the store for a long time, such as a \
         copy of the open file; a restart empties the log",
    )
}

fn check_bodies(scene: &CheckContext<'_>) -> CheckResult {
    let Some(store) = scene.offline_inspector() else {
        return ok_result("a server checks them, or there are none");
    };
    match store.bodies_of_rows() {
        Ok(BodiesOfRows { missing: 0, damaged: 0, .. }) => {}
        Ok(BodiesOfRows { rows, missing, damaged, .. }) => {
            let told = format!(
                "of {rows} bodies in files, {missing} are missing and {damaged} are unreadable or changed; \
                 their sessions cannot be read"
            );
            return error_result(told, RESTORE);
        }
        // The checks above report a store that cannot be read.
        Err(_) => return ok_result("failed to compare them with their rows"),
    }
    match store.unnamed_bodies() {
        Ok(0) => ok_result("every body file has a row, and every row has its file"),
        Ok(count) => warning_result(
            format!("{count} body files have no row; a crash left them"),
            "`dromia up` removes them at its next start",
        ),
        Err(_) => ok_result("failed to compare them with their rows"),
    }
}

/// How many rows that differ are named.
const NAMED_MAX: usize = 3;

fn check_rows(scene: &CheckContext<'_>) -> CheckResult {
    let Some(store) = scene.offline_inspector() else {
        return ok_result(
            "not compared: a server has the store open, or there is none; `dromia audit verify` compares them",
        );
    };
    match store.compare_rows() {
        Ok(RowComparison { mismatches, is_cut_off: false }) if mismatches.is_empty() => ok_result(
            "rows of sessions, state, keys, deliveries and budgets match their sources and their check values",
        ),
        Ok(RowComparison { mismatches, .. }) if mismatches.is_empty() => ok_result(format!(
            "the rows compared in {} s match; `dromia audit verify` compares all of them",
            PATIENCE.as_secs()
        )),
        Ok(RowComparison { mismatches, .. }) => {
            let named = mismatches.iter().take(NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join("; ");
            error_result(
                format!("{} rows do not match their source or their check value: {named}", mismatches.len()),
                format!(
                    "`dromia doctor --fix` rebuilds rows from journals and inboxes; for the rest {RESTORE}"
                ),
            )
        }
        // The checks above report a store that cannot be read.
        Err(_) => ok_result("not compared: the store cannot be read"),
    }
}

/// An error with its causes on one line.
pub(super) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.extend([format!(": {next}")]);
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;

    use dromia_api::status::DamageStatus;

    use super::super::Severity;
    use super::super::test_home::PlantedHome;
    use super::*;

    fn alone() -> PlantedHome {
        let mut planted = PlantedHome::healthy_home();
        planted.world.server = ServerProbe::Absent;
        planted
    }

    #[test]
    fn a_check_leaves_a_store_at_rest_unchanged() {
        let planted = alone();
        for check in CHECKS {
            assert_eq!(planted.severity_of(check.id), Severity::Ok, "{}", check.id);
        }
        assert!(!planted.home.store_dir().join("dromia.db-wal").exists(), "a look makes no log");
    }

    #[test]
    fn a_file_that_is_no_database_is_an_error() {
        let planted = alone();
        fs::write(planted.home.store_dir().join("dromia.db"), "x".repeat(9_000)).expect("is written");
        for id in ["store.opens", "store.schema", "store.integrity"] {
            assert_eq!(planted.severity_of(id), Severity::Error, "{id}");
        }
    }

    #[test]
    fn a_store_that_is_gone_is_an_error() {
        let planted = alone();
        fs::write(planted.home.store_dir().join("dromia.db"), "").expect("is written");
        assert_eq!(planted.severity_of("store.opens"), Severity::Error, "an empty file is no store");
        fs::remove_dir_all(planted.home.store_dir()).expect("is removed");
        assert_eq!(planted.severity_of("store.opens"), Severity::Error);
    }

    #[test]
    fn a_newer_schema_is_an_error() {
        let planted = alone();
        let file = planted.home.store_dir().join("dromia.db");
        let mut bytes = fs::read(&file).expect("is read");
        bytes[60..64].copy_from_slice(&99_u32.to_be_bytes());
        fs::write(&file, bytes).expect("is written");
        assert_eq!(planted.severity_of("store.schema"), Severity::Error);
    }

    #[test]
    fn a_long_log_and_a_read_only_store_are_reported() {
        let mut planted = PlantedHome::healthy_home();
        planted.world.status_mut().store.counters.get_or_insert_default().wal_bytes = 60 << 20;
        assert_eq!(planted.severity_of("store.log"), Severity::Warning);
        planted.world.status_mut().store.writable = false;
        assert_eq!(planted.severity_of("store.writable"), Severity::Error);
    }

    #[test]
    fn damage_found_by_a_server_is_an_error_with_fix() {
        let mut planted = PlantedHome::healthy_home();
        assert_eq!(planted.severity_of("store.integrity"), Severity::Ok);
        let problem = Some("the main file: database disk image is malformed".to_owned());
        planted.world.status_mut().store.damaged =
            Some(DamageStatus { since: planted.world.now, met: Some(2), problem });
        let verdict = planted.result_of("store.integrity");
        assert_eq!(verdict.severity, Severity::Error);
        assert!(verdict.message.contains("database disk image is malformed"), "{}", verdict.message);
        assert!(verdict.fix.is_some_and(|fix| fix.contains("restore a backup")));
    }

    #[test]
    fn a_body_without_a_row_is_reported() {
        let planted = alone();
        let blobs = planted.home.store_dir().join("blobs").join(format!("ten_{}", "1".repeat(32)));
        fs::create_dir_all(&blobs).expect("is made");
        fs::write(blobs.join("ab".repeat(32)), "nobody's").expect("is written");
        assert_eq!(planted.severity_of("store.bodies"), Severity::Warning);
    }
}
