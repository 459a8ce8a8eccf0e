//! The one way of an input to the engine: what an actor brings is counted against his rate first.
//!
//! Whoever says something costs his tenant a turn, so a stranger who may speak must not speak without end. The author is
//! counted, not the credential: behind one token, or one signed channel, each actor has a rate of his own. How much they all
//! ask is the token's rate (`allowance`), and what they spend is their budgets.
//!
//! A repeat that joins an input which is there brings nothing, so it is neither refused nor counted. It is known by its
//! idempotency key; results of calls that were handed to a client have none, so a repeat of those is refused like any other
//! input where the rate is used up.

use dromia_contracts::runs::{NewInput, Submitted};
use dromia_contracts::store::ItemKey;
use dromia_contracts::{Actor, ErrorCode, Scope, TenantId};
use jiff::Timestamp;

use crate::caller::Caller;
use crate::core::Core;
use crate::failure::{Answer, Failure};
use crate::metrics::Refused;

/// Who brings an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bringer {
    /// The operator, who speaks for himself: he is not counted.
    Operator,
    /// Anybody else, and those for whom the operator speaks.
    Actor,
}

impl Bringer {
    /// Tells who brings what a caller sends under the name of an author.
    pub(crate) fn of(caller: &Caller, author: &Actor) -> Self {
        if caller.is_operator() && caller.scope.actor() == author { Self::Operator } else { Self::Actor }
    }
}

/// Hands an input to the engine, unless its author has used up his rate. When this ends well, the input is durable.
pub(crate) async fn submit(
    core: &Core,
    bringer: Bringer,
    scope: Scope,
    input: NewInput,
) -> Answer<Submitted> {
    let leave = leave(core, bringer, &scope, &input.author, input.key.as_ref()).await?;
    leave.submit(core, scope, input).await
}

/// The leave to bring one input; it names whose it was, if it was counted.
#[derive(Debug)]
pub(crate) struct Leave(Option<Actor>);

/// Counts an input of an author under a key, for whoever makes something else first: a refusal leaves nothing of it.
pub(crate) async fn leave(
    core: &Core,
    bringer: Bringer,
    scope: &Scope,
    author: &Actor,
    key: Option<&ItemKey>,
) -> Answer<Leave> {
    let now = core.ports.runtime.clock.now();
    Ok(Leave(match bringer {
        Bringer::Operator => None,
        Bringer::Actor => charge(core, scope, author, key, now).await?,
    }))
}

impl Leave {
    /// Hands the input to the engine.
    pub(crate) async fn submit(self, core: &Core, scope: Scope, input: NewInput) -> Answer<Submitted> {
        let tenant = scope.tenant();
        let submitted = core.ports.runs.submit(scope, input).await?;
        if submitted.replayed {
            self.give_back(core, tenant);
        }
        Ok(submitted)
    }

    /// Puts it back, because nothing was brought.
    pub(crate) fn give_back(self, core: &Core, tenant: TenantId) {
        if let Self(Some(author)) = self {
            core.actors.give_back(tenant, &author);
        }
    }
}

/// Counts an input; returns whose it was, if it was counted.
async fn charge(
    core: &Core,
    scope: &Scope,
    author: &Actor,
    key: Option<&ItemKey>,
    now: Timestamp,
) -> Answer<Option<Actor>> {
    let Err(again_ms) = core.actors.take(scope.tenant(), author, now) else {
        return Ok(Some(author.clone()));
    };
    if let Some(key) = key
        && is_known(core, scope, key, now).await?
    {
        return Ok(None);
    }
    core.meters.refused(Refused::ActorRate);
    let text = format!("{author} has said as much as one actor may for now");
    Err(Failure::new(ErrorCode::ActorRateLimited, text).again_in(again_ms.div_ceil(1_000).max(1)))
}

/// Tells whether a key stands for the input of the same request.
async fn is_known(core: &Core, scope: &Scope, key: &ItemKey, now: Timestamp) -> Answer<bool> {
    let known = core.ports.store.keyed(scope, &key.key, now).await?;
    Ok(known.is_some_and(|known| known.request == key.request))
}
