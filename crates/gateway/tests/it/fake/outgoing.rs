//! What leaves by itself: a channel, a way out that leads nowhere, and a message that waits for a person.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dromia_contracts::agent::AgentConfig;
use dromia_contracts::delivery::DeadReason;
use dromia_contracts::entry::{Entry, RunStarted};
use dromia_contracts::mind::AgentMind;
use dromia_contracts::model::TokenUsage;
use dromia_contracts::run::{RunHead, RunKind, RunStatus};
use dromia_contracts::runtime::Runtime;
use dromia_contracts::session::{InboxOwner, ItemKind, SessionKey};
use dromia_contracts::store::{
    AgentCreate, CommitOutcome, DeliveryDrop, DeliveryPrepare, InboxPut, Mutation, NewEntry, SessionOpen,
    Store as _, TenantCreate, TurnClaim, WriteBatch,
};
use dromia_contracts::vault::NoSecrets;
use dromia_contracts::{Actor, BoxFuture, Digest, ItemId, Scope, ScopeAuthority};
use dromia_gateway::signature::WebhookSigningKey;
use dromia_gateway::{
    AdapterPorts, ChannelKey, ChannelKeys, ChannelSet, Outbox, OutboxPorts, WebhookChannel, WebhookOutcome,
    WebhookRequest, WebhookSender,
};
use futures_util::FutureExt as _;
use jiff::Timestamp;

use super::Rooms;
use crate::world::House;

/// The secret of the channel `orders`.
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What signs for the channel `vaulted`, as the vault has it.
pub(crate) const VAULTED: &str = "whsec_dmF1bHRlZC12YXVsdGVkLXZhdWx0ZWQtdmF1bHRlZA==";

/// A vault with one key: `VAULTED`, and `SECRET` once it has changed. It counts how often it was opened.
#[derive(Debug, Default)]
pub(crate) struct OneKey {
    pub opened: AtomicUsize,
    pub changes: AtomicU64,
}

impl ChannelKeys for OneKey {
    fn open_key<'a>(
        &'a self,
        _: &'a Scope,
        secret: &'a str,
        url: &'a str,
    ) -> BoxFuture<'a, Result<WebhookSigningKey, String>> {
        assert_eq!(url, channel().url, "it is for the server of the channel");
        self.opened.fetch_add(1, Ordering::SeqCst);
        let found = if secret == "signing" {
            let value = if self.change_count() == 0 { VAULTED } else { SECRET };
            Ok(value.parse().unwrap())
        } else {
            Err("there is no secret of that name".to_owned())
        };
        Box::pin(std::future::ready(found))
    }

    fn change_count(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }
}

/// A way out that leads nowhere.
#[derive(Debug)]
struct Nowhere;

impl WebhookSender for Nowhere {
    fn send_webhook(&self, _: WebhookRequest) -> BoxFuture<'static, WebhookOutcome> {
        Box::pin(std::future::ready(WebhookOutcome::NotSent { cause: "there is no way out".to_owned() }))
    }
}

/// A channel of the default tenant.
pub(crate) fn channel() -> WebhookChannel {
    WebhookChannel {
        tenant: "default".parse().unwrap(),
        agent: "ops".parse().unwrap(),
        when_busy: None,
        url: "http://receiver.example/hook".to_owned(),
        key: ChannelKey::Held(SECRET.parse().unwrap()),
        idempotent: true,
        tolerance: Duration::from_mins(5),
        attempts_max: 3,
        backoff: Duration::from_secs(1),
        backoff_max: Duration::from_mins(1),
        age_max: Duration::from_hours(24),
        recovery_max: 1_000,
        timeout: Duration::from_secs(15),
    }
}

/// An outbox with the channel `orders`, two whose keys are in the vault or should be, and which nobody starts.
pub(crate) fn outbox(rooms: Arc<Rooms>, runtime: Runtime, keys: Arc<OneKey>) -> Outbox {
    let ports = OutboxPorts {
        store: rooms,
        channels: AdapterPorts { post: Arc::new(Nowhere), keys },
        leaks: Arc::new(NoSecrets),
        runtime,
        authority: ScopeAuthority::claim(),
    };
    let vaulted = |secret: &str| WebhookChannel { key: ChannelKey::InVault(secret.to_owned()), ..channel() };
    let channels = [("orders", channel()), ("vaulted", vaulted("signing")), ("lost", vaulted("gone"))];
    Outbox::new(ports, ChannelSet::from_iter(channels.map(|(name, channel)| (name.to_owned(), channel))))
}

/// Stores a message of a house that was given up.
pub(crate) fn dead_message(rooms: &Rooms, house: &House, handle: &str) {
    let at = Timestamp::UNIX_EPOCH;
    let done = |batch: WriteBatch| {
        // The reference store answers at once.
        let answer = rooms.outgoing.commit(batch).now_or_never().unwrap();
        assert!(matches!(answer, CommitOutcome::Done(_)), "{answer:?}");
    };
    let config = AgentConfig { model: "m".into(), ..AgentConfig::default() };
    let key = SessionKey { platform: "webhook".into(), channel: "orders".into(), actor: Actor::new("a") };
    let world = WriteBatch::new(house.tenant)
        .with_mutation(Mutation::TenantCreate(TenantCreate {
            handle: handle.parse().unwrap(),
            at,
            body_key: [1; 32],
        }))
        .with_mutation(Mutation::AgentCreate(AgentCreate {
            agent: house.agent,
            handle: "ops".parse().unwrap(),
            display_name: String::new(),
            labels: std::collections::BTreeMap::default(),
            at,
            revision: Digest::default(),
            config,
        }))
        .with_mutation(Mutation::SessionOpen(SessionOpen {
            session: house.session,
            agent: house.agent,
            key,
            at,
            believes: false,
            importing: false,
            origin: None,
        }));
    done(world);
    let item = ItemId::from_bytes(*house.run.as_bytes());
    let started = Entry::RunStarted(RunStarted {
        kind: RunKind::Turn,
        agent: house.agent,
        session: house.session,
        items: vec![item],
        after: 0,
        resumes: None,
        approved: None,
        origin: None,
        workspace: None,
        summary: None,
        briefing: None,
        config: Digest::default(),
        prompt: Digest::default(),
        layers: Vec::new(),
        model: None,
        mind: AgentMind::Solo,
        woken: 0,
        model_calls_max: 1,
        deadline: None,
    });
    let mut turn = WriteBatch::new(house.tenant)
        .with_mutation(Mutation::InboxPut(InboxPut {
            owner: InboxOwner::Session(house.session),
            item,
            at,
            kind: ItemKind::Input,
            author: Actor::new("a"),
            body: Bytes::from_static(b"{}"),
            key: None,
        }))
        .with_mutation(Mutation::DeliveryPrepare(DeliveryPrepare {
            delivery: house.delivery,
            target: "webhook:orders".to_owned(),
            agent: house.agent,
            session: house.session,
            run: house.run,
            seq: 1,
            at,
            body: Bytes::from_static(br#"{"type":"agent.replied"}"#),
        }));
    turn.claim = Some(TurnClaim {
        session: house.session,
        agent: house.agent,
        run: house.run,
        holder: Digest::default(),
        after: 0,
        notice: None,
        take: vec![item],
        entries: vec![NewEntry { at, entry: started, body: None }],
        head: RunHead {
            status: RunStatus::Completed,
            wake_at: None,
            model_calls: 0,
            usage: TokenUsage::default(),
            cost_micros: 0,
            unpriced_calls: 0,
        },
    });
    done(turn);
    done(WriteBatch::new(house.tenant).with_mutation(Mutation::DeliveryDrop(DeliveryDrop {
        delivery: house.delivery,
        attempts: 0,
        redrives: 0,
        reason: DeadReason::Expired,
        at,
    })));
}
