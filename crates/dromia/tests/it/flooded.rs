//! B3: a tenant with thousands of inputs in line does not hold up another one's only run, on the engine as the binary wires
//! it, over the real store. It is counted in turns and never in time: there is one slot, so the ids of runs are their order.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dromia_contracts::agent::AgentConfig;
use dromia_contracts::client::ClientOptions;
use dromia_contracts::content::ContentPart;
use dromia_contracts::label::Label;
use dromia_contracts::runs::{EnginePort as _, InputReceipt, InputTarget, NewAgent, NewInput, RunEndMode};
use dromia_contracts::session::{InboxOwner, SessionKey};
use dromia_contracts::store::{PageRequest, RunFilter, Store as _};
use dromia_contracts::{Actor, AgentId, RunId, TenantId};
use tokio::task::JoinSet;

use crate::home::DEADLINE;
use crate::mutations::directory;
use crate::mutations::process::TestProcess;

/// Sessions of one tenant with an input in line.
const WAITING: usize = 2_000;
/// How many inputs are sent at a time, so that the writer's queue is never full.
const AT_ONCE: usize = 100;
/// The most turns that may begin before the only run of another tenant.
const TURNS_MAX: usize = 2;
const PAGE: usize = 256;

/// A tenant with an agent.
#[derive(Debug, Clone, Copy)]
struct Party {
    tenant: TenantId,
    agent: AgentId,
}

impl Party {
    async fn new(process: &TestProcess, name: &str) -> Self {
        let handle = name.parse().expect("a handle");
        let made = process
            .engine
            .tenant_create(process.authority.issue_operator(), handle, "first".to_owned())
            .await;
        let tenant = made.expect("nothing fails").0.id;
        let new = NewAgent {
            handle: "ada".parse().expect("a handle"),
            display_name: "Ada".to_owned(),
            labels: BTreeMap::new(),
            config: AgentConfig {
                model: "scripted".to_owned(),
                grants: ["model", "reply"].map(str::to_owned).to_vec(),
                ..AgentConfig::default()
            },
        };
        let agent = process.engine.agent_create(process.scope(tenant), new).await.expect("nothing fails").id;
        Self { tenant, agent }
    }

    fn input(self, channel: &str, text: &str) -> NewInput {
        let author = Actor::new("cli:person");
        let key =
            SessionKey { platform: "cli".to_owned(), channel: channel.to_owned(), actor: author.clone() };
        NewInput {
            target: InputTarget::Key { agent: self.agent, key },
            author,
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

    async fn say(self, process: &TestProcess, channel: &str, text: &str) -> InputReceipt {
        let submitted =
            process.engine.submit_input(process.scope(self.tenant), self.input(channel, text)).await;
        submitted.expect("nothing fails")
    }

    /// Says something in so many sessions.
    async fn flood(self, process: &TestProcess, sessions: usize) {
        let mut sent = JoinSet::new();
        for number in 0..sessions {
            let (engine, scope) = (process.engine.clone(), process.scope(self.tenant));
            let input = self.input(&format!("c{number}"), "hello");
            sent.spawn(async move { engine.submit_input(scope, input).await.map(|submitted| submitted.run) });
            if sent.len() >= AT_ONCE {
                let run = sent.join_next().await.expect("one is there").expect("no panic");
                assert_eq!(run, Ok(None), "there is no slot");
            }
        }
        while let Some(run) = sent.join_next().await {
            assert_eq!(run.expect("no panic"), Ok(None), "there is no slot");
        }
    }

    /// Waits until a run took an input.
    async fn taken(self, process: &TestProcess, submitted: &InputReceipt) -> RunId {
        let scope = process.scope(self.tenant);
        let until = Instant::now() + DEADLINE;
        loop {
            let inbox = process.store.inbox_items(&scope, InboxOwner::Session(submitted.session), 0, 1).await;
            if let Some(run) = inbox.expect("a read").first().and_then(|item| item.taken_by) {
                return run;
            }
            assert!(
                Instant::now() < until,
                "nobody takes the input; there is {:?}",
                process.engine.engine_load()
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Counts the runs of the tenant that began before another one.
    async fn begun_before(self, process: &TestProcess, run: RunId) -> usize {
        let scope = process.scope(self.tenant);
        let (mut page, mut begun) = (PageRequest::first_page(PAGE), 0);
        loop {
            let runs = process.store.runs(&scope, RunFilter::default(), page).await.expect("a read");
            begun += runs.iter().filter(|other| other.id < run).count();
            page.after = runs.last().map(|run| run.id);
            if runs.len() < PAGE {
                return begun;
            }
        }
    }
}

/// Puts so many inputs of one tenant in line behind the only slot, then one more of whoever is meant, and frees the slot.
/// Returns how many turns of the flood began before that one.
fn turns_before(waiting: usize, last: impl FnOnce(Party, Party) -> Party) -> usize {
    let directory = directory();
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let turns = tokio.block_on(async {
        let process = TestProcess::open_with(directory.path(), |_| {}, |config| config.active_max = 1);
        let (flood, quiet) = (Party::new(&process, "flood").await, Party::new(&process, "quiet").await);
        let held =
            flood.say(&process, "held", "@slow 600000\n@say never").await.run.expect("it has the slot");
        flood.flood(&process, waiting).await;
        let load = process.engine.engine_load();
        assert_eq!((load.active, load.active_max), (1, 1));
        assert!(load.ready >= waiting, "{load:?}");
        let last = last(flood, quiet);
        let submitted = last.say(&process, "last", "hello").await;
        assert_eq!(submitted.run, None, "there is no slot");
        let ended = process.engine.end_run(process.scope(flood.tenant), held, RunEndMode::Terminate).await;
        ended.expect("nothing fails");
        let run = last.taken(&process, &submitted).await;
        process.engine.drain();
        // The one that held the slot began before the count.
        flood.begun_before(&process, run).await - 1
    });
    tokio.shutdown_timeout(Duration::from_secs(10));
    turns
}

#[test]
fn a_single_run_starts_within_two_turns_of_a_flood() {
    let turns = turns_before(WAITING, |_, quiet| quiet);
    assert!(turns <= TURNS_MAX, "{turns} turns of the flood began before the only run of another tenant");
}

#[test]
fn a_run_that_waits_for_all_before_it_is_caught() {
    // The last in the flood's own line has no share of its own.
    let turns = turns_before(40, |flood, _| flood);
    assert_eq!(turns, 40);
    assert!(turns > TURNS_MAX);
}
