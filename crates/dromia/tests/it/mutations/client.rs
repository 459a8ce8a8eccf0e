//! A client as it would be written against the contract: it goes through a fixed scenario, repeats with the same
//! idempotency key whatever was not acknowledged, never repeats what was, and goes on after a crash where it was.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use dromia_contracts::agent::{AgentConfig, AgentState};
use dromia_contracts::approval::{ApprovalRequest, ApprovalState};
use dromia_contracts::channel::WEBHOOK;
use dromia_contracts::client::ClientOptions;
use dromia_contracts::content::ContentPart;
use dromia_contracts::label::Label;
use dromia_contracts::run::RunStatus;
use dromia_contracts::runs::{
    ApprovalDecision, ApprovalReach, EnginePort as _, InputReceipt, InputTarget, NewAgent, NewInput,
    NewToken, RunEndMode,
};
use dromia_contracts::session::{InboxOwner, SessionKey};
use dromia_contracts::store::{
    ApprovalFilter, CommitOutcome, CommitRefusal, ItemKey, KeyLifetime, Mutation, PageRequest, StatePut,
    Store as _, WriteBatch,
};
use dromia_contracts::token::TokenScopes;
use dromia_contracts::{
    Actor, AgentId, Digest, ErrorCode, Fault, ItemId, RunId, SessionId, TenantId, TokenId, WriteId,
};
use jiff::Timestamp;

use super::process::{TestProcess, words};
use crate::home::DEADLINE;

/// The line that the unkeyed call appends.
pub(crate) const LINE: &str = "a line of ada";
/// What a turn of a channel says before its answer, its answer, and the key of its input.
pub(crate) const INTERIM: &str = "looking";
pub(crate) const ANSWER: &str = "found";
pub(crate) const REPLYING: &str = "reply";
/// The message that the transactional call sends.
pub(crate) const MESSAGE: &str = "a message for bob";
/// The custom state that is written once, in ada's session.
pub(crate) const STATE: (&str, &[u8]) = ("mood", b"\"calm\"");

/// Why the client stops.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The process died; the client goes on with the next.
    Crashed,
    /// Something that the contract forbids.
    Wrong(String),
}

/// An input that the server acknowledged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Acked {
    pub(crate) item: ItemId,
    pub(crate) session: SessionId,
}

/// What the client knows, and keeps over crashes of the server.
#[derive(Debug, Default)]
pub(crate) struct Client {
    step: usize,
    pub(crate) tenant: Option<TenantId>,
    /// The token whose making was acknowledged.
    token: Option<TokenId>,
    pub(crate) agents: BTreeMap<&'static str, AgentId>,
    /// Acknowledged inputs in the order of their acknowledgements, by key.
    pub(crate) acked: Vec<(&'static str, Acked)>,
    /// When the custom state was written first.
    state_at: Option<Timestamp>,
}

type Done<T = ()> = Result<T, Stop>;

const STEPS: usize = 20;

impl Client {
    /// Goes through the scenario from where it stands.
    pub(crate) async fn play(&mut self, process: &TestProcess) -> Done {
        while self.step < STEPS {
            let step = self.step;
            let played = tokio::time::timeout(DEADLINE, self.play_step(process));
            match played.await {
                Ok(played) => played?,
                Err(_) => return Err(Stop::Wrong(format!("step {step} never ends"))),
            }
            self.step += 1;
        }
        Ok(())
    }

    async fn play_step(&mut self, process: &TestProcess) -> Done {
        match self.step {
            0 => self.tenant_create(process).await,
            1 => self.token(process).await,
            2 => self.agent_create(process, "ada", None).await,
            3 => self.agent_create(process, "bob", Some(2)).await,
            4 => self.agent_create(process, "eve", None).await,
            5 => self.turn(process, "plain", "ada", "hello").await,
            6 => self.turn(process, "pure", "ada", "@tool time.now {}\n@say told").await,
            7 => {
                let text =
                    format!("@tool file.append {{\"path\":\"log\",\"content\":\"{LINE}\\n\"}}\n@say kept");
                self.turn(process, "append", "ada", &text).await
            }
            8 => {
                let text = format!("@tool reply {{\"text\":\"{INTERIM}\"}}\n@say {ANSWER}");
                self.turn(process, REPLYING, "ada", &text).await
            }
            9 => self.turn(process, "bob", "bob", "hello").await,
            10 => {
                let bobs = self.acked_of("bob")?.session;
                let text = format!(
                    "@tool message.send {{\"session\":\"{bobs}\",\"text\":\"{MESSAGE}\"}}\n@say sent"
                );
                self.turn(process, "send", "ada", &text).await?;
                self.rest(process).await
            }
            11 => {
                self.turn(process, "loop", "bob", "@loop time.now {}").await?;
                self.resume(process).await
            }
            12 => self.end(process, "slow", RunEndMode::Cancel).await,
            13 => self.end(process, "slower", RunEndMode::Terminate).await,
            14 => self.state(process).await,
            15 => self.pause(process).await,
            16 => self.asked(process).await,
            17 => self.delayed(process).await,
            18 => {
                let text = "@tool file.append {\"path\":\"log\",\"content\":\"a line of eve\\n\"}\n@say kept";
                self.turn(process, "eve", "eve", text).await
            }
            _ => self.delete(process).await,
        }
    }

    async fn tenant_create(&mut self, process: &TestProcess) -> Done {
        let made = tried(process, || {
            process.engine.tenant_create(
                process.authority.issue_operator(),
                handle("acme"),
                "first".to_owned(),
            )
        })
        .await;
        let tenant = match made {
            Ok((tenant, _token)) => tenant,
            // An attempt that was not heard made it; whoever administers the node looks it up.
            Err(Failed::Fault(fault)) if fault.code == ErrorCode::HandleTaken => {
                let found = process
                    .store
                    .tenant_by_handle(&process.authority.issue_operator(), &handle("acme"))
                    .await;
                let found = found.map_err(wrong)?;
                found.ok_or_else(|| Stop::Wrong("the handle is taken by nobody".to_owned()))?
            }
            Err(failed) => return Err(failed.into()),
        };
        self.tenant = Some(tenant.id);
        Ok(())
    }

    /// Makes a token and takes it back. One whose making was not heard of is nobody's, so another is made.
    async fn token(&mut self, process: &TestProcess) -> Done {
        let scope = process.scope(self.tenant()?);
        let id = if let Some(id) = self.token {
            id
        } else {
            let new = NewToken { name: "ci".to_owned(), scopes: TokenScopes::ADMIN, expires_at: None };
            let made = tried(process, || process.engine.token_create(scope.clone(), new.clone())).await?;
            *self.token.insert(made.0.id)
        };
        let revoked = tried(process, || process.engine.token_revoke(scope.clone(), id)).await?;
        if revoked.revoked_at.is_some() { Ok(()) } else { Err(Stop::Wrong(format!("{id} is not revoked"))) }
    }

    async fn agent_create(&mut self, process: &TestProcess, name: &'static str, calls: Option<u32>) -> Done {
        let scope = process.scope(self.tenant()?);
        let new = NewAgent {
            handle: handle(name),
            display_name: name.to_owned(),
            labels: BTreeMap::new(),
            config: AgentConfig {
                model: "scripted".to_owned(),
                grants: ["model", "reply", "file.*", "time.now", "message.send", "tool:reply"]
                    .map(str::to_owned)
                    .to_vec(),
                model_calls_max: calls,
                ..AgentConfig::default()
            },
        };
        let made = tried(process, || process.engine.agent_create(scope.clone(), new.clone())).await;
        let agent = match made {
            Ok(agent) => agent,
            Err(Failed::Fault(fault)) if fault.code == ErrorCode::HandleTaken => {
                let found = process.store.agent_by_handle(&scope, &handle(name)).await.map_err(wrong)?;
                found.ok_or_else(|| Stop::Wrong("the handle is taken by nobody".to_owned()))?
            }
            Err(failed) => return Err(failed.into()),
        };
        self.agents.insert(name, agent.id);
        Ok(())
    }

    /// Says something to an agent and waits until the run that took it has ended.
    async fn turn(
        &mut self,
        process: &TestProcess,
        key: &'static str,
        agent: &'static str,
        text: &str,
    ) -> Done {
        let outcome = self.say(process, key, agent, text).await?.and_then(|submitted| submitted.outcome);
        let run = self.taken(process, key).await?;
        let status = ended(process, self.tenant()?, run).await?;
        if let Some(outcome) = outcome {
            let told = alive(process, outcome).await?.map_err(|fault| Stop::Wrong(words(fault)))?;
            if told.run != run || told.head.status != status {
                return Err(Stop::Wrong(format!("{key}: the waiter was told of {told:?}, not of {run}")));
            }
        }
        let expected = if key == "loop" { RunStatus::Yielded } else { RunStatus::Completed };
        if status == expected { Ok(()) } else { Err(Stop::Wrong(format!("{key} is {}", status.as_str()))) }
    }

    /// Sends an input until it is acknowledged; what was acknowledged is not sent again.
    async fn say(
        &mut self,
        process: &TestProcess,
        key: &'static str,
        agent: &'static str,
        text: &str,
    ) -> Done<Option<InputReceipt>> {
        if self.acked.iter().any(|(known, _)| *known == key) {
            return Ok(None);
        }
        let (tenant, agent) = (self.tenant()?, self.agent(agent)?);
        let author = Actor::new("cli:person");
        let platform = if key == REPLYING { WEBHOOK } else { "cli" };
        let session = SessionKey { platform: platform.into(), channel: "main".into(), actor: author.clone() };
        let input = NewInput {
            target: InputTarget::Key { agent, key: session },
            author,
            history: Vec::new(),
            answers: None,
            offer: ClientOptions::default(),
            call: None,
            workspace: None,
            when_busy: None,
            parts: vec![ContentPart::new_text(text, Label::ACTOR_TEXT)],
            key: Some(ItemKey {
                key: format!("http:{key}"),
                request: Digest::from_bytes(*blake3::hash(text.as_bytes()).as_bytes()),
                lifetime: KeyLifetime::Day,
            }),
            wait: true,
        };
        let scope = process.scope(tenant);
        let submitted = tried(process, || process.engine.submit_input(scope.clone(), input.clone())).await?;
        self.acked.push((key, Acked { item: submitted.item, session: submitted.session }));
        Ok(Some(submitted))
    }

    /// Waits until an acknowledged input was taken; one that is not there is lost.
    async fn taken(&self, process: &TestProcess, key: &'static str) -> Done<RunId> {
        let Acked { item, session } = self.acked_of(key)?;
        let scope = process.scope(self.tenant()?);
        alive(process, async {
            loop {
                let inbox = process.store.inbox_items(&scope, InboxOwner::Session(session), 0, 256).await;
                let inbox = inbox.map_err(wrong)?;
                match inbox.iter().find(|found| found.id == item) {
                    None => return Err(Stop::Wrong(format!("{key} was acknowledged and is lost"))),
                    Some(found) => match found.taken_by {
                        Some(run) => return Ok(run),
                        None => tokio::time::sleep(Duration::from_millis(1)).await,
                    },
                }
            }
        })
        .await?
    }

    /// Waits until the message to bob was answered, so that the next step finds him idle.
    async fn rest(&self, process: &TestProcess) -> Done {
        alive(process, process.settle()).await?.map_err(Stop::Wrong)
    }

    /// Goes on from the yielded run, and waits until that has ended too.
    async fn resume(&mut self, process: &TestProcess) -> Done {
        let scope = process.scope(self.tenant()?);
        let yielded = self.taken(process, "loop").await?;
        if !self.acked.iter().any(|(known, _)| *known == "resume") {
            let resumed = tried(process, || process.engine.resume_run(scope.clone(), yielded)).await?;
            self.acked.push(("resume", Acked { item: resumed.item, session: resumed.session }));
        }
        let run = self.taken(process, "resume").await?;
        match ended(process, self.tenant()?, run).await? {
            RunStatus::Yielded => Ok(()),
            status => Err(Stop::Wrong(format!("the resumed run is {}", status.as_str()))),
        }
    }

    /// Ends a turn whose model takes its time.
    async fn end(&mut self, process: &TestProcess, key: &'static str, end: RunEndMode) -> Done {
        let said = self.say(process, key, "ada", "@slow 600000\n@say never").await?;
        drop(said);
        let scope = process.scope(self.tenant()?);
        let run = self.taken(process, key).await?;
        tried(process, || process.engine.end_run(scope.clone(), run, end)).await?;
        match ended(process, self.tenant()?, run).await? {
            RunStatus::Cancelled => Ok(()),
            status => Err(Stop::Wrong(format!("{key}, which was ended, is {}", status.as_str()))),
        }
    }

    /// Writes custom state as the route does. A second request for the first version is the same one.
    async fn state(&mut self, process: &TestProcess) -> Done {
        let scope = process.scope(self.tenant()?);
        let session = self.acked_of("plain")?.session;
        // Of this time is the same write again after a crash, too.
        let at = *self.state_at.get_or_insert_with(|| dromia_testkit::tokio_runtime().clock.now());
        let (name, value) = (STATE.0.to_owned(), Bytes::from_static(STATE.1));
        let write = WriteId::from_bytes([7; 16]);
        let put = StatePut { session, name, expected: Some(0), value, at, write };
        let batch = WriteBatch::new(scope.tenant())
            .wanted_by(scope.actor(), at)
            .with_mutation(Mutation::StatePut(put));
        loop {
            match alive(process, process.store.commit(batch.clone())).await? {
                CommitOutcome::Done(_) => return Ok(()),
                _ if process.store.is_dead() => return Err(Stop::Crashed),
                CommitOutcome::Unknown { .. }
                | CommitOutcome::Refused(CommitRefusal::ReadOnly { .. } | CommitRefusal::Overloaded) => {}
                other @ CommitOutcome::Refused(_) => {
                    return Err(Stop::Wrong(format!("the state: {other:?}")));
                }
            }
        }
    }

    /// Pauses ada, says something that waits, and lets her go on.
    async fn pause(&mut self, process: &TestProcess) -> Done {
        let (scope, ada) = (process.scope(self.tenant()?), self.agent("ada")?);
        let set = |to| process.engine.agent_set_state(scope.clone(), ada, to);
        if self.acked_of("paused").is_err() {
            tried(process, || set(AgentState::Paused)).await?;
            drop(self.say(process, "paused", "ada", "are you there?").await?);
        }
        tried(process, || set(AgentState::Running)).await?;
        let run = self.taken(process, "paused").await?;
        match ended(process, self.tenant()?, run).await? {
            RunStatus::Completed => Ok(()),
            status => Err(Stop::Wrong(format!("what waited is {}", status.as_str()))),
        }
    }

    /// Lets ada ask for a call, and allows it.
    async fn asked(&mut self, process: &TestProcess) -> Done {
        let text = "@tool file.write {\"path\":\"asked\",\"content\":\"allowed\"}\n@say kept";
        drop(self.say(process, "asked", "ada", text).await?);
        let scope = process.scope(self.tenant()?);
        let run = self.taken(process, "asked").await?;
        let open = alive(process, async {
            loop {
                let found = process
                    .store
                    .approvals(&scope, ApprovalFilter::default(), PageRequest::first_page(9))
                    .await;
                let found = found.map_err(wrong)?.into_iter().find(|approval| approval.source.run == run);
                if let Some(approval) = found {
                    return Ok::<_, Stop>(approval.state.is_open().then_some(approval.id));
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        if let Some(id) = open.await?? {
            let approve = || ApprovalDecision::Approve(ApprovalReach::Once);
            tried(process, || process.engine.approval_answer(scope.clone(), id, Vec::new(), approve()))
                .await?;
        }
        match ended(process, self.tenant()?, run).await? {
            RunStatus::Completed => {}
            status => return Err(Stop::Wrong(format!("the run that asked is {}", status.as_str()))),
        }
        let found =
            process.store.approvals(&scope, ApprovalFilter::default(), PageRequest::first_page(9)).await;
        match found.map_err(wrong)?.as_slice() {
            [one] if (one.state, one.used_by) == (ApprovalState::Used, Some(run)) => Ok(()),
            other => Err(Stop::Wrong(format!("the approvals are {other:?}"))),
        }
    }

    /// Has ada do something that is put off, and waits until it began by itself.
    async fn delayed(&mut self, process: &TestProcess) -> Done {
        let text = "@tool file.write {\"path\":\"later\",\"content\":\"in time\"}\n@say kept";
        self.turn(process, "delayed", "ada", text).await?;
        let scope = process.scope(self.tenant()?);
        let run = self.taken(process, "delayed").await?;
        let found =
            process.store.approvals(&scope, ApprovalFilter::default(), PageRequest::first_page(9)).await;
        let mut of_run = found.map_err(wrong)?;
        of_run.retain(|approval| approval.source.run == run);
        let in_time = |approval: &ApprovalRequest| {
            let answered = approval.answer.as_ref().map(|answer| answer.at);
            approval.deadlines.cools_until.is_some() && answered >= approval.deadlines.cools_until
        };
        match of_run.as_slice() {
            [one] if one.state == ApprovalState::Used && one.used_by == Some(run) && in_time(one) => Ok(()),
            other => Err(Stop::Wrong(format!("what was put off is {other:?}"))),
        }
    }

    async fn delete(&mut self, process: &TestProcess) -> Done {
        let (scope, eve) = (process.scope(self.tenant()?), self.agent("eve")?);
        match tried(process, || process.engine.agent_delete(scope.clone(), eve)).await {
            Ok(_) => {}
            // The attempt before was not heard; she is on her way out.
            Err(Failed::Fault(fault)) if fault.code == ErrorCode::AgentNotFound => {}
            Err(failed) => return Err(failed.into()),
        }
        self.rest(process).await
    }

    pub(crate) fn tenant(&self) -> Done<TenantId> {
        self.tenant.ok_or_else(|| Stop::Wrong("there is no tenant".to_owned()))
    }

    pub(crate) fn token_id(&self) -> Done<TokenId> {
        self.token.ok_or_else(|| Stop::Wrong("there is no token".to_owned()))
    }

    pub(crate) fn agent(&self, name: &str) -> Done<AgentId> {
        self.agents.get(name).copied().ok_or_else(|| Stop::Wrong(format!("there is no {name}")))
    }

    pub(crate) fn acked_of(&self, key: &str) -> Done<Acked> {
        let found = self.acked.iter().find(|(known, _)| *known == key).map(|(_, acked)| *acked);
        found.ok_or_else(|| Stop::Wrong(format!("{key} was never acknowledged")))
    }
}

/// Why a request was not done in the end.
enum Failed {
    Stop(Stop),
    /// A fault that repeating the request does not mend.
    Fault(Fault),
}

impl From<Failed> for Stop {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Stop(stop) => stop,
            Failed::Fault(fault) => Self::Wrong(format!("{}: {}", fault.code, fault.message)),
        }
    }
}

/// Makes a request until its outcome is known, as the hints of the faults ask for.
async fn tried<T, F>(process: &TestProcess, request: impl Fn() -> F) -> Result<T, Failed>
where
    F: Future<Output = Result<T, Fault>>,
{
    loop {
        match alive(process, request()).await.map_err(Failed::Stop)? {
            Ok(done) => return Ok(done),
            Err(_) if process.store.is_dead() => return Err(Failed::Stop(Stop::Crashed)),
            Err(fault) => match fault.code {
                ErrorCode::OutcomeUnknown | ErrorCode::StoreReadOnly | ErrorCode::StoreUnavailable => {}
                _ => return Err(Failed::Fault(fault)),
            },
        }
    }
}

/// Waits for something for as long as the process lives.
async fn alive<T>(process: &TestProcess, what: impl Future<Output = T>) -> Done<T> {
    tokio::select! {
        // An answer that is there counts, even if the process died right after it.
        biased;
        done = what => Ok(done),
        () = process.store.wait_for_crash() => Err(Stop::Crashed),
    }
}

async fn ended(process: &TestProcess, tenant: TenantId, run: RunId) -> Done<RunStatus> {
    let scope = process.scope(tenant);
    alive(process, async {
        loop {
            let row = process.store.run(&scope, run).await.map_err(wrong)?;
            match row.map(|row| row.head.status) {
                None => return Err(Stop::Wrong(format!("{run} is gone"))),
                Some(RunStatus::Held) => return Err(Stop::Wrong(format!("{run} is held"))),
                Some(status) if status.is_terminal() => return Ok(status),
                Some(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    })
    .await?
}

fn wrong(error: impl std::fmt::Display) -> Stop {
    Stop::Wrong(words(error))
}

fn handle(text: &str) -> dromia_contracts::agent::HandleSlug {
    text.parse().expect("a handle")
}
