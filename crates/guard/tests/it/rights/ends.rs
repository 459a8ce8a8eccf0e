//! When a capability counts no more: taken back, with its time, and with the agent that handed it on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dromia_contracts::agent::AgentState;
use dromia_contracts::capability::{CapabilityRegistry as _, CapabilityState, NewCapability, held_by};
use dromia_contracts::gate::{Gate as _, GateVerdict};
use dromia_contracts::runtime::{Clock, Runtime};
use dromia_contracts::store::{AgentStateSet, Mutation};
use dromia_contracts::{BoxFuture, CapabilityId, ErrorCode};
use dromia_guard::{GrantGate, StoreCapabilities, StoreVault};
use dromia_testkit::{FaultyStore, ManualClock, ReferenceStore, tokio_runtime_seeded};
use jiff::Timestamp;

use super::{RightsFixture, call, new, shipped, write};
use crate::hang_ups::hang_up_on;
use crate::vault::Keys;

#[tokio::test]
async fn a_revocation_applies_to_the_next_call_of_a_run() {
    let fixture = RightsFixture::new().await;
    let made = fixture.grant(0, &["file:write:docs"]).await;
    // A run keeps the grants that it began with.
    let grants = fixture.words(0).await;
    assert_eq!(grants, [held_by(fixture.scene.tenant, fixture.agents[0])]);
    assert!(fixture.under(&grants, &write("docs/a")).is_ok());
    fixture.revoke(made.id).await;
    assert_eq!(fixture.under(&grants, &write("docs/a")), Err(format!("capability {} block 0", made.id)));
    let again = fixture.capabilities.revoke_capability(fixture.scope(), made.id).await.expect("again");
    assert_eq!(again.revoked_at, Some(fixture.clock.now()), "the first time counts");
    // What a later life of the process reads says the same.
    let later = RightsFixture::later(fixture);
    assert_eq!(later.words(0).await, grants);
    assert!(matches!(later.verdict(&grants, &write("docs/a")), GateVerdict::Deny { .. }));
}

#[tokio::test]
async fn a_revocation_applies_though_its_caller_disconnects() {
    let store = Arc::new(FaultyStore::new(Arc::new(ReferenceStore::new())));
    let fixture = RightsFixture::over(Arc::clone(&store) as _, 1).await;
    let made = fixture.grant(0, &["file:write:docs"]).await;
    let grants = fixture.words(0).await;
    assert!(fixture.under(&grants, &write("docs/a")).is_ok());
    hang_up_on(&store, fixture.capabilities.revoke_capability(fixture.scope(), made.id)).await;
    let end = Instant::now() + Duration::from_mins(1);
    while fixture.under(&grants, &write("docs/a")).is_ok() {
        assert!(Instant::now() < end, "memory keeps what the store took away");
        tokio::task::yield_now().await;
    }
    // What is granted next is added to what counts now.
    fixture.grant(1, &["file:write:docs"]).await;
    assert_eq!(fixture.under(&grants, &write("docs/a")), Err(format!("capability {} block 0", made.id)));
}

#[tokio::test]
async fn children_of_an_erased_agents_capability_end_at_once() {
    let fixture = RightsFixture::new().await;
    let parent = fixture.grant(0, &["file:write:docs"]).await;
    let child = fixture.make(Some(parent.id), 1, &[], None).await.expect("handed on");
    let grandchild = fixture.make(Some(child.id), 2, &[], None).await.expect("handed on");
    let own = fixture.grant(2, &["file:write:own"]).await;
    assert!(fixture.judged(2, &write("docs/a")).await.is_ok());
    let (from, to) = (vec![AgentState::Running], AgentState::Deleting);
    let set = AgentStateSet { agent: fixture.agents[0], from, to };
    fixture.scene.commit_mutation(Mutation::AgentStateSet(set)).await;
    fixture.capabilities.forget_agent(fixture.scene.tenant, fixture.agents[0]).await;
    assert_eq!(fixture.words(0).await, Vec::<String>::new());
    for (agent, id) in [(1, child.id), (2, grandchild.id)] {
        assert_eq!(fixture.judged(agent, &write("docs/a")).await, Err(format!("capability {id}")));
    }
    assert_eq!(
        fixture.judged(2, &write("own/a")).await,
        Ok(format!("capability {} block 0 file:write:own", own.id))
    );
    let again = fixture.make(Some(parent.id), 1, &[], None).await.map(|made| made.id);
    assert_eq!(again.map_err(|fault| fault.code), Err(ErrorCode::CapabilityNotFound));

    // Whoever reads the store from then on finds the same, also before the last row is gone.
    let listed = fixture.capabilities.list_capabilities(fixture.scope(), None, 9).await.expect("a list");
    assert_eq!((listed.len(), listed.iter().any(|(row, _)| row.id == parent.id)), (3, false));
    let state = |id: CapabilityId| listed.iter().find(|(row, _)| row.id == id).map(|(_, state)| *state);
    let gone = Some(CapabilityState::ParentGone);
    assert_eq!([child.id, grandchild.id].map(state), [gone; 2]);
    assert_eq!(state(own.id), Some(CapabilityState::Active));
    let later = RightsFixture::later(fixture);
    assert_eq!(later.judged(1, &write("docs/a")).await, Err(format!("capability {}", child.id)));
    assert_eq!(later.words(0).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_capability_expires_and_bounds_the_duration_of_calls() {
    let fixture = RightsFixture::new().await;
    let short = fixture.make(None, 0, &["file:write:docs"], Some(60)).await.expect("granted");
    let longer = fixture.make(Some(short.id), 1, &[], Some(600)).await.expect("handed on");
    assert_eq!(longer.until, short.until, "none lasts longer than what it is made from");
    let limited = NewCapability { wall_ms_max: Some(5_000), ..new(None, fixture.agents[2], &["tool:exec"]) };
    let limited = fixture.capabilities.grant_capability(fixture.scope(), limited).await.expect("granted");
    let by = Ok(format!("capability {} block 0 tool:exec", limited.id));
    let run = |seconds: &str| call("exec", &format!(r#"{{"argv":["true"]{seconds}}}"#));
    assert_eq!(fixture.judged(2, &run(r#","timeout_s":5"#)).await, by);
    let too_long = Err(format!("capability {} block 0", limited.id));
    assert_eq!(fixture.judged(2, &run(r#","timeout_s":6"#)).await, too_long);
    assert_eq!(fixture.judged(2, &run("")).await, too_long, "who does not say it may take for ever");
    let why = fixture.why(2, &run("")).await;
    assert!(why.contains("at most 5000 ms: set `timeout_s` to 5 or less"), "{why}");
    let of_files = NewCapability { wall_ms_max: Some(1), ..new(None, fixture.agents[2], &["file:read:"]) };
    let refused = fixture.capabilities.grant_capability(fixture.scope(), of_files).await.map(|made| made.id);
    assert_eq!(refused.map_err(|fault| fault.code), Err(ErrorCode::InvalidRequest));

    fixture.clock.advance(Duration::from_secs(59));
    assert!(fixture.judged(0, &write("docs/a")).await.is_ok());
    assert!(fixture.judged(1, &write("docs/a")).await.is_ok());
    fixture.clock.advance(Duration::from_secs(1));
    assert_eq!(fixture.judged(0, &write("docs/a")).await, Err(format!("capability {} block 0", short.id)));
    assert_eq!(fixture.judged(1, &write("docs/a")).await, Err(format!("capability {} block 0", longer.id)));
}

/// A clock whose timers never ring.
#[derive(Debug)]
struct SilentClock(ManualClock);

impl Clock for SilentClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn sleep_until(&self, _: Timestamp) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }

    fn monotonic_now(&self) -> Duration {
        self.0.monotonic_now()
    }

    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        self.0.sleep(wait)
    }
}

/// Lets a capability expire while a call of it runs, and looks whether the call learns of it, and of that alone.
async fn check_expiry_of_running_call(is_silent: bool) -> Result<(), String> {
    let mut fixture = RightsFixture::new().await;
    if is_silent {
        let clock: Arc<dyn Clock> = Arc::new(SilentClock(fixture.clock.clone()));
        let runtime = Runtime { clock, ..tokio_runtime_seeded(7) };
        let store = Arc::clone(&fixture.scene.store);
        let vault = Arc::new(StoreVault::new(Arc::clone(&store), Arc::new(Keys(7)), runtime.clone()));
        fixture.capabilities = Arc::new(StoreCapabilities::new(store, vault, runtime));
        fixture.gate = GrantGate::new(shipped()).with_capabilities(fixture.capabilities.live_capabilities());
    }
    fixture.make(None, 0, &["file:read:docs"], Some(30)).await.expect("granted");
    let parent = fixture.make(None, 1, &["file:write:docs"], Some(60)).await.expect("granted");
    let made = fixture.make(Some(parent.id), 0, &[], None).await.expect("handed on");
    let (scope, grants, call) = (fixture.scope(), fixture.words(0).await, write("docs/a"));
    let mut withdrawn = fixture.gate.await_withdrawal(&scope, &grants, &call);
    let mut learned = || {
        let waker = std::task::Waker::noop();
        match withdrawn.as_mut().poll(&mut std::task::Context::from_waker(waker)) {
            std::task::Poll::Ready(rule) => Some(rule),
            std::task::Poll::Pending => None,
        }
    };
    assert_eq!(learned(), None);
    for (seconds, what) in [(31, "the end of another capability ends it"), (28, "it ends too early")] {
        fixture.clock.advance(Duration::from_secs(seconds));
        if learned().is_some() {
            return Err(what.to_owned());
        }
    }
    fixture.clock.advance(Duration::from_secs(1));
    match learned() {
        Some(rule) if rule == format!("capability {} block 0", made.id) => Ok(()),
        Some(rule) => Err(format!("by another rule: {rule}")),
        None => Err("a call runs on after its capability has expired".to_owned()),
    }
}

#[tokio::test]
async fn a_running_call_learns_that_its_capability_expires() {
    assert_eq!(check_expiry_of_running_call(false).await, Ok(()));
}

/// Planted fault: nothing wakes the wait when the capability expires.
#[tokio::test]
async fn a_call_that_outlives_its_capability_is_caught() {
    let problem = check_expiry_of_running_call(true).await;
    assert_eq!(problem, Err("a call runs on after its capability has expired".to_owned()));
}

/// A clock that moves on behind one of its reads, as the time does for a process that must wait for a processor.
#[derive(Debug)]
struct SteppingClock {
    below: ManualClock,
    /// How many reads come before the step.
    reads: AtomicUsize,
}

impl Clock for SteppingClock {
    fn now(&self) -> Timestamp {
        let now = self.below.now();
        let before = self.reads.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if before == Ok(1) {
            self.below.advance(Duration::from_secs(2));
        }
        now
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        self.below.sleep_until(at)
    }

    fn monotonic_now(&self) -> Duration {
        self.below.monotonic_now()
    }

    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        self.below.sleep(wait)
    }
}

/// The wait judges and then sets its timer. A capability that expires between any two looks at the clock ends the call.
#[tokio::test]
async fn a_capability_that_expires_before_the_timer_is_set_ends_its_call() {
    // Before the judgement and in it: the timer reads no clock.
    for read in 1..=2 {
        let mut fixture = RightsFixture::new().await;
        let clock = Arc::new(SteppingClock { below: fixture.clock.clone(), reads: AtomicUsize::new(0) });
        let runtime = Runtime { clock: Arc::clone(&clock) as _, ..tokio_runtime_seeded(7) };
        let store = Arc::clone(&fixture.scene.store);
        let vault = Arc::new(StoreVault::new(Arc::clone(&store), Arc::new(Keys(7)), runtime.clone()));
        fixture.capabilities = Arc::new(StoreCapabilities::new(store, vault, runtime));
        fixture.gate = GrantGate::new(shipped()).with_capabilities(fixture.capabilities.live_capabilities());
        fixture.make(None, 0, &["file:write:docs"], Some(30)).await.expect("granted");
        let (scope, grants, call) = (fixture.scope(), fixture.words(0).await, write("docs/a"));
        fixture.clock.advance(Duration::from_secs(29));
        clock.reads.store(read, Ordering::SeqCst);
        let mut withdrawn = fixture.gate.await_withdrawal(&scope, &grants, &call);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let mut learned = || withdrawn.as_mut().poll(&mut context).is_ready();
        let has_learned = learned() || learned();
        assert_eq!(clock.reads.load(Ordering::SeqCst), 0, "read {read}: the clock did not move");
        assert!(has_learned, "read {read}: the call runs on after its capability has expired");
    }
}
