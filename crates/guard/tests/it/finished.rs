//! A tenant that has as many capabilities as it may: those of tasks that have finished give way, oldest first, and those of
//! open ones never do.
//!
//! The store is full of rows that a test wrote; a few of them have tasks, and the rest are of spawns that go on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dromia_contracts::approval::{AnswerRecord, ApprovalRequest, ApprovalState, BoundParts};
use dromia_contracts::capability::{
    CAPABILITIES_MAX, CapabilityRecord, CapabilityRegistry as _, CapabilityUse, NewCapability, approved_at,
};
use dromia_contracts::entry::{Entry, RunYielded};
use dromia_contracts::label::Label;
use dromia_contracts::model::TokenUsage;
use dromia_contracts::plan::CallProvenance;
use dromia_contracts::run::{RunHead, RunStatus};
use dromia_contracts::runtime::{Clock as _, Runtime};
use dromia_contracts::session::SessionKey;
use dromia_contracts::store::{
    ApprovalAnswer, Mutation, NewEntry, PageRequest, RunAppend, SessionOpen, Store, WriteBatch,
};
use dromia_contracts::{
    Actor, ApprovalId, CallId, CapabilityId, Digest, ErrorCode, Fault, RunId, approval, task,
};
use dromia_guard::{StoreCapabilities, StoreVault};
use dromia_testkit::conformance::StoreScene;
use dromia_testkit::{ManualClock, ReferenceStore, tokio_runtime_seeded};
use jiff::SignedDuration;

use crate::vault::Keys;

/// From so many on a task's capability finds no place.
const MOST: usize = CAPABILITIES_MAX / 4 * 3;

/// How many give way together.
const AT_ONCE: usize = 16;

struct House {
    scene: StoreScene,
    clock: ManualClock,
    capabilities: StoreCapabilities,
}

impl House {
    /// A tenant without place for one more; its capabilities have no tasks yet.
    async fn full() -> Self {
        let store: Arc<dyn Store> = Arc::new(ReferenceStore::new());
        let scene = StoreScene::open_scene(Arc::clone(&store), 1).await;
        let clock = ManualClock::new();
        let runtime = Runtime { clock: Arc::new(clock.clone()), ..tokio_runtime_seeded(9) };
        let vault = Arc::new(StoreVault::new(Arc::clone(&store), Arc::new(Keys(7)), runtime.clone()));
        let capabilities = StoreCapabilities::new(store, vault, runtime);
        let house = Self { scene, clock, capabilities };
        let numbers: Vec<_> = (0..MOST).collect();
        for numbers in numbers.chunks(200) {
            let put = |number: &usize| Mutation::CapabilityPut(house.row(*number));
            let batch = numbers.iter().map(put).fold(house.scene.new_batch(), WriteBatch::with_mutation);
            house.scene.commit_done(batch).await;
        }
        house
    }

    fn row(&self, number: usize) -> CapabilityRecord {
        let age = i64::try_from(MOST - number).expect("few");
        CapabilityRecord {
            id: id(number),
            holder: self.scene.agent,
            parent: None,
            usage: CapabilityUse::Task,
            rights: vec!["tool:exec".to_owned()],
            until: None,
            wall_ms_max: None,
            token: Bytes::from_static(b"a token that does not open"),
            by: self.scene.tenant_scope().actor().clone(),
            created_at: self.clock.now() - SignedDuration::from_secs(age),
            revoked_at: None,
        }
    }

    /// Opens a session; it is the one that the scene plays with from now on.
    async fn open(&mut self, platform: &str, channel: String, actor: Actor) {
        let session = self.scene.session_id();
        let key = SessionKey { platform: platform.to_owned(), channel, actor };
        let open = SessionOpen {
            session,
            agent: self.scene.agent,
            key,
            at: self.clock.now(),
            believes: false,
            importing: false,
        };
        self.scene.commit_done(self.scene.new_batch().with_mutation(Mutation::SessionOpen(open))).await;
        self.scene.session = session;
    }

    /// Begins the task of a capability.
    async fn begins(&mut self, number: usize) -> RunId {
        let actor = self.scene.tenant_scope().actor().clone();
        self.open(task::PLATFORM, id(number).to_string(), actor).await;
        self.scene.begin_turn(0).await
    }

    /// The same, to its end.
    async fn finishes(&mut self, number: usize) -> RunId {
        let run = self.begins(number).await;
        self.scene.commit_reply(run, "webhook:tasks").await;
        run
    }

    /// Has the last run stop at its limit.
    async fn yields(&self, run: RunId) {
        let yielded = Entry::RunYielded(RunYielded { model_calls: 1, budget: None, repeated: None });
        let head = RunHead {
            status: RunStatus::Yielded,
            wake_at: None,
            model_calls: 1,
            usage: TokenUsage::default(),
            cost_micros: 0,
        };
        let entries = vec![NewEntry { at: self.clock.now(), entry: yielded, body: None }];
        let append = RunAppend { run, epoch: 1, after: 2, entries, head };
        self.scene.commit_done(self.scene.new_batch().with_mutation(Mutation::RunAppend(append))).await;
    }

    /// Has a run ask for an approval that it does not wait for.
    async fn asks(&self, run: RunId, number: u8) -> ApprovalRequest {
        let now = self.clock.now();
        let approval = ApprovalRequest {
            id: ApprovalId::from_bytes([number; 16]),
            agent: self.scene.agent,
            session: self.scene.session,
            run,
            call: CallId { step: 1, index: 0 },
            author: Actor::new("cli:ada"),
            hops: 0,
            context: Label::ACTOR_TEXT,
            standing: CallProvenance::default(),
            tool: "exec".to_owned(),
            arguments: "{}".to_owned(),
            action: Digest::from_bytes([number; 32]),
            binding: Digest::from_bytes([number; 32]),
            bound: BoundParts { call: 1, tool: 2, asker: 3, rule: 4, contents: None },
            origins: Vec::new(),
            rule: "permission".to_owned(),
            reason: "a person looks".to_owned(),
            approvers: Vec::new(),
            asked_at: now,
            holds_until: now,
            expires_at: now + SignedDuration::from_mins(10),
            cools_until: None,
            state: ApprovalState::Waiting,
            released: true,
            answer: None,
            used_by: None,
        };
        self.scene
            .commit_done(
                self.scene.new_batch().with_mutation(Mutation::ApprovalAsk(Box::new(approval.clone()))),
            )
            .await;
        approval
    }

    async fn answers(&self, approval: &ApprovalRequest, approved: bool) {
        let answered = AnswerRecord {
            by: Actor::new("token:ops"),
            at: self.clock.now(),
            reason: String::new(),
            reach: None,
        };
        let from = ApprovalState::Waiting;
        let answer = ApprovalAnswer { approval: approval.id, from, approved, answered };
        self.scene.commit_done(self.scene.new_batch().with_mutation(Mutation::ApprovalAnswer(answer))).await;
    }

    async fn spawns(&self) -> Result<CapabilityId, Fault> {
        let new = NewCapability {
            holder: self.scene.agent,
            from: None,
            usage: CapabilityUse::Task,
            rights: vec!["tool:exec".to_owned()],
            until: None,
            wall_ms_max: None,
        };
        self.capabilities.grant_capability(self.scene.tenant_scope(), new).await.map(|made| made.id)
    }

    /// Which of these the store still has.
    async fn left(&self, numbers: &[usize]) -> Vec<usize> {
        let mut page = PageRequest::first_page(PageRequest::<CapabilityId>::LIMIT_MAX);
        let mut all = Vec::new();
        loop {
            let scope = self.scene.tenant_scope();
            let some = self.scene.store.capabilities(&scope, page).await.expect("a read");
            page.after = some.last().map(|last| last.id);
            let is_last = some.len() < page.limit;
            all.extend(some.into_iter().map(|capability| capability.id));
            if is_last {
                break;
            }
        }
        assert!(all.len() <= MOST, "{} are more than its bound", all.len());
        numbers.iter().copied().filter(|number| all.contains(&id(*number))).collect()
    }
}

fn id(number: usize) -> CapabilityId {
    // Later ones have smaller ids here: what counts is when they were made.
    let mut bytes = [0; 16];
    bytes[14..].copy_from_slice(&(u16::MAX - u16::try_from(number).expect("few")).to_be_bytes());
    CapabilityId::from_bytes(bytes)
}

fn code(answer: Result<CapabilityId, Fault>) -> Result<(), ErrorCode> {
    answer.map(|_| ()).map_err(|fault| fault.code)
}

#[tokio::test]
async fn finished_tasks_give_way_oldest_first_until_none_is_left() {
    let mut house = House::full().await;
    assert_eq!(code(house.spawns().await), Err(ErrorCode::InvalidRequest), "every spawn may still begin");
    let finished: Vec<usize> = (100..100 + AT_ONCE + 4).collect();
    for number in &finished {
        house.finishes(*number).await;
    }
    assert_eq!(code(house.spawns().await), Ok(()));
    assert_eq!(house.left(&finished).await, finished[AT_ONCE..]);
    for _ in 1..AT_ONCE {
        assert_eq!(code(house.spawns().await), Ok(()));
        assert_eq!(house.left(&finished).await, finished[AT_ONCE..], "there is place");
    }
    for _ in 0..4 {
        assert_eq!(code(house.spawns().await), Ok(()));
        assert_eq!(house.left(&finished).await, [0_usize; 0]);
    }
    assert_eq!(code(house.spawns().await), Err(ErrorCode::InvalidRequest));
    let others: Vec<usize> = (0..100).chain(100 + AT_ONCE + 4..MOST).collect();
    assert_eq!(house.left(&others).await, others, "no other one went");
}

#[tokio::test]
async fn the_capability_of_an_open_task_never_gives_way() {
    let mut house = House::full().await;
    house.begins(1).await;
    house.finishes(2).await;
    let waits = house.scene.put_input(house.scene.item_id());
    house.scene.commit_done(house.scene.new_batch().with_mutation(Mutation::InboxPut(waits))).await;
    let run = house.finishes(3).await;
    house.asks(run, 3).await;
    let run = house.finishes(4).await;
    let approved = house.asks(run, 4).await;
    house.answers(&approved, true).await;
    let run = house.finishes(5).await;
    let called = house.asks(run, 5).await;
    house.answers(&called, false).await;
    let own = approved_at(called.id, Some(id(5)));
    house.open(approval::PLATFORM, own, called.author.clone()).await;
    let (worker, of_worker) = (house.scene.begin_turn(0).await, house.scene.session);
    let open = [1, 2, 3, 4, 5];
    assert_eq!(code(house.spawns().await), Err(ErrorCode::InvalidRequest));
    assert_eq!(house.left(&open).await, open);

    // One that can be resumed goes before anybody is refused, one by one, and after those that have finished.
    for number in [6, 7] {
        let run = house.begins(number).await;
        house.yields(run).await;
    }
    house.finishes(8).await;
    for left in [&[6, 7][..], &[7], &[]] {
        assert_eq!(code(house.spawns().await), Ok(()));
        assert_eq!(house.left(&[6, 7, 8]).await, left);
    }
    assert_eq!(code(house.spawns().await), Err(ErrorCode::InvalidRequest));

    // The call that ran by itself has ended, and nobody answered the other one in time.
    house.scene.session = of_worker;
    house.scene.commit_reply(worker, "webhook:tasks").await;
    house.clock.advance(Duration::from_secs(601));
    assert_eq!(code(house.spawns().await), Ok(()));
    assert_eq!(house.left(&open).await, [1, 2, 4]);
}

#[tokio::test]
async fn capabilities_of_spawns_that_never_began_are_reclaimed_later() {
    let house = House::full().await;
    house.clock.advance(Duration::from_hours(1));
    let all: Vec<usize> = (0..MOST).collect();
    assert_eq!(code(house.spawns().await), Ok(()));
    assert_eq!(house.left(&all).await, all[AT_ONCE..]);
}
