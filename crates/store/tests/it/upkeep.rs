//! Erasure, rebuilt projections, the cost of a tail, many agents.

use dromia_contracts::agent::{AgentState, ErasureCounts};
use dromia_contracts::approval::{
    ApprovalDeadlines, ApprovalRequest, ApprovalState, ArgumentOrigin, BoundParts, CallSource, JudgedCall,
    OriginKind,
};
use dromia_contracts::label::Label;
use dromia_contracts::plan::CallProvenance;
use dromia_contracts::run::RunStatus;
use dromia_contracts::store::{
    AgentStateSet, Mutation, PageRequest, RunTakeover, SessionOpen, StatePut, Store as _, StoredEntry,
    TailLimits, WriteBatch,
};
use dromia_contracts::{Actor, AgentId, ApprovalId, CallId, Digest, ItemId, RunId, SessionId, WriteId};
use dromia_store::{StoreConfig, rebuild_projections};

use crate::scene::{AGENT, SESSION, Scene, TENANT, agent_create, at, head, pinned, put, session_open};

fn counts(scene: &Scene) -> Vec<(String, i64)> {
    let db = Scene::sql(scene.dir.path());
    let mut names =
        db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").expect("is prepared");
    let names: Vec<String> =
        names.query_map([], |row| row.get(0)).expect("runs").collect::<Result<_, _>>().expect("is read");
    names
        .into_iter()
        // What the seals say stays when what they speak of is erased.
        .filter(|name| !name.starts_with("audit"))
        .map(|name| {
            let count = db.query_row(&format!("SELECT count(*) FROM {name}"), [], |row| row.get(0));
            (name, count.expect("is counted"))
        })
        .collect()
}

#[tokio::test]
async fn erasing_an_agent_resumes_and_leaves_no_row_or_file() {
    let scene = Scene::open().await;
    let (bob, bobs) = (AgentId::from_bytes([0x20; 16]), SessionId::from_bytes([0x30; 16]));
    let empty = counts(&scene);
    scene
        .done(
            WriteBatch::new(TENANT)
                .with_mutation(agent_create(bob, "bob"))
                .with_mutation(session_open(bobs, bob, "b")),
        )
        .await;
    let with_bob = counts(&scene);
    for after in 0..150 {
        let size = [10, 3_000, 270_000][usize::try_from(after % 3).expect("is small")];
        let reply = if size > 100_000 {
            vec![b'f'; size]
        } else {
            vec![b'a'; size + usize::try_from(after).expect("is small")]
        };
        scene.turn_done(SESSION, after, reply).await;
    }
    for n in 0..300 {
        let key = format!("k{n}");
        let item = ItemId::from_bytes(scene.id());
        let key = (n % 2 == 0).then_some(key.as_str());
        scene
            .done(WriteBatch::new(TENANT).with_mutation(Mutation::InboxPut(put(SESSION, item, "wait", key))))
            .await;
    }
    let state = StatePut {
        session: SESSION,
        name: "mood".into(),
        expected: None,
        value: "1".into(),
        at: at(1),
        write: WriteId::from_bytes([1; 16]),
    };
    scene.done(WriteBatch::new(TENANT).with_mutation(Mutation::StatePut(state))).await;
    // One that an import fills goes, too, though nobody sees it.
    let half = session_open(SessionId::from_bytes([0x31; 16]), AGENT, "from a file");
    let Mutation::SessionOpen(half) = half else { panic!("{half:?} opens a session") };
    let half = Mutation::SessionOpen(SessionOpen { importing: true, ..half });
    scene.done(WriteBatch::new(TENANT).with_mutation(half)).await;
    let set = AgentStateSet { agent: AGENT, from: vec![AgentState::Running], to: AgentState::Deleting };
    scene.done(WriteBatch::new(TENANT).with_mutation(Mutation::AgentStateSet(set))).await;

    let mut scene = scene;
    let (mut total, mut pages) = (ErasureCounts::default(), 0);
    loop {
        let (erased, last) = scene.store.erase_agent_page(&Scene::scope(), AGENT).await.expect("a page");
        total.sessions += erased.sessions;
        total.runs += erased.runs;
        total.entries += erased.entries;
        total.items += erased.items;
        total.bodies += erased.bodies;
        pages += 1;
        if last {
            break;
        }
        assert!(pages < 100);
        if pages % 3 == 0 {
            scene = scene.reopen(|_| {});
        }
        let tail = scene.store.session(&Scene::scope(), SESSION).await;
        assert_eq!(tail, Ok(None), "half an agent is never seen");
    }
    assert_eq!((total.sessions, total.runs, total.entries, total.items), (2, 150, 600, 450));
    assert!(pages >= 5, "at most 256 rows per page, in {pages} pages");
    let left: Vec<_> = counts(&scene);
    for ((name, left), ((_, with_bob), (_, empty))) in left.into_iter().zip(with_bob.into_iter().zip(empty)) {
        let expected = if name == "tenants" { 1 } else { with_bob - empty };
        assert_eq!(left, expected, "{name}");
    }
    let blobs =
        std::fs::read_dir(scene.dir.path().join("blobs").join(TENANT.to_string())).expect("is listed");
    assert_eq!(blobs.count(), 0);
    let again = scene.store.erase_agent_page(&Scene::scope(), AGENT).await;
    assert_eq!(again, Ok((ErasureCounts::default(), true)), "safe to repeat");
}

/// A request of a run of the agent, whose argument is quoted from what was said.
fn quoting(run: RunId, id: [u8; 16]) -> ApprovalRequest {
    let (origin, label) = (OriginKind::Found, Label::CLAIM);
    let quote = Some("pay to eve".to_owned());
    ApprovalRequest {
        id: ApprovalId::from_bytes(id),
        rule: "permission".to_owned(),
        reason: "a person looks".to_owned(),
        approvers: Vec::new(),
        state: ApprovalState::Waiting,
        released: true,
        answer: None,
        used_by: None,
        source: CallSource {
            agent: AGENT,
            session: SESSION,
            run,
            call: CallId { step: 1, index: 0 },
            author: Actor::new("cli:ada"),
            hops: 0,
        },
        judged: JudgedCall {
            context: label,
            provenance: CallProvenance::default(),
            tool: "pay".to_owned(),
            arguments: r#"{"to":"eve"}"#.to_owned(),
            action: Digest::from_bytes([1; 32]),
            binding: Digest::from_bytes([2; 32]),
            bound: BoundParts { call: 1, tool: 2, asker: 3, rule: 4, contents: None },
            origins: vec![ArgumentOrigin { name: "to".to_owned(), role: None, origin, label, quote }],
        },
        deadlines: ApprovalDeadlines {
            asked_at: at(5),
            holds_until: at(1_000),
            expires_at: at(2_000),
            cools_until: None,
        },
    }
}

/// How many approvals quote what was said.
fn quotes(scene: &Scene) -> i64 {
    let quotes = "SELECT count(*) FROM approvals WHERE instr(record, 'pay to eve') > 0";
    Scene::sql(scene.dir.path()).query_row(quotes, [], |row| row.get(0)).expect("is counted")
}

#[tokio::test]
async fn approval_quotes_are_erased_with_the_agents_bodies() {
    const MANY: i64 = 300;
    let scene = Scene::open().await;
    let run = scene.turn_done(SESSION, 0, b"pay to eve".to_vec()).await;
    for _ in 0..MANY {
        let ask = Mutation::ApprovalAsk(Box::new(quoting(run, scene.id())));
        scene.done(WriteBatch::new(TENANT).with_mutation(ask)).await;
    }
    assert_eq!(quotes(&scene), MANY);
    erase(&scene, AGENT).await;
    assert_eq!(quotes(&scene), 0);
}

/// Erases an agent to its end.
async fn erase(scene: &Scene, agent: AgentId) {
    let set = AgentStateSet { agent, from: vec![AgentState::Running], to: AgentState::Deleting };
    scene.done(WriteBatch::new(TENANT).with_mutation(Mutation::AgentStateSet(set))).await;
    while !scene.store.erase_agent_page(&Scene::scope(), agent).await.expect("a page").1 {}
}

/// Plays a turn that is pinned to a text.
async fn pinned_turn(scene: &Scene, agent: AgentId, session: SessionId, after: u64, text: &str) -> Digest {
    let (_, begin, end) = scene.turn(session, after, "hi");
    let (digest, begin) = pinned(begin, agent, text);
    assert!(scene.done(begin).await.claimed);
    scene.done(end).await;
    digest
}

#[tokio::test]
async fn a_prompt_is_erased_with_its_last_agent() {
    const OWN: &str = "what only the erased agent was told ";
    let holds = |dir: &std::path::Path| {
        let bytes = std::fs::read(dir.join("dromia.db")).expect("is readable");
        bytes.windows(OWN.len()).any(|window| window == OWN.as_bytes())
    };
    let scene = Scene::open().await;
    let (bob, bobs) = (AgentId::from_bytes([0x20; 16]), SessionId::from_bytes([0x30; 16]));
    scene
        .done(
            WriteBatch::new(TENANT)
                .with_mutation(agent_create(bob, "bob"))
                .with_mutation(session_open(bobs, bob, "b")),
        )
        .await;
    let own = pinned_turn(&scene, AGENT, SESSION, 0, &OWN.repeat(600)).await;
    let shared = pinned_turn(&scene, AGENT, SESSION, 1, "what both were told").await;
    assert_eq!(pinned_turn(&scene, bob, bobs, 0, "what both were told").await, shared);
    let scene = scene.reopen(|dir| assert!(holds(dir), "the look finds what is there"));

    erase(&scene, AGENT).await;
    assert_eq!(scene.store.pinned_text(&Scene::scope(), own).await, Ok(None));
    let kept = scene.store.pinned_text(&Scene::scope(), shared).await.expect("a read");
    assert!(kept.is_some(), "a run of another agent is pinned to it");
    let scene = scene.reopen(|dir| assert!(!holds(dir), "the text is still in the file"));
    erase(&scene, bob).await;
    assert_eq!(scene.store.pinned_text(&Scene::scope(), shared).await, Ok(None));
}

#[tokio::test]
async fn a_prompt_of_an_ungranted_claim_is_erased_too() {
    let scene = Scene::open().await;
    // Other inputs came first, as far as its owner knew.
    let (_, begin, _) = scene.turn(SESSION, 7, "hi");
    let (digest, begin) = pinned(begin, AGENT, "what was said in vain");
    assert!(!scene.done(begin).await.claimed);
    let kept = scene.store.pinned_text(&Scene::scope(), digest).await.expect("a read");
    assert!(kept.is_some(), "the mutations of such a batch stand");
    erase(&scene, AGENT).await;
    assert_eq!(scene.store.pinned_text(&Scene::scope(), digest).await, Ok(None));
}

fn dump(scene: &Scene) -> Vec<String> {
    let db = Scene::sql(scene.dir.path());
    let rows = |sql: &str, columns: usize| {
        let mut select = db.prepare(sql).expect("is prepared");
        let rows = select.query_map([], |row| {
            (0..columns).map(|n| row.get::<_, rusqlite::types::Value>(n)).collect::<Result<Vec<_>, _>>()
        });
        rows.expect("runs").map(|row| format!("{:?}", row.expect("is read"))).collect::<Vec<_>>()
    };
    let mut all = rows("SELECT * FROM runs ORDER BY tenant, run", 18);
    all.extend(rows("SELECT * FROM session_heads ORDER BY tenant, session", 6));
    all
}

#[tokio::test]
async fn rebuilt_projections_equal_the_ones_that_grew() {
    let scene = Scene::open().await;
    let sessions: Vec<_> = (40..43).map(|n| SessionId::from_bytes([n; 16])).collect();
    for session in &sessions {
        scene
            .done(WriteBatch::new(TENANT).with_mutation(session_open(*session, AGENT, &session.to_string())))
            .await;
    }
    for after in 0..5 {
        scene.turn_done(SESSION, after, "r".repeat(2_000)).await;
    }
    let (run, begin, _) = scene.turn(sessions[0], 0, "never");
    scene.done(begin).await;
    for holder in 1..3_u8 {
        let takeover = RunTakeover {
            run,
            from_epoch: holder.into(),
            holder: Digest::from_bytes([holder; 32]),
            at: at(9),
        };
        scene.done(WriteBatch::new(TENANT).with_mutation(Mutation::RunTakeover(takeover))).await;
    }
    let item = ItemId::from_bytes(scene.id());
    scene
        .done(WriteBatch::new(TENANT).with_mutation(Mutation::InboxPut(put(
            sessions[1],
            item,
            "waits",
            None,
        ))))
        .await;
    let before = dump(&scene);
    let scene = scene.reopen(|dir| {
        Scene::sql(dir).execute_batch("DELETE FROM runs; UPDATE session_heads SET last = 99").expect("runs");
        let fold = |entries: &[StoredEntry]| {
            let ended = entries.iter().any(|entry| entry.kind == "run_completed");
            Ok::<_, String>(head(if ended { RunStatus::Completed } else { RunStatus::Running }))
        };
        let rebuilt = rebuild_projections(&StoreConfig::new(dir), &fold).expect("is rebuilt");
        assert_eq!((rebuilt.runs, rebuilt.sessions), (6, 4));
    });
    assert_eq!(dump(&scene), before);
}

#[tokio::test]
async fn a_tail_costs_the_same_at_turns_ten_and_500() {
    let scene = Scene::open().await;
    let limits = TailLimits { after: 0, items: 8, bytes: 64 << 10, until: None };
    let mut shapes = Vec::new();
    for after in 0..500 {
        scene.turn_done(SESSION, after, "r".repeat(500)).await;
        if after == 9 || after == 499 {
            let tail = scene.store.session_tail(&Scene::scope(), SESSION, limits).await;
            let tail = tail.expect("a read").expect("a session");
            let entries: usize = tail.runs.iter().map(|(_, entries)| entries.len()).sum();
            shapes.push((tail.items.len(), tail.runs.len(), entries));
        }
    }
    assert_eq!(shapes, [(8, 8, 32), (8, 8, 32)]);
}

#[tokio::test]
async fn a_tail_keeps_within_its_bytes_and_tears_no_run() {
    let scene = Scene::open().await;
    for after in 0..6 {
        scene.turn_done(SESSION, after, "r".repeat(1_000)).await;
    }
    // "hello" and the reply are 1,005 bytes a turn.
    for (bytes, runs) in [(0, 0), (1_004, 0), (1_005, 1), (3_014, 2), (3_015, 3), (1 << 20, 6)] {
        let limits = TailLimits { after: 0, items: 100, bytes, until: None };
        let tail = scene.store.session_tail(&Scene::scope(), SESSION, limits).await;
        let tail = tail.expect("a read").expect("a session");
        assert_eq!((tail.items.len(), tail.runs.len()), (runs, runs), "{bytes} bytes");
        assert!(tail.runs.iter().all(|(_, entries)| entries.len() == 4));
    }
}

#[tokio::test]
async fn lists_of_many_agents_are_walks_of_an_index() {
    let scene = Scene::open().await;
    for page in 0..10_u8 {
        let batch = (0..80_u8).fold(WriteBatch::new(TENANT), |batch, n| {
            let mut id = [0x50; 16];
            (id[0], id[1]) = (page, n);
            batch.with_mutation(agent_create(AgentId::from_bytes(id), &format!("a{page}-{n}")))
        });
        scene.done(batch).await;
    }
    let db = Scene::sql(scene.dir.path());
    for (sql, index) in [
        (
            "SELECT agent FROM agents WHERE tenant = ?1 AND agent > ?2 AND state <> 3 ORDER BY agent LIMIT 9",
            "PRIMARY KEY",
        ),
        (
            "SELECT agent FROM agents WHERE tenant = ?1 AND agent > ?2 AND state = ?3 AND state <> 0 ORDER BY agent LIMIT 9",
            "agents_resting",
        ),
        (
            "SELECT run FROM runs WHERE tenant = ?1 AND run < ?2 AND agent = ?3 ORDER BY run DESC LIMIT 9",
            "runs_agent",
        ),
        (
            "SELECT run FROM runs INDEXED BY runs_open WHERE status <= 2 AND (tenant, run) > (?1, ?2) ORDER BY tenant, run LIMIT 9",
            "runs_open",
        ),
        (
            "SELECT seq, at, kind, version, fields, packed FROM entries WHERE tenant = ?1 AND run = ?2 \
             AND kind IN ('model_called', 'model_replied', 'model_failed') ORDER BY seq",
            "PRIMARY KEY (tenant=? AND run=?)",
        ),
    ] {
        let mut explain = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("is prepared");
        let plan = explain
            .query_map(rusqlite::params_from_iter(vec![0_i64; explain.parameter_count()]), |row| row.get(3));
        let plan: Vec<String> = plan.expect("runs").collect::<Result<_, _>>().expect("is read");
        let plan = plan.join("; ");
        assert!(plan.contains(index) && !plan.contains("TEMP B-TREE"), "{sql}: {plan}");
    }
    let mut seen = 0;
    let mut page = PageRequest::first_page(256);
    loop {
        let agents = scene.store.agents(&Scene::scope(), None, page).await.expect("a page");
        seen += agents.len();
        let Some(last) = agents.last() else { break };
        page.after = Some(last.id);
    }
    assert_eq!(seen, 801);
}
