//! Imports that break off: whatever commit is spoiled, nothing of the session is there, nobody gets at its runs, and the same
//! file again makes the one whole session.

use bytes::Bytes;
use dromia_contracts::runs::{EnginePort as _, ImportLabels};
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{PageRequest, Store as _};
use dromia_contracts::{ErrorCode, Fault, ScopeAuthority, SessionId};
use dromia_engine::RunState;
use dromia_testkit::faulty::CommitFault;
use serde_json::{Value, json};

use super::rests::Scene;
use super::world::{Lie, Options, World, at_once, scope_of};

/// Bytes of each text in the file: two of them do not fit into one commit.
const TEXT_BYTES: usize = 90 << 10;

/// How many sessions and runs the tenant shows.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    sessions: usize,
    runs: usize,
}

impl Shown {
    fn of(world: &World) -> Self {
        let tenant = world.tenants[0];
        Self { sessions: world.sessions(tenant).len(), runs: world.runs(tenant).len() }
    }
}

/// Makes a world, and the file of a session in it that takes many commits.
fn world(seed: u64, options: Options) -> (Scene, Vec<u8>) {
    let mut scene = Scene::with(seed, options);
    for plan in ["look;look;look", "look"] {
        scene.say(plan, false).expect("nothing fails");
        scene.pass(2_000);
    }
    let scope = scope_of(scene.world.tenants[0]);
    let file = scene.engine.export_session(scope, scene.run().session);
    let file = scene.sim.block_on(file).expect("it ends").expect("nothing fails").file;
    (scene, grown(&file))
}

/// Makes every text that was said long, and adds long custom state.
fn grown(file: &[u8]) -> Vec<u8> {
    let mut file: Value = serde_json::from_slice(file).expect("it is JSON");
    let text = "x".repeat(TEXT_BYTES);
    for run in file["runs"].as_array_mut().expect("runs") {
        for entry in run["entries"].as_array_mut().expect("entries") {
            let Some(body) = entry["body"]["utf8"].as_str() else { continue };
            let mut body: Value = serde_json::from_str(body).expect("a body is JSON");
            if body["parts"][0]["text"].is_string() {
                body["parts"][0]["text"] = json!(text);
                entry["body"]["utf8"] = json!(body.to_string());
            }
        }
    }
    let value = json!({"utf8": text});
    file["state"] = json!([{"name": "a", "value": value}, {"name": "b", "value": value}]);
    file.to_string().into_bytes()
}

fn import(scene: &mut Scene, file: &[u8], copy: &str) -> Result<SessionId, Fault> {
    let (scope, agent) = (scope_of(scene.world.tenants[0]), scene.world.places[0].agent);
    let copy = Some(copy.to_owned());
    let session = scene.engine.import_session(scope, agent, file.to_vec(), ImportLabels::Doubted, copy);
    scene.sim.block_on(session).expect("it ends")
}

/// Tells everything of a session but its ids.
fn told(world: &World, session: SessionId) -> Vec<(String, Option<Bytes>)> {
    let tenant = world.tenants[0];
    let mut told = Vec::new();
    for item in world.inbox(tenant, InboxOwner::Session(session)) {
        let run = item.taken_by.expect("a run took it");
        told.push((format!("{} {:?}", item.position, item.kind), item.body));
        let journal = world.journal(tenant, run).into_iter();
        told.extend(journal.map(|entry| (format!("{} {} {}", entry.seq, entry.at, entry.kind), entry.body)));
    }
    let state = at_once(world.truth.session_state(&scope_of(tenant), session, PageRequest::first_page(256)))
        .expect("it reads");
    told.extend(
        state.into_iter().map(|entry| (format!("{} {}", entry.name, entry.version), Some(entry.value))),
    );
    told
}

/// Says what is shown of an import that has not ended, to the tenant or to whoever looks for work.
fn leaks(world: &World, before: &Shown) -> Option<String> {
    let (operator, now) = (ScopeAuthority::claim().issue_operator(), Shown::of(world));
    let open = at_once(world.truth.open_runs(&operator, PageRequest::first_page(256))).expect("it reads");
    let parked = at_once(world.truth.parked_runs(&operator, PageRequest::first_page(256))).expect("it reads");
    let pending =
        at_once(world.truth.pending_sessions(&operator, PageRequest::first_page(256))).expect("it reads");
    let is_quiet = open.is_empty() && parked.is_empty() && pending.is_empty();
    (now != *before || !is_quiet)
        .then(|| format!("{now:?}, open {open:?}, parked {parked:?}, pending {pending:?}"))
}

#[test]
fn a_broken_import_is_invisible_and_a_retry_completes_it() {
    let (mut scene, file) = world(41, Options::default());
    let (none, begun) = (Shown::of(&scene.world), scene.weather.commits());
    let session = import(&mut scene, &file, "whole").expect("nothing fails");
    let commits = scene.weather.commits() - begun;
    assert!(commits >= 8, "{commits} commits are not many");
    let whole = told(&scene.world, session);
    for run in scene.world.runs(scene.world.tenants[0]) {
        assert_eq!(scene.engine.is_imported(run.session, run.id), run.session == session, "{run:?}");
    }
    let runs = Shown::of(&scene.world).runs - none.runs;
    assert_eq!(runs, 2);
    for fault in CommitFault::ALL {
        for nth in 1..=commits {
            let name = format!("{fault:?} {nth}");
            let before = Shown::of(&scene.world);
            scene.weather.spoil_in(nth, fault);
            let broken = import(&mut scene, &file, &name).expect_err("a commit was spoiled");
            assert_eq!(broken.code, ErrorCode::OutcomeUnknown, "{name}: {broken}");
            let hint = broken.hint.expect("a next step");
            assert!(hint.contains("import the same file again"), "{hint}");
            if matches!(fault, CommitFault::CrashBefore | CommitFault::CrashAfter) {
                scene.crash();
                scene.engine.start();
            }
            scene.pass(6_000);
            // Only the last commit shows it; where that was written, it is whole.
            let is_written = matches!(fault, CommitFault::Unheard | CommitFault::CrashAfter);
            if nth < commits || !is_written {
                assert_eq!(leaks(&scene.world, &before), None, "{name}");
            }
            let session = import(&mut scene, &file, &name).expect("nothing fails");
            assert!(told(&scene.world, session) == whole, "{name}: another session came of it");
            assert_eq!(import(&mut scene, &file, &name), Ok(session), "{name}: it is there already");
            let after = Shown { sessions: before.sessions + 1, runs: before.runs + runs };
            assert_eq!(leaks(&scene.world, &after), None, "{name}");
        }
    }
}

#[test]
fn an_import_waits_a_bounded_time_for_the_writer() {
    let (mut scene, file) = world(42, Options::default());
    scene.weather.refuse_commits(5);
    let session = import(&mut scene, &file, "slow").expect("there is room soon");
    let before = Shown::of(&scene.world);
    scene.weather.refuse_commits(1_000);
    let fault = import(&mut scene, &file, "never").expect_err("there is no room");
    assert_eq!(fault.code, ErrorCode::Overloaded, "{fault}");
    assert!(fault.hint.expect("a next step").contains("import the same file again"));
    assert_eq!(leaks(&scene.world, &before), None);
    scene.weather.refuse_commits(0);
    let later = import(&mut scene, &file, "never").expect("there is room again");
    assert_ne!(later, session, "a copy of another name is another session");
    assert!(told(&scene.world, later) == told(&scene.world, session));
}

#[test]
fn a_changed_imported_session_is_found_and_left_unchanged() {
    let (mut scene, file) = world(44, Options::default());
    let session = import(&mut scene, &file, "talk").expect("nothing fails");
    let scope = scope_of(scene.world.tenants[0]);
    let key =
        at_once(scene.world.truth.session(&scope, session)).expect("it reads").expect("it is there").key;
    scene.world.places[0].key = key;
    scene.say("look", false).expect("nothing fails");
    scene.pass(2_000);
    let since = told(&scene.world, session);
    assert_eq!(import(&mut scene, &file, "talk"), Ok(session));
    assert!(told(&scene.world, session) == since);
}

/// Planted fault: a store that shows sessions which an import fills still. Seen so, each run's row says what its entries do.
#[test]
fn an_import_that_is_shown_half_is_caught() {
    let options = Options { lie: Some(Lie::HalfImport), ..Options::default() };
    let (mut scene, file) = world(43, options);
    let mut caught = 0;
    for nth in 2..=8 {
        let before = Shown::of(&scene.world);
        scene.weather.spoil_in(nth, CommitFault::Lost);
        import(&mut scene, &file, &nth.to_string()).expect_err("a commit was spoiled");
        caught += usize::from(leaks(&scene.world, &before).is_some());
        for run in scene.world.runs(scene.world.tenants[0]) {
            let journal = scene.world.journal(scene.world.tenants[0], run.id);
            let entries: Vec<_> = journal.iter().map(|entry| entry.decode().expect("it is known")).collect();
            assert_eq!(RunState::fold(&entries).run_head(), run.head, "{} commits: {}", nth - 1, run.id);
        }
    }
    assert_eq!(caught, 7, "nothing notices it");
}
