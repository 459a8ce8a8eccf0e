//! The policy that counts while a server runs: what the folder holds at its start, and what changes there later.
//!
//! A wrong policy keeps a server from starting. Later the folder is looked at every two seconds: what changed counts from then
//! on, and where it is wrong the last good one goes on to count and the log says so, with the place. What is wrong never
//! counts in part.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use dromia_contracts::runtime::Clock;
use dromia_guard::PolicyEngine;
use dromia_guard::policy::PolicyProblem;
use jiff::Timestamp;

use super::{Counted, PolicyTexts, TEST};
use crate::home::Home;
use crate::policy::directory::{PlaceOf, place_of};
use crate::policy::summary;
use crate::system::ExitError;

/// How often a server looks whether the folder changed.
const LOOK: Duration = Duration::from_secs(2);

/// What a server knows of the folder.
struct PolicyFolderState {
    /// What the last look found.
    found: Result<PolicyTexts, PolicyProblem>,
    /// Whether that counts: texts that were read may still be wrong.
    is_good: bool,
    /// The folders whose policies count: those of the last good texts.
    counted: Counted,
    place_of: PlaceOf,
}

impl PolicyFolderState {
    /// Knows what counts.
    fn from_counted(texts: PolicyTexts, counted: Counted) -> Self {
        Self { found: Ok(texts), is_good: true, counted, place_of }
    }

    /// Forgets the identity of a folder that is gone: the next one there was made on purpose. A link that leads nowhere
    /// and what cannot be looked at are not gone.
    fn forget_gone(&mut self, home: &Home) {
        for (folder, place) in &mut self.counted {
            let looked = std::fs::symlink_metadata(home.root_dir().join(folder));
            if looked.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                *place = None;
            }
        }
    }
}

/// Lets the folder's policy count, or says why it cannot; goes on to look for changes in the background.
pub(crate) fn follow_folder(
    home: &Home,
    policies: &PolicyEngine,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<()> {
    let read = PolicyTexts::read_after(home, &Counted::new(), place_of);
    let read = read.and_then(|(texts, counted)| {
        texts.compile_layers(policies.evaluator()).map(|layers| (texts, counted, layers))
    });
    let (texts, counted, layers) = read.map_err(|problem| {
        tracing::error!(%problem, "a policy is not valid, so the server does not start");
        ExitError::usage_of(problem)
    })?;
    policies.replace_layers(layers);
    tracing::info!(digest = %policies.instance_digest(), files = file_names(&texts), "loaded the policy");
    log_unused_files(home, &texts);
    let (home, policies) = (home.clone(), policies.clone());
    tokio::spawn(async move {
        let mut known = PolicyFolderState::from_counted(texts, counted);
        loop {
            tokio::time::sleep(LOOK).await;
            let (home, policies, clock) = (home.clone(), policies.clone(), Arc::clone(&clock));
            let looking = tokio::task::spawn_blocking(move || {
                look_and_tell(&home, &policies, &mut known, clock.now());
                known
            });
            let Ok(found) = looking.await else {
                tracing::error!(
                    "the server no longer checks policies/ for changes and keeps the current policy"
                );
                return;
            };
            known = found;
        }
    });
    Ok(())
}

/// Polls the folder once, and reports the result in the log and in the status of the server.
fn look_and_tell(home: &Home, policies: &PolicyEngine, known: &mut PolicyFolderState, now: Timestamp) {
    match poll_folder(home, policies, known) {
        Ok(false) => {}
        Ok(true) => {
            let files = known.found.as_ref().map(file_names).unwrap_or_default();
            tracing::warn!(digest = %policies.instance_digest(), files, "loaded a changed policy");
            if let Ok(texts) = &known.found {
                log_unused_files(home, texts);
            }
        }
        Err(problem) => {
            policies.note_refused(&problem, now);
            tracing::error!(%problem, "a policy is not valid, so the server keeps the last valid one");
        }
    }
}

/// The files that count, for the log.
fn file_names(texts: &PolicyTexts) -> String {
    let all = texts.instance.iter().chain(texts.tenants.values().flatten());
    let names: Vec<_> = all.map(|file| file.name.as_str()).filter(|name| !name.ends_with(TEST)).collect();
    names.join(" ")
}

/// Logs which files have no effect.
fn log_unused_files(home: &Home, texts: &PolicyTexts) {
    for row in summary::file_rows(home, texts).unwrap_or_default() {
        if let Some(warning) = row.warning {
            tracing::warn!(file = row.file, warning, "a policy of the home forbids nothing");
        }
    }
}

/// Lets count what changed since the last look, if anything did and all of it is right.
fn poll_folder(
    home: &Home,
    policies: &PolicyEngine,
    known: &mut PolicyFolderState,
) -> Result<bool, PolicyProblem> {
    let (found, there) = match PolicyTexts::read_after(home, &known.counted, known.place_of) {
        Ok((texts, there)) => (Ok(texts), there),
        Err(problem) => {
            known.forget_gone(home);
            (Err(problem), Counted::new())
        }
    };
    if found == known.found {
        // The same policies may be in another directory from now on. Wrong ones say nothing of their directory: they
        // may have been written to the bare folder that a lost mount left.
        if known.is_good {
            known.counted = there;
        }
        return Ok(false);
    }
    let good = found.as_ref().map_err(Clone::clone);
    let good = good.and_then(|texts| texts.compile_layers(policies.evaluator()));
    known.found = found;
    known.is_good = good.is_ok();
    policies.replace_layers(good?);
    known.counted = there;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicU64, Ordering};

    use dromia_contracts::gate::{GateAction, Principal};
    use dromia_contracts::label::Label;
    use dromia_contracts::plan::PlanContext;
    use dromia_contracts::{Actor, ScopeAuthority, TenantId};
    use dromia_guard::policy::{PolicyLayer, PolicyText, PolicyVerdict};
    use dromia_testkit::answer_of;

    use super::super::tenant_folder;
    use super::super::tests::{RULE, home};
    use super::*;

    #[test]
    fn a_policy_that_becomes_wrong_leaves_the_last_good_one() {
        let deny = RULE.replace("== 2", "== 1");
        let (dir, home) = home(&[("a.rego", RULE)]);
        let path = dir.path().join("policies/a.rego");
        let policies = PolicyEngine::built_in().expect("the shipped policy compiles");
        let scope = ScopeAuthority::claim().issue_scope(TenantId::from_bytes([1; 16]), Actor::new("cli:ada"));
        let is_denied = || {
            let (author, context) = (scope.actor(), Label::PUBLIC_FACT);
            let principal = Principal {
                scope: &scope,
                author,
                grants: &[],
                context,
                endorsed: &[],
                plan: PlanContext::OPEN,
            };
            let judged =
                answer_of(policies.judge_action(principal, GateAction::Model { model: "m" }, "grant model"));
            judged.said.call == PolicyVerdict::Deny
        };
        let mut known = PolicyFolderState::from_counted(PolicyTexts::default(), Counted::new());
        assert_eq!((poll_folder(&home, &policies, &mut known), is_denied()), (Ok(true), false));
        assert_eq!(poll_folder(&home, &policies, &mut known), Ok(false), "nothing changed");
        std::fs::write(&path, &deny).expect("it is written");
        assert_eq!((poll_folder(&home, &policies, &mut known), is_denied()), (Ok(true), true));
        std::fs::write(&path, "package dromia.policy\nimport rego.v1\nverdicts contains if\n")
            .expect("written");
        let wrong = poll_folder(&home, &policies, &mut known).expect_err("it is wrong");
        assert!(wrong.to_string().starts_with("policies/a.rego:3:"), "{wrong}");
        assert!(is_denied(), "the last good one counts");
        assert_eq!(poll_folder(&home, &policies, &mut known), Ok(false), "it is told once");
        std::fs::write(&path, RULE).expect("it is written");
        assert_eq!((poll_folder(&home, &policies, &mut known), is_denied()), (Ok(true), false));
    }

    #[test]
    fn a_policy_activated_without_a_trial_question_is_caught() {
        let breaks = RULE.replace("input.version == 2", "to_number(input.action.model) == 1");
        let text = PolicyText { name: "a.rego".to_owned(), text: breaks.clone() };
        assert!(PolicyLayer::compile_layer("policies", &[text]).is_ok(), "nothing but a question finds it");
        let (dir, home) = home(&[("a.rego", RULE)]);
        let path = dir.path().join("policies/a.rego");
        let policies = PolicyEngine::built_in().expect("the shipped policy compiles");
        let mut known = PolicyFolderState::from_counted(PolicyTexts::default(), Counted::new());
        let at = |second| Timestamp::from_second(second).expect("a time");
        let mut look = |second| {
            look_and_tell(&home, &policies, &mut known, at(second));
            policies.active_policy(TenantId::from_bytes([1; 16]))
        };
        let good = look(1);
        assert_eq!((&good.files[..], &good.refused), (&["policies/a.rego".to_owned()][..], &None));
        std::fs::write(&path, &breaks).expect("it is written");
        let broken = look(2);
        std::fs::write(&path, breaks.replace("\"r\"", "\"s\"")).expect("it is written");
        let still = look(3);
        for active in [&broken, &still] {
            let refused = active.refused.as_ref().expect("what lies there does not count");
            assert_eq!((active.digest, refused.since), (good.digest, at(2)), "{refused:?}");
            assert!(refused.problem.starts_with("policies/a.rego:3:"), "{refused:?}");
            assert!(refused.problem.contains("a request to a model"), "{refused:?}");
        }
        std::fs::write(&path, RULE).expect("it is written");
        assert_eq!(look(4), good);
    }

    #[test]
    fn a_lost_folder_treated_as_empty_is_caught() {
        let tenant = TenantId::from_bytes([7; 16]);
        let own = format!("tenants/{tenant}/own.rego");
        let policies = PolicyEngine::built_in().expect("the shipped policy compiles");
        for (file, folder) in [("a.rego", "policies".to_owned()), (own.as_str(), tenant_folder(tenant))] {
            let (dir, home) = home(&[(file, RULE)]);
            let (there, aside) = (dir.path().join(&folder), dir.path().join("aside"));
            let mut known = PolicyFolderState::from_counted(PolicyTexts::default(), Counted::new());
            assert_eq!(poll_folder(&home, &policies, &mut known), Ok(true));
            let counts = policies.active_policy(tenant).digest;
            let said = |problem: PolicyProblem, part: &str| {
                let told = problem.to_string();
                assert!(told.starts_with(&folder) && told.contains(part), "{told}");
                assert_eq!(policies.active_policy(tenant).digest, counts, "the last good one counts");
            };
            std::fs::rename(&there, &aside).expect("it is moved");
            said(poll_folder(&home, &policies, &mut known).expect_err("it is gone"), "the folder is missing");
            assert_eq!(poll_folder(&home, &policies, &mut known), Ok(false), "it is told once");
            // A link to it counts as the folder does, and one that leads nowhere is no folder without policies.
            std::os::unix::fs::symlink(&aside, &there).expect("it is linked");
            assert_eq!(poll_folder(&home, &policies, &mut known), Ok(true));
            std::fs::rename(&aside, dir.path().join("lost")).expect("it is moved");
            said(poll_folder(&home, &policies, &mut known).expect_err("it leads nowhere"), "it is a link");
            assert!(PolicyTexts::read_folder(&home).is_err(), "no server starts with it");
            std::fs::remove_file(&there).expect("it is removed");
            said(poll_folder(&home, &policies, &mut known).expect_err("it is gone"), "the folder is missing");
            assert_eq!(
                PolicyTexts::read_folder(&home).map(|texts| texts.policy_folders().len()),
                Ok(0),
                "a start has nothing"
            );
            // Whoever means it says so.
            std::fs::create_dir(&there).expect("it is made");
            assert_eq!(poll_folder(&home, &policies, &mut known), Ok(true));
            std::fs::remove_dir(&there).expect("it is removed");
            assert!(poll_folder(&home, &policies, &mut known).is_ok(), "nothing in it counted");
        }
    }

    #[test]
    fn an_unmounted_folder_treated_as_empty_is_caught() {
        // A mount looks like another device at the same path.
        static MOUNTED: AtomicU64 = AtomicU64::new(0);
        let on_device = |path: &Path| {
            let (device, number) = place_of(path)?;
            Some((device + MOUNTED.load(Ordering::SeqCst), number))
        };
        let tenant = TenantId::from_bytes([7; 16]);
        let own = format!("tenants/{tenant}/own.rego");
        let policies = PolicyEngine::built_in().expect("the shipped policy compiles");
        for (file, folder) in [("a.rego", "policies".to_owned()), (own.as_str(), tenant_folder(tenant))] {
            let (dir, home) = home(&[(file, RULE)]);
            let (there, path) = (dir.path().join(&folder), dir.path().join("policies").join(file));
            let mut known = PolicyFolderState {
                place_of: on_device,
                ..PolicyFolderState::from_counted(PolicyTexts::default(), Counted::new())
            };
            let unmounted = || MOUNTED.fetch_add(1, Ordering::SeqCst);
            assert_eq!(poll_folder(&home, &policies, &mut known), Ok(true));
            let counts = policies.active_policy(tenant).digest;
            unmounted();
            assert_eq!(
                poll_folder(&home, &policies, &mut known),
                Ok(false),
                "elsewhere, with the same policies"
            );
            unmounted();
            std::fs::remove_file(&path).expect("it is removed");
            let lost =
                poll_folder(&home, &policies, &mut known).expect_err("it is empty, elsewhere").to_string();
            assert!(lost.starts_with(&folder) && lost.contains("lost mount"), "{lost}");
            assert_eq!(policies.active_policy(tenant).digest, counts, "the last good one counts");
            assert_eq!(poll_folder(&home, &policies, &mut known), Ok(false), "it is told once");
            // It comes back, and whoever removes the file from the folder as it is means it.
            std::fs::write(&path, RULE).expect("it is written");
            assert_eq!(poll_folder(&home, &policies, &mut known), Ok(true));
            std::fs::remove_file(&path).expect("it is removed");
            assert_eq!(poll_folder(&home, &policies, &mut known), Ok(true), "nothing of it counts any more");
            assert_ne!(policies.active_policy(tenant).digest, counts);
            // So does whoever removes the folder, is told so, and makes it anew.
            std::fs::write(&path, RULE).expect("it is written");
            assert_eq!(poll_folder(&home, &policies, &mut known), Ok(true));
            std::fs::remove_dir_all(&there).expect("it is removed");
            unmounted();
            assert!(poll_folder(&home, &policies, &mut known).is_err(), "it is gone");
            assert_eq!(policies.active_policy(tenant).digest, counts);
            std::fs::create_dir(&there).expect("it is made");
            assert_eq!(poll_folder(&home, &policies, &mut known), Ok(true));
            assert_ne!(policies.active_policy(tenant).digest, counts);
        }
    }

    #[test]
    fn a_bare_mount_point_accepted_after_a_mistake_is_caught() {
        static MOUNTED: AtomicU64 = AtomicU64::new(0);
        let on_device = |path: &Path| {
            let (device, number) = place_of(path)?;
            Some((device + MOUNTED.load(Ordering::SeqCst), number))
        };
        let tenant = TenantId::from_bytes([7; 16]);
        let policies = PolicyEngine::built_in().expect("the shipped policy compiles");
        let (dir, home) = home(&[("a.rego", RULE)]);
        let path = dir.path().join("policies/a.rego");
        let mut known = PolicyFolderState {
            place_of: on_device,
            ..PolicyFolderState::from_counted(PolicyTexts::default(), Counted::new())
        };
        assert_eq!(poll_folder(&home, &policies, &mut known), Ok(true));
        let counts = policies.active_policy(tenant).digest;
        // The mount is gone, and somebody writes to the bare folder what is wrong, sees it, and takes it out again.
        MOUNTED.fetch_add(1, Ordering::SeqCst);
        std::fs::write(&path, "package dromia.policy\nimport rego.v1\nverdicts contains if\n")
            .expect("written");
        let wrong = poll_folder(&home, &policies, &mut known).expect_err("it is wrong").to_string();
        assert!(wrong.starts_with("policies/a.rego:3:"), "{wrong}");
        assert_eq!(poll_folder(&home, &policies, &mut known), Ok(false), "it is told once");
        std::fs::remove_file(&path).expect("it is removed");
        let lost = poll_folder(&home, &policies, &mut known).expect_err("it is empty, elsewhere").to_string();
        assert!(lost.contains("lost mount"), "{lost}");
        assert_eq!(policies.active_policy(tenant).digest, counts, "the last good one counts");
        // What is right there counts, and from then on that is the folder.
        std::fs::write(&path, RULE).expect("it is written");
        assert_eq!(poll_folder(&home, &policies, &mut known), Ok(true));
        std::fs::remove_file(&path).expect("it is removed");
        assert_eq!(poll_folder(&home, &policies, &mut known), Ok(true), "nothing of it counts any more");
    }
}
