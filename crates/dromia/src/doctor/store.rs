//! The store: that it opens, that its schema is known, and that its file is sound.
//!
//! While a server has it, the server is asked and the files are left alone.

use dromia_store::{OpenError, Soundness, SqliteStore, StoreConfig};

use super::{Check, PATIENCE, Scene, Server, Verdict, error, ok, warning};
use crate::home::Kept;

pub(super) const CHECKS: &[Check] = &[
    Check { id: "store.opens", run: opens },
    Check { id: "store.schema", run: schema },
    Check { id: "store.writable", run: writable },
    Check { id: "store.integrity", run: integrity },
    Check { id: "store.log", run: log },
    Check { id: "store.bodies", run: bodies },
];

const MIB: u64 = 1 << 20;
/// The log begins anew below this while readers end in time.
const LOG_WARNING: u64 = 40 * MIB;

const RESTORE: &str =
    "stop the server, keep a copy of the home, and restore a backup, as docs/backup.md says";

fn opens(scene: &Scene<'_>) -> Verdict {
    if let Server::Answers(_) = scene.world.server() {
        return ok("a server has it");
    }
    if scene.home.config().is_file() {
        match scene.home.kept() {
            Kept::Store => {}
            Kept::Nothing => {
                let fix = "make the rest of the home with `dromia init`, which keeps dromia.yaml";
                return error("the home has no store", fix);
            }
            Kept::Remains { told } => return error(told, scene.home.restore()),
        }
    }
    let Some(store) = scene.store() else { return ok("there is none to look at") };
    match store.open() {
        Ok(()) => ok("it can be read"),
        Err(problem) => error(format!("it cannot be read: {}", chain(&problem)), RESTORE),
    }
}

fn schema(scene: &Scene<'_>) -> Verdict {
    // Of a store that is lost `store.opens` tells.
    if !scene.home.store().is_dir() || !matches!(scene.home.kept(), Kept::Store) {
        return ok("there is none to look at");
    }
    match SqliteStore::plan(&StoreConfig::new(scene.home.store())) {
        Ok(plan) if plan.steps.is_empty() => ok(format!("schema {}", plan.found)),
        // The header lags behind the log of a server that has just brought it up to date.
        Ok(plan) if matches!(scene.world.server(), Server::Answers(_)) => {
            ok(format!("schema {}, and a server has it", plan.known))
        }
        Ok(plan) => warning(
            format!("schema {} becomes {} at the next start", plan.found, plan.known),
            "`dromia migrate state --dry-run` says what happens; a backup is written first",
        ),
        Err(OpenError::NewerSchema { found, known }) => error(
            format!("a newer program wrote schema {found}; this one knows {known}"),
            "use the newer program",
        ),
        Err(problem) => error(chain(&problem), RESTORE),
    }
}

fn writable(scene: &Scene<'_>) -> Verdict {
    match scene.world.server() {
        Server::Answers(answers) if !answers.status.store.writable => {
            let cause = answers.status.store.read_only_cause.as_deref().unwrap_or("a write failed");
            error(
                format!("the store answers reads only: {cause}"),
                "mend the cause, most often a full disk; the server tries again by itself",
            )
        }
        Server::Answers(_) => ok("it takes writes"),
        Server::Absent | Server::Mute(_) => ok("no server writes to it"),
    }
}

fn integrity(scene: &Scene<'_>) -> Verdict {
    if let Server::Answers(answers) = scene.world.server() {
        return match &answers.status.store.damaged {
            Some(damaged) => {
                let (since, met) = (damaged.since, damaged.met);
                let problem = damaged.problem.as_deref().unwrap_or("the server's log says where");
                error(format!("the file is damaged since {since} (times met: {met}): {problem}"), RESTORE)
            }
            None => {
                ok("a server has it, and nothing that it read or wrote was damaged; all of it is looked at \
                        once the server is stopped")
            }
        };
    }
    let Some(store) = scene.store() else { return ok("a server has it, or there is none") };
    match store.soundness() {
        Ok(Soundness::Sound) => ok(
            "every page, row and index fits; `dromia audit verify` compares what they say with its digests",
        ),
        Ok(Soundness::SoundSoFar) => ok(format!(
            "what could be looked at in {} s fits; `dromia audit verify` takes the time for all of it",
            PATIENCE.as_secs()
        )),
        Ok(Soundness::Damaged(problem)) => error(format!("the file is damaged: {problem}"), RESTORE),
        Err(problem) => error(format!("it cannot be read: {}", chain(&problem)), RESTORE),
    }
}

fn log(scene: &Scene<'_>) -> Verdict {
    let bytes = match scene.world.server() {
        Server::Answers(answers) => answers.status.store.wal_bytes,
        Server::Absent | Server::Mute(_) => scene.inspector().log_bytes().unwrap_or_default(),
    };
    let text = format!("{} MiB wait in the log", bytes / MIB);
    if bytes < LOG_WARNING {
        return ok(text);
    }
    warning(
        text,
        "end what reads the store for long, such as a copy of the open file; a restart empties the log",
    )
}

fn bodies(scene: &Scene<'_>) -> Verdict {
    let Some(store) = scene.store() else { return ok("a server looks after them, or there are none") };
    match store.unnamed_bodies() {
        Ok(0) => ok("each file of a body has its row"),
        Ok(count) => warning(
            format!("{count} files of bodies have no row; a crash left them"),
            "the next start removes them: `dromia up`",
        ),
        // A store that cannot be read is told by the checks above.
        Err(_) => ok("they could not be compared with their rows"),
    }
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
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

    use dromia_api::status::Damaged;

    use super::super::Severity;
    use super::super::plant::Planted;
    use super::*;

    fn alone() -> Planted {
        let mut planted = Planted::sound();
        planted.world.server = Server::Absent;
        planted
    }

    #[test]
    fn a_store_at_rest_is_looked_at_and_left_as_it_was() {
        let planted = alone();
        for check in CHECKS {
            assert_eq!(planted.found(check.id), Severity::Ok, "{}", check.id);
        }
        assert!(!planted.home.store().join("dromia.db-wal").exists(), "a look makes no log");
    }

    #[test]
    fn a_file_that_is_no_database_is_an_error() {
        let planted = alone();
        fs::write(planted.home.store().join("dromia.db"), "x".repeat(9_000)).expect("is written");
        for id in ["store.opens", "store.schema", "store.integrity"] {
            assert_eq!(planted.found(id), Severity::Error, "{id}");
        }
    }

    #[test]
    fn a_store_that_is_gone_is_an_error() {
        let planted = alone();
        fs::write(planted.home.store().join("dromia.db"), "").expect("is written");
        assert_eq!(planted.found("store.opens"), Severity::Error, "an empty file is no store");
        fs::remove_dir_all(planted.home.store()).expect("is removed");
        assert_eq!(planted.found("store.opens"), Severity::Error);
    }

    #[test]
    fn a_schema_of_tomorrow_is_an_error() {
        let planted = alone();
        let file = planted.home.store().join("dromia.db");
        let mut bytes = fs::read(&file).expect("is read");
        bytes[60..64].copy_from_slice(&99_u32.to_be_bytes());
        fs::write(&file, bytes).expect("is written");
        assert_eq!(planted.found("store.schema"), Severity::Error);
    }

    #[test]
    fn a_server_that_cannot_write_or_copy_its_log_is_told() {
        let mut planted = Planted::sound();
        planted.world.status().store.wal_bytes = 60 << 20;
        assert_eq!(planted.found("store.log"), Severity::Warning);
        planted.world.status().store.writable = false;
        assert_eq!(planted.found("store.writable"), Severity::Error);
    }

    #[test]
    fn damage_that_a_server_met_is_an_error_that_tells_the_way_out() {
        let mut planted = Planted::sound();
        assert_eq!(planted.found("store.integrity"), Severity::Ok);
        let problem = Some("the main file: database disk image is malformed".to_owned());
        planted.world.status().store.damaged = Some(Damaged { since: planted.world.now, met: 2, problem });
        let verdict = planted.verdict("store.integrity");
        assert_eq!(verdict.severity, Severity::Error);
        assert!(verdict.message.contains("database disk image is malformed"), "{}", verdict.message);
        assert!(verdict.fix.is_some_and(|fix| fix.contains("restore a backup")));
    }

    #[test]
    fn a_body_without_a_row_is_told() {
        let planted = alone();
        let blobs = planted.home.store().join("blobs").join(format!("ten_{}", "1".repeat(32)));
        fs::create_dir_all(&blobs).expect("is made");
        fs::write(blobs.join("ab".repeat(32)), "nobody's").expect("is written");
        assert_eq!(planted.found("store.bodies"), Severity::Warning);
    }
}
