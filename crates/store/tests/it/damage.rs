//! Damaged rows are named and never given out, and never look like an empty list.

use bytes::Bytes;
use dromia_contracts::run::RunStatus;
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{
    CommitOutcome, CommitRefusal, FoldedState, Mutation, ReadError, RunAppend, Store as _, TailLimits,
    TenantCreate, WriteBatch,
};
use dromia_contracts::{AgentId, ItemId, RunId, SessionId, TenantId};

use crate::rights::check;
use crate::scene::{SESSION, Scene, TENANT, agent_create, at, head, put, replied, session_open};

const LIMITS: TailLimits = TailLimits { after: 0, items: 100, bytes: 1 << 20, until: None };

/// Plays two turns, damages the file by SQL and tells what the reads of the journal and of the tail say.
async fn damaged_by(sql: &str, reply: &str) -> [String; 2] {
    let scene = Scene::open().await;
    let run = scene.turn_done(SESSION, 0, reply.to_owned()).await;
    scene.turn_done(SESSION, 1, "second").await;
    let scene = scene.reopen(|dir| {
        let changed = Scene::sql(dir).execute(sql, []).expect("the statement runs");
        assert!(changed > 0, "{sql} changed nothing");
    });
    let say = |error| match error {
        ReadError::Damaged { place, problem } => format!("{place}: {problem}"),
        ReadError::Unavailable { cause } => panic!("unavailable: {cause}"),
    };
    let journal =
        scene.store.journal_entries(&Scene::scope(), run, 0, 256).await.expect_err("the journal is damaged");
    let tail = scene.store.session_tail(&Scene::scope(), SESSION, LIMITS).await;
    [say(journal), say(tail.expect_err("the tail is damaged"))]
}

#[tokio::test]
async fn a_changed_entry_is_named() {
    let first = "run = (SELECT min(run) FROM entries)";
    for change in [
        "at = at + 1 WHERE seq = 2",
        "epoch = 2 WHERE seq = 2",
        "kind = 'model_dreamed' WHERE seq = 2",
        "version = 2 WHERE seq = 2",
        "packed = CAST(replace(packed, x'c102', x'c202') AS BLOB) WHERE seq = 2",
        "packed = substr(packed, 1, 5) WHERE seq = 2",
        "packed = x'' WHERE seq = 2",
        "packed = NULL WHERE seq = 2",
        "chain = zeroblob(32) WHERE seq = 2",
        "body = CAST('hj' AS BLOB) WHERE seq = 3",
        "body = NULL, place = 1 WHERE seq = 3",
        "body = NULL, body_hash = zeroblob(32), place = 4 WHERE seq = 3",
    ] {
        for said in damaged_by(&format!("UPDATE entries SET {change} AND {first}"), "hi").await {
            assert!(said.starts_with("entry "), "{change}: {said}");
        }
    }
}

#[tokio::test]
async fn entries_of_a_program_that_packed_nothing_are_read() {
    let scene = Scene::open().await;
    let run = scene.turn_done(SESSION, 0, "hi").await;
    let packed = scene.store.journal_entries(&Scene::scope(), run, 0, 256).await.expect("a journal");
    let scene = scene.reopen(|dir| {
        let db = Scene::sql(dir);
        for entry in &packed {
            let changed = db.execute(
                "UPDATE entries SET fields = ?1, packed = NULL WHERE seq = ?2 AND packed IS NOT NULL",
                (&entry.fields, entry.seq.cast_signed()),
            );
            assert_eq!(changed.expect("the statement runs"), 1);
        }
    });
    assert_eq!(scene.store.journal_entries(&Scene::scope(), run, 0, 256).await.expect("a journal"), packed);
}

#[tokio::test]
async fn a_missing_entry_is_no_shorter_journal() {
    for seq in 1..=4 {
        let sql = format!("DELETE FROM entries WHERE seq = {seq} AND run = (SELECT min(run) FROM entries)");
        for said in damaged_by(&sql, "hi").await {
            assert!(
                said.starts_with("run_") && (said.contains("missing") || said.contains("ends at")),
                "{said}"
            );
        }
    }
}

#[tokio::test]
async fn a_lost_or_changed_body_is_named() {
    let long = "r".repeat(5_000);
    for sql in ["DELETE FROM bodies", "UPDATE bodies SET bytes = zeroblob(5000)"] {
        for said in damaged_by(sql, &long).await {
            assert!(said.contains("its body"), "{said}");
        }
    }
}

#[tokio::test]
async fn a_changed_or_missing_item_is_named() {
    for sql in [
        "UPDATE inbox SET body = CAST('hellp' AS BLOB) WHERE position = 1",
        "UPDATE inbox SET author = 'cli:eve' WHERE position = 1",
        "UPDATE inbox SET at = at + 1 WHERE position = 1",
        "DELETE FROM inbox WHERE position = 1",
    ] {
        let scene = Scene::open().await;
        for after in 0..3 {
            scene.turn_done(SESSION, after, "hi").await;
        }
        let scene = scene.reopen(|dir| {
            let changed = Scene::sql(dir).execute(sql, []).expect("the statement runs");
            assert_eq!(changed, 1, "{sql}");
        });
        let inbox = scene.store.inbox_items(&Scene::scope(), InboxOwner::Session(SESSION), 0, 256).await;
        let tail = scene.store.session_tail(&Scene::scope(), SESSION, LIMITS).await;
        assert!(matches!(inbox, Err(ReadError::Damaged { .. })), "{sql}: {inbox:?}");
        assert!(matches!(tail, Err(ReadError::Damaged { .. })), "{sql}: {tail:?}");
    }
}

#[tokio::test]
async fn an_erased_body_leaves_the_chain_whole() {
    let scene = Scene::open().await;
    let reply = "r".repeat(5_000);
    let run = scene.turn_done(SESSION, 0, reply).await;
    let scene = scene.reopen(|dir| {
        let erased = Scene::sql(dir).execute("UPDATE entries SET place = 4 WHERE seq = 3", []);
        assert_eq!(erased.expect("the statement runs"), 1);
    });
    let journal = scene.store.journal_entries(&Scene::scope(), run, 0, 256).await.expect("the chain holds");
    assert_eq!((journal.len(), &journal[2].body), (4, &None));
}

#[tokio::test]
async fn a_damaged_page_is_no_empty_list() {
    let scene = Scene::open().await;
    for after in 0..60 {
        scene.turn_done(SESSION, after, "r".repeat(900)).await;
    }
    let scene = scene.reopen(|dir| {
        let path = dir.join("dromia.db");
        let root: i64 = Scene::sql(dir)
            .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'entries'", [], |row| row.get(0))
            .expect("the table is there");
        let mut bytes = std::fs::read(&path).expect("is readable");
        let from = usize::try_from(root - 1).expect("is small") * 4096;
        bytes[from..from + 4096].fill(0xa5);
        std::fs::write(path, bytes).expect("is written");
    });
    let tail = scene.store.session_tail(&Scene::scope(), SESSION, LIMITS).await;
    assert!(matches!(tail, Err(ReadError::Damaged { .. })), "{tail:?}");
    let session = scene.store.session(&Scene::scope(), SESSION).await;
    assert!(matches!(session, Ok(Some(_))), "other tables are read");
    let damage = scene.store.store_health().damaged.expect("the read is remembered");
    assert_eq!(damage.met, 1);
    assert!(damage.problem.starts_with("the main file: "), "{}", damage.problem);
}

#[tokio::test]
async fn the_first_damage_is_remembered_and_every_one_is_counted() {
    let scene = Scene::open().await;
    let runs = [scene.turn_done(SESSION, 0, "hi").await, scene.turn_done(SESSION, 1, "hi").await];
    let scene = scene.reopen(|dir| {
        let changed = Scene::sql(dir).execute("UPDATE entries SET at = at + 1 WHERE seq = 2", []);
        assert_eq!(changed.expect("the statement runs"), 2);
    });
    assert_eq!(scene.store.store_health().damaged, None, "nobody came to it yet");
    for (met, run) in (1..).zip(runs) {
        let read = scene.store.journal_entries(&Scene::scope(), run, 0, 256).await;
        assert!(matches!(read, Err(ReadError::Damaged { .. })), "{read:?}");
        let damage = scene.store.store_health().damaged.expect("it was met");
        assert_eq!(damage.met, met);
        assert!(damage.problem.contains(&runs[0].to_string()), "{}", damage.problem);
    }
    assert_eq!(scene.store.store_health().read_only, None);
}

/// A batch that puts some items into the inbox of a session.
fn inputs(scene: &Scene, tenant: TenantId, session: SessionId, bodies: &[&str]) -> WriteBatch {
    bodies.iter().fold(WriteBatch::new(tenant), |batch, body| {
        batch.with_mutation(Mutation::InboxPut(put(session, ItemId::from_bytes(scene.id()), body, None)))
    })
}

/// Overwrites the pages of the main file that hold one of these texts, but for the root of the inbox.
fn damage_pages_with(dir: &std::path::Path, texts: [&str; 2]) {
    const PAGE: usize = 4096;
    let root: i64 = Scene::sql(dir)
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'inbox'", [], |row| row.get(0))
        .expect("the table is there");
    let root = usize::try_from(root - 1).expect("is small");
    let path = dir.join("dromia.db");
    let mut bytes = std::fs::read(&path).expect("is readable");
    let mut damaged = 0;
    for (number, page) in bytes.chunks_mut(PAGE).enumerate() {
        let holds = |text: &str| page.windows(text.len()).any(|window| window == text.as_bytes());
        if number != root && texts.into_iter().any(holds) {
            page.fill(0xa5);
            damaged += 1;
        }
    }
    assert!(damaged > 0, "no page holds {texts:?}");
    std::fs::write(path, bytes).expect("is written");
}

#[tokio::test]
async fn a_damaged_page_refuses_only_the_writes_needing_it() {
    const LAST: &str = "the last input of the first tenant";
    const FIRST: &str = "the first input of the second tenant";
    let scene = Scene::open().await;
    let (other, bob, bobs) =
        (TenantId::from_bytes([2; 16]), AgentId::from_bytes([0x20; 16]), SessionId::from_bytes([0x30; 16]));
    let tenant = TenantCreate { handle: "other".parse().expect("a handle"), at: at(0), body_key: [8; 32] };
    let world = WriteBatch::new(other)
        .with_mutation(Mutation::TenantCreate(tenant))
        .with_mutation(agent_create(bob, "bob"));
    scene.done(world.with_mutation(session_open(bobs, bob, "b"))).await;
    // The rows of the two tenants lie in one table, one tenant's after the other's, on several pages each. A further
    // row of the first would lie between these two, so on a page with one of them.
    let filler = ["a quiet input that says nothing of any interest to anybody who reads it"; 20];
    scene.done(inputs(&scene, TENANT, SESSION, &filler)).await;
    scene.done(inputs(&scene, TENANT, SESSION, &filler)).await;
    scene.done(inputs(&scene, TENANT, SESSION, &[LAST])).await;
    scene.done(inputs(&scene, other, bobs, &[FIRST])).await;
    for _ in 0..8 {
        scene.done(inputs(&scene, other, bobs, &filler)).await;
    }
    let scene = scene.reopen(|dir| damage_pages_with(dir, [LAST, FIRST]));

    for round in 0..2_u64 {
        // Both wait at once, so the writer meets them in one group.
        let refused = scene.store.commit(inputs(&scene, TENANT, SESSION, &["x"]));
        let neighbour = scene.store.commit(inputs(&scene, other, bobs, &["y"]));
        let refused = refused.await;
        assert!(matches!(refused, CommitOutcome::Refused(CommitRefusal::Damaged { .. })), "{refused:?}");
        let neighbour = neighbour.await;
        assert!(
            matches!(&neighbour, CommitOutcome::Done(receipt) if receipt.positions == [162 + round]),
            "the writes of others go on: {neighbour:?}"
        );
    }
    assert_eq!(scene.store.store_health().read_only, None);
    assert_eq!(
        scene.store.store_health().damaged.map(|damage| damage.met),
        Some(2),
        "each refusal is counted"
    );
    let session = scene.store.session(&Scene::scope(), SESSION).await.expect("reads go on");
    assert_eq!(session.map(|session| session.head.last), Some(41), "what was refused left no row");
}

/// A run with a checkpoint behind its third entry.
async fn with_checkpoint(scene: &Scene) -> RunId {
    let (run, begin, _) = scene.turn(SESSION, 0, "hi");
    assert!(scene.done(begin).await.claimed);
    let folded = FoldedState { version: 1, bytes: Bytes::from_static(b"folded") };
    let append = RunAppend {
        run,
        epoch: 1,
        after: 2,
        entries: vec![replied("hi")],
        head: head(RunStatus::Running),
        checkpoint: Some(folded),
    };
    scene.done(WriteBatch::new(TENANT).with_mutation(Mutation::RunAppend(append))).await;
    run
}

#[tokio::test]
async fn a_checkpoint_with_one_bit_off_is_caught_by_reads_and_audit() {
    for (change, problem) in [
        ("state = x'666f6c646564' WHERE seq = 3", None),
        ("state = x'666f6c646565' WHERE seq = 3", Some("does not match its digest")),
        ("version = 2", Some("does not match its digest")),
        ("digest = zeroblob(32)", Some("does not match its digest")),
        ("seq = 2", Some("does not match its digest")),
        ("seq = 4", Some("the journal ends at 3")),
    ] {
        let scene = Scene::open().await;
        let run = with_checkpoint(&scene).await;
        let scene = scene.reopen(|dir| {
            let changed = Scene::sql(dir).execute(&format!("UPDATE run_checkpoints SET {change}"), []);
            assert_eq!(changed.expect("the statement runs"), 1);
            let findings = check(dir).findings;
            assert_eq!(findings.len(), usize::from(problem.is_some()), "{change}: {findings:?}");
        });
        let read = scene.store.run_checkpoint(&Scene::scope(), run).await;
        let Some(problem) = problem else {
            assert_eq!(read.expect("a read").map(|checkpoint| checkpoint.seq), Some(3));
            continue;
        };
        let Err(ReadError::Damaged { place, problem: found }) = read else { panic!("{change}: {read:?}") };
        assert_eq!(place, format!("the checkpoint of {run}"), "{change}");
        assert!(found.contains(problem), "{change}: {found}");
        assert!(scene.store.store_health().damaged.is_some(), "{change}: it is not remembered");
        let journal = scene.store.journal_entries(&Scene::scope(), run, 0, 9).await.expect("a journal");
        assert_eq!(journal.len(), 3, "{change}: the journal is read all the same");
    }
}
