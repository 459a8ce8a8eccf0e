//! Submitting any batch twice equals submitting it once, at any later time.

use proptest::prelude::*;

use dromia_contracts::run::RunStatus;
use dromia_contracts::session::{InboxOwner, ItemKind};
use dromia_contracts::store::{
    CommitOutcome, CommitReceipt, Mutation, RunAppend, RunTakeover, StatePut, Store as _, TokenCreate,
    TokenRevoke, WriteBatch,
};
use dromia_contracts::token::TokenScopes;
use dromia_contracts::{AgentId, Digest, ItemId, RunId, SessionId, TokenId, WriteId};

use crate::scene::{
    AGENT, SESSION, Scene, TENANT, agent_create, at, claim, completed, head, put, replied, session_open,
};

/// One step of a script; the numbers pick among what is there.
#[derive(Debug, Clone)]
enum Step {
    Token,
    Revoke,
    Agent,
    Session,
    Wait { keyed: bool },
    Begin { keyed: bool },
    Append { size: usize, end: bool },
    Takeover,
    Signal,
    State { expected: bool },
    Again { back: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![4 => 0_usize..40, 1 => Just(3_000), 1 => Just(270_000)];
    prop_oneof![
        1 => Just(Step::Token),
        1 => Just(Step::Revoke),
        1 => Just(Step::Agent),
        1 => Just(Step::Session),
        2 => any::<bool>().prop_map(|keyed| Step::Wait { keyed }),
        5 => any::<bool>().prop_map(|keyed| Step::Begin { keyed }),
        5 => (size, any::<bool>()).prop_map(|(size, end)| Step::Append { size, end }),
        2 => Just(Step::Takeover),
        1 => Just(Step::Signal),
        2 => any::<bool>().prop_map(|expected| Step::State { expected }),
        6 => (0_usize..6).prop_map(|back| Step::Again { back }),
    ]
}

/// What the script knows of the session, so that most of its batches hold.
#[derive(Default)]
struct Script {
    minted: u64,
    token: Option<TokenId>,
    waiting: Vec<ItemId>,
    taken: u64,
    run: Option<(RunId, u64, u64)>,
    states: u64,
    history: Vec<(WriteBatch, CommitReceipt)>,
}

impl Script {
    fn id(&mut self) -> [u8; 16] {
        self.minted += 1;
        let mut id = [0x40; 16];
        id[8..].copy_from_slice(&self.minted.to_be_bytes());
        id
    }

    fn put(&mut self, keyed: bool) -> (ItemId, Mutation) {
        let item = ItemId::from_bytes(self.id());
        let key = format!("k{}", self.minted);
        (item, Mutation::InboxPut(put(SESSION, item, "hello", keyed.then_some(key.as_str()))))
    }

    fn batch(&mut self, step: &Step) -> Option<WriteBatch> {
        let batch = WriteBatch::new(TENANT);
        Some(match *step {
            Step::Token => {
                let token = TokenId::from_bytes(self.id());
                self.token = Some(token);
                batch.with_mutation(Mutation::TokenCreate(TokenCreate {
                    token,
                    hash: Digest::from_bytes(*blake3::hash(token.as_bytes()).as_bytes()),
                    name: "ci".to_owned(),
                    scopes: TokenScopes::ADMIN,
                    expires_at: self.minted.is_multiple_of(2).then(|| at(60_000)),
                    at: at(1),
                }))
            }
            Step::Revoke => {
                // Another time each time: the first one stays.
                let at = at(i64::try_from(self.history.len()).expect("is small"));
                batch.with_mutation(Mutation::TokenRevoke(TokenRevoke { token: self.token?, at }))
            }
            Step::Agent => {
                let id = self.id();
                batch.with_mutation(agent_create(AgentId::from_bytes(id), &format!("a{}", self.minted)))
            }
            Step::Session => {
                let id = SessionId::from_bytes(self.id());
                batch.with_mutation(session_open(id, AGENT, &id.to_string()))
            }
            Step::Wait { keyed } => {
                let (item, put) = self.put(keyed);
                self.waiting.push(item);
                batch.with_mutation(put)
            }
            Step::Begin { keyed } => {
                let (item, put) = self.put(keyed);
                self.waiting.push(item);
                let mut batch = batch.with_mutation(put);
                if self.run.is_none() {
                    let run = RunId::from_bytes(self.id());
                    let take = std::mem::take(&mut self.waiting);
                    batch.claim = Some(claim(SESSION, run, self.taken, &take));
                    self.taken += take.len() as u64;
                    self.run = Some((run, 1, 2));
                }
                batch
            }
            Step::Append { size, end } => {
                let (run, epoch, after) = self.run?;
                let mut entries = vec![replied(vec![b'r'; size])];
                entries.extend(end.then(completed));
                self.run = (!end).then_some((run, epoch, after + 1));
                let head = head(if end { RunStatus::Completed } else { RunStatus::Running });
                batch.with_mutation(Mutation::RunAppend(RunAppend {
                    run,
                    epoch,
                    after,
                    entries,
                    head,
                    checkpoint: None,
                }))
            }
            Step::Takeover => {
                let (run, epoch, after) = self.run?;
                self.run = Some((run, epoch + 1, after));
                let holder = Digest::from_bytes([u8::try_from(epoch).unwrap_or(u8::MAX); 32]);
                batch.with_mutation(Mutation::RunTakeover(RunTakeover {
                    run,
                    from_epoch: epoch,
                    holder,
                    at: at(9),
                }))
            }
            Step::Signal => {
                let (run, ..) = self.run?;
                let (_, put) = self.put(false);
                let Mutation::InboxPut(mut put) = put else { return None };
                (put.owner, put.kind) = (InboxOwner::Run(run), ItemKind::Cancel);
                batch.with_mutation(Mutation::InboxPut(put))
            }
            Step::State { expected } => {
                let expected = expected.then_some(self.states);
                self.states += 1;
                let at = at(i64::try_from(self.states).expect("is small"));
                let value = self.states.to_string().into();
                let mut number = [0; 16];
                number[8..].copy_from_slice(&self.states.to_be_bytes());
                batch.with_mutation(Mutation::StatePut(StatePut {
                    session: SESSION,
                    name: "mood".into(),
                    expected,
                    value,
                    at,
                    write: WriteId::from_bytes(number),
                }))
            }
            // Played by the caller.
            Step::Again { .. } => return None,
        })
    }
}

/// Every row of every table, as text.
fn dump(scene: &Scene) -> Vec<String> {
    let db = Scene::sql(scene.dir.path());
    let names: Vec<String> = db
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        .and_then(|mut names| names.query_map([], |row| row.get(0))?.collect())
        .expect("is listed");
    let mut rows = Vec::new();
    for name in names {
        let mut select = db.prepare(&format!("SELECT * FROM {name}")).expect("is prepared");
        let columns = select.column_count();
        let found = select.query_map([], |row| {
            (0..columns).map(|n| row.get::<_, rusqlite::types::Value>(n)).collect::<Result<Vec<_>, _>>()
        });
        rows.extend(found.expect("runs").map(|row| format!("{name} {:?}", row.expect("is read"))));
    }
    rows
}

async fn play(steps: &[Step], again: bool) -> Vec<String> {
    let scene = Scene::open().await;
    let mut script = Script::default();
    for step in steps {
        if let Step::Again { back } = step {
            // A state entry that was written since is another one's by now, and its writer is told so.
            let overwritten = |batch: &WriteBatch| {
                matches!(&batch.mutations[..], [Mutation::StatePut(put)]
                    if put.value != script.states.to_string())
            };
            let earlier = script.history.iter().rev().nth(*back).filter(|(batch, _)| !overwritten(batch));
            if let Some((batch, receipt)) = earlier.filter(|_| again) {
                let CommitOutcome::Done(answer) = scene.store.commit(batch.clone()).await else {
                    panic!("{batch:?} was done before");
                };
                // Whether input or a signal waits is told as it stands now; others may have sent or taken some since.
                let CommitReceipt { waiting, signals_last, .. } = *receipt;
                assert!(answer.signals_last >= signals_last, "{answer:?} after {receipt:?}");
                assert_eq!(CommitReceipt { waiting, signals_last, ..answer }, *receipt);
            }
        } else if let Some(batch) = script.batch(step) {
            let receipt = scene.done(batch.clone()).await;
            assert!(receipt.claimed);
            if again {
                assert_eq!(scene.done(batch.clone()).await, receipt, "at once");
            }
            script.history.push((batch, receipt));
        }
    }
    dump(&scene)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_resubmitted_batch_gets_its_first_receipt_and_changes_nothing(
        steps in prop::collection::vec(step(), 1..25)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let (once, twice) = runtime.block_on(async { (play(&steps, false).await, play(&steps, true).await) });
        prop_assert_eq!(once, twice);
    }
}
