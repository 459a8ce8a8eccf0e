//! Retention and holds, through the real binary and, with a fault at each write, against the real SQLite file.
//!
//! Planted fault: a row of an erased session that is left.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use dromia_contracts::Actor;
use dromia_contracts::client::ClientOptions;
use dromia_contracts::content::ContentPart;
use dromia_contracts::delivery::DeliveryState;
use dromia_contracts::label::Label;
use dromia_contracts::retention::RetentionPolicy;
use dromia_contracts::runs::{EnginePort as _, InputTarget, NewInput};
use dromia_contracts::session::SessionKey;
use dromia_contracts::store::{CommitOutcome, Mutation, PageRequest, SessionErase, Store as _, WriteBatch};
use dromia_testkit::conformance::StoreScene;
use dromia_testkit::faulty::CommitFault;
use jiff::SignedDuration;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::approvals::document;
use crate::audit::{asked, good};
use crate::clocks::ShiftedClock;
use crate::home::{DEADLINE, Home, Server, block_on, stderr};
use crate::mutations::process::TestProcess;
use crate::tenant_erasure::{copy_directory, runtime};

/// How long ago the old sessions were used.
const DAYS_AGO: i64 = 100;

/// A home whose server sees a clock of its own.
struct AgedHome {
    home: Home,
    clock: ShiftedClock,
}

impl AgedHome {
    fn new(config: &str) -> Self {
        let home = Home::new();
        let clock = ShiftedClock::build(&home.path());
        let config = format!("version: 1\nmodels:\n  default: {{ kind: scripted }}\n{config}");
        std::fs::write(home.path().join("dromia.yaml"), config).expect("the configuration can be written");
        Self { home, clock }
    }

    /// Serves as so many days ago.
    fn serve(&self, days_ago: i64) -> Server {
        self.clock.set_by(-days_ago * 86_400);
        let mut command = self.home.command();
        command.env("LD_PRELOAD", &self.clock.library).env("DROMIA_TEST_CLOCK", &self.clock.shift);
        self.home.serve_by(command)
    }

    /// A turn of a new session, which has ended.
    fn turn(&self, text: &str) -> String {
        let answer = document(&self.home, &["ask", text]);
        answer["session"].as_str().expect("a session").to_owned()
    }

    fn sessions(&self) -> Vec<String> {
        let listed = document(&self.home, &["session", "list"]);
        let ids = listed["items"].as_array().expect("rows").iter();
        ids.map(|row| row["id"].as_str().expect("an id").to_owned()).collect()
    }

    fn await_sessions(&self, expected: &[&String]) {
        let until = Instant::now() + DEADLINE;
        loop {
            let left = self.sessions();
            if left.iter().collect::<Vec<_>>() == expected {
                return;
            }
            assert!(Instant::now() < until, "{left:?} and not {expected:?}");
            sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn the_server_deletes_what_rested_and_leaves_seals_and_what_is_on_hold() {
    let aged = AgedHome::new("engine: { retention: { sessions: 90d } }\n");
    let server = aged.serve(DAYS_AGO);
    let (old, held) = (aged.turn("an old word"), aged.turn("a word to keep"));
    let spent = document(&aged.home, &["run", "list"])["items"][0].clone();
    let shown = document(&aged.home, &["session", "hold", &held]);
    assert_eq!(shown["hold"]["by"], json!(whoami(&aged.home)), "{shown}");
    server.terminate();

    let server = aged.serve(0);
    let new = aged.turn("a new word");
    aged.await_sessions(&[&new, &held]);
    let shown = aged.home.run(&["session", "show", &held]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("on hold"), "{shown:?}");
    let (code, refused) = asked(&aged.home, &["session", "delete", &held, "--yes"]);
    assert_eq!((code == 0, &refused["error"]["code"]), (false, &json!("session_held")), "{refused}");
    let agent = document(&aged.home, &["agent", "list"])["items"][0]["handle"].clone();
    let (_, refused) = asked(&aged.home, &["agent", "delete", agent.as_str().expect("a handle"), "--yes"]);
    assert_eq!(refused["error"]["code"], "session_held", "{refused}");

    // What is left of the old session is its seal.
    let erased = good(&aged.home, &["audit", "query", "--kind", "session_erased"]);
    assert_eq!(erased["items"].as_array().map(Vec::len), Some(1), "{erased}");
    assert_eq!(erased["items"][0]["session"], json!(old));
    let seal = erased["items"][0]["what"].as_str().expect("words");
    assert!(seal.starts_with("runs 1, entries 4, messages 1, tokens "), "{seal}");
    assert!(!spent.is_null());
    let held_acts = good(&aged.home, &["audit", "query", "--kind", "session_hold_set"]);
    assert_eq!(held_acts["items"][0]["outcome"], "held", "{held_acts}");
    good(&aged.home, &["audit", "verify"]);

    let ended = document(&aged.home, &["session", "hold", &held, "--off"]);
    assert_eq!(ended["hold"], Value::Null);
    let deleted = document(&aged.home, &["session", "delete", &held, "--yes"]);
    assert_eq!((&deleted["erased"]["sessions"], &deleted["erased"]["runs"]), (&json!(1), &json!(1)));
    assert_eq!(aged.sessions(), [new]);
    server.terminate();
    good(&aged.home, &["audit", "verify"]);
    let words = |text: &str| {
        let file = std::fs::read(aged.home.path().join("store/dromia.db")).expect("the database is there");
        file.windows(text.len()).any(|found| found == text.as_bytes())
    };
    assert_eq!(["a new word", "an old word", "a word to keep"].map(words), [true, false, false]);
}

fn whoami(home: &Home) -> String {
    let me = document(home, &["whoami"]);
    me["actor"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_tenant_s_own_retention_counts_and_a_person_sees_what_is_due() {
    let aged = AgedHome::new(
        "tenants: { default: { retention: { sessions: forever } } }\nengine: { retention: { sessions: 1d } }\n",
    );
    let server = aged.serve(DAYS_AGO);
    let (first, second) = (aged.turn("one"), aged.turn("two"));
    server.terminate();
    let server = aged.serve(0);
    let shown = document(&aged.home, &["retention", "show"]);
    assert_eq!((&shown["sessions_hours"], &shown["due"]["sessions"]), (&Value::Null, &json!(0)), "{shown}");
    let hint = stderr(&aged.home.run(&["retention", "show"]));
    assert!(hint.contains("set `engine.retention.sessions`, or `tenants.NAME.retention.sessions`"), "{hint}");
    let idle = document(&aged.home, &["retention", "run", "--yes"]);
    assert_eq!(idle["sums"]["sessions"], 0, "{idle}");
    assert_eq!(aged.sessions(), [second.clone(), first.clone()]);

    // An edit counts without a restart.
    let path = aged.home.path().join("dromia.yaml");
    let config = std::fs::read_to_string(&path).expect("is read").replace("forever", "12w");
    std::fs::write(&path, config).expect("is written");
    let until = Instant::now() + DEADLINE;
    let shown = loop {
        let shown = document(&aged.home, &["retention", "show"]);
        if shown["sessions_hours"] == json!(12 * 7 * 24) {
            break shown;
        }
        assert!(Instant::now() < until, "{shown}");
        sleep(Duration::from_millis(50));
    };
    assert_eq!((&shown["due"]["sessions"], &shown["due"]["runs"]), (&json!(2), &json!(2)), "{shown}");
    assert!(shown["due"]["bytes"].as_u64().is_some_and(|bytes| bytes > 100), "{shown}");
    let dry = document(&aged.home, &["retention", "run", "--dry-run"]);
    assert_eq!((&dry["dry_run"], dry["items"].as_array().map(Vec::len)), (&json!(true), Some(2)), "{dry}");
    assert_eq!(aged.sessions().len(), 2);
    let ran = document(&aged.home, &["retention", "run", "--yes"]);
    assert_eq!((&ran["sums"]["sessions"], &ran["sums"]["complete"]), (&json!(2), &json!(true)), "{ran}");
    assert_eq!(aged.sessions(), Vec::<String>::new());
    let gone = block_on(server.get(&format!("/v1/sessions/{first}")));
    assert_eq!(gone.0, 404, "{}", gone.1);
    good(&aged.home, &["audit", "verify"]);
    let unasked = aged.home.run(&["retention", "run", "--no-input"]);
    assert!(!unasked.status.success() && stderr(&unasked).contains("--yes"), "{}", stderr(&unasked));
}

/// A closed store with an old session of several turns.
struct AgedStore {
    dir: tempfile::TempDir,
}

impl AgedStore {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let tokio = runtime();
        tokio.block_on(async {
            let process = TestProcess::open(dir.path(), |_| {});
            let scene = StoreScene::open_scene(process.store.clone(), 1).await;
            for after in 0..40 {
                let run = scene.begin_turn(after).await;
                let delivery = scene.commit_reply(run, "webhook:t0").await;
                scene.begin_attempt(delivery, 1).await;
                scene.settle_attempt(delivery, 1, DeliveryState::Delivered).await;
            }
        });
        tokio.shutdown_timeout(Duration::from_secs(10));
        Self { dir }
    }

    /// Copies the store, and has the session deleted there with a fault at one write, in as many lives as it takes. Returns how
    /// many writes the first life tried.
    fn erase(&self, fault: Option<(u64, CommitFault)>) -> (tempfile::TempDir, u64) {
        let dir = tempfile::tempdir().expect("a directory");
        copy_directory(self.dir.path(), dir.path());
        let first = live(dir.path(), fault);
        if first.is_none() {
            assert!(live(dir.path(), None).is_some(), "a life without a fault ends");
        }
        (dir, first.unwrap_or_default())
    }
}

/// One life: nothing if it died. Otherwise nothing of the session is left at its end.
fn live(root: &Path, fault: Option<(u64, CommitFault)>) -> Option<u64> {
    let tokio = runtime();
    let lived = tokio.block_on(async {
        let spoil = |store: &dromia_testkit::FaultyStore| {
            if let Some((nth, fault)) = fault {
                store.fail_nth(nth, fault);
            }
        };
        let process = TestProcess::open_with(root, spoil, |config| {
            config.retention.default = RetentionPolicy { sessions: Some(SignedDuration::from_hours(1)) };
        });
        let ended = async {
            loop {
                let operator = process.authority.issue_operator();
                let page = PageRequest::first_page(9);
                let tenant = process.store.tenants(&operator, page).await.expect("a read")[0].id;
                let scope = process.scope(tenant);
                let sessions = process.store.sessions(&scope, None, PageRequest::first_page(9)).await;
                let left = process.store.erasing_sessions(&operator).await.expect("a read");
                if sessions.expect("a read").is_empty() && left.is_empty() {
                    return;
                }
                // The server goes on by itself; a person who asks meanwhile changes nothing.
                let _ = process.engine.retention_page(scope, None, true).await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = ended => Some(process.store.commit_count()),
            () = process.store.wait_for_crash() => None,
            () = tokio::time::sleep(DEADLINE) => panic!("the erasure does not end: {:?}", process.store.commit_log()),
        }
    });
    tokio.shutdown_timeout(Duration::from_secs(10));
    lived
}

/// Says what is wrong with a store in which the session was erased.
fn check(root: &Path) -> Result<(), String> {
    let db = Connection::open(root.join("store/dromia.db")).map_err(|error| error.to_string())?;
    let count =
        |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(|error| error.to_string());
    for table in
        ["sessions", "session_heads", "hidden_sessions", "inbox", "runs", "entries", "bodies", "deliveries"]
    {
        let left = count(&format!("SELECT count(*) FROM {table}"))?;
        if left > 0 {
            return Err(format!("{left} rows of {table} are left"));
        }
    }
    let seals = count("SELECT count(*) FROM audit WHERE kind = 1 AND record LIKE '%session_erased%'")?;
    if seals == 1 { Ok(()) } else { Err(format!("{seals} seals of one session")) }
}

#[test]
fn a_deletion_of_a_session_survives_a_fault_at_every_write() {
    let scene = AgedStore::new();
    let (dir, writes) = scene.erase(None);
    assert_eq!(check(dir.path()), Ok(()));
    assert!(writes >= 3, "the mark and two pages of rows at least, not {writes}");
    for nth in 1..=writes {
        for fault in CommitFault::ALL {
            let (dir, _) = scene.erase(Some((nth, fault)));
            assert_eq!(check(dir.path()), Ok(()), "{fault:?} at write {nth}");
        }
    }
}

#[test]
fn a_row_that_a_deletion_leaves_is_caught() {
    let (dir, _) = AgedStore::new().erase(None);
    let db = Connection::open(dir.path().join("store/dromia.db")).expect("opens");
    let sql = "INSERT INTO hidden_sessions (tenant, session) SELECT tenant, tenant FROM tenants";
    db.execute(sql, []).expect("is planted");
    assert!(check(dir.path()).is_err_and(|found| found.contains("hidden_sessions")));
}

/// An input for the session of a key.
fn input_for(agent: dromia_contracts::AgentId, text: &str) -> NewInput {
    let key = SessionKey { platform: "cli".to_owned(), channel: "main".to_owned(), actor: Actor::new("ada") };
    NewInput {
        target: InputTarget::Key { agent, key },
        author: Actor::new("cli:ada"),
        history: Vec::new(),
        answers: None,
        offer: ClientOptions::default(),
        call: None,
        workspace: None,
        when_busy: None,
        parts: vec![ContentPart::new_text(text, Label::ACTOR_TEXT)],
        key: None,
        wait: false,
    }
}

/// The engine remembers which session a key finds, and another request may erase that session at any moment.
#[test]
fn an_input_for_a_session_that_was_just_deleted_opens_another_one() {
    let dir = tempfile::tempdir().expect("a directory");
    runtime().block_on(async {
        let process = TestProcess::open(dir.path(), |_| {});
        let scene = StoreScene::open_scene(process.store.clone(), 1).await;
        let submit = async |text: &str| {
            let input = input_for(scene.agent, text);
            process.engine.submit_input(process.scope(scene.tenant), input).await.expect("is taken").session
        };
        let first = submit("one").await;
        process.settle().await.expect("the run ends");
        assert_eq!(submit("two").await, first);
        process.settle().await.expect("the run ends");
        // Past the engine, which still knows the session by its key.
        let erase = SessionErase { session: first, idle_before: None, at: jiff::Timestamp::UNIX_EPOCH };
        let batch = WriteBatch::new(scene.tenant).with_mutation(Mutation::SessionErase(erase));
        assert!(matches!(process.store.commit(batch).await, CommitOutcome::Done(_)));
        let second = submit("three").await;
        assert_ne!(second, first);
        process.settle().await.expect("the run ends");
        assert_eq!(submit("four").await, second);
    });
}
