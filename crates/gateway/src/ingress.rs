//! The one way of an input to the engine: each input is counted against its actor's rate first.
//!
//! Every input costs its tenant a turn, so a stranger who may speak must not speak without end. The author is counted,
//! not the credential: behind one token, or one signed channel, each actor has a rate of his own. How much they all ask
//! is the token's rate (`rate_limit`), and what they spend is their budgets.
//!
//! A repeat that joins an input which is there adds nothing, so it is neither refused nor counted. It is known by its
//! idempotency key; results of calls that were handed to a client have none, so a repeat of those is refused like any other
//! input where the rate is used up.

use dromia_contracts::runs::{InputReceipt, InputTarget, NewInput};
use dromia_contracts::store::ItemKey;
use dromia_contracts::{Actor, ErrorCode, Scope, TenantId};
use jiff::Timestamp;

use crate::caller::Caller;
use crate::core::GatewayCore;
use crate::edge_refusal::EdgeRefusal;
use crate::failure::{Answer, ApiError};
use crate::reserved_platforms;

/// Who submits an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Submitter {
    /// The operator, who speaks for himself: he is not counted.
    Operator,
    /// Any other caller, and those for whom the operator speaks.
    Actor,
}

impl Submitter {
    /// Tells who submits what a caller sends under the name of an author.
    pub(crate) fn from_caller(caller: &Caller, author: &Actor) -> Self {
        if caller.is_operator() && caller.scope.actor() == author { Self::Operator } else { Self::Actor }
    }
}

/// Hands an input to the engine, unless its author has used up his rate. When this ends well, the input is durable.
pub(crate) async fn submit_input(
    core: &GatewayCore,
    bringer: Submitter,
    scope: Scope,
    input: NewInput,
) -> Answer<InputReceipt> {
    // On every route that names a session, for every caller.
    if let InputTarget::Session(session) = input.target {
        reserved_platforms::check_session(core, &scope, session).await?;
    }
    let leave = acquire_rate_permit(core, bringer, &scope, &input.author, input.key.as_ref()).await?;
    leave.submit(core, scope, input).await
}

/// The permit for one input; it names the actor, if the input was counted.
#[derive(Debug)]
pub(crate) struct RateLimitPermit(Option<Actor>);

/// Counts an input of an author under a key, for a caller that makes something else first: a refusal leaves nothing of
/// it.
pub(crate) async fn acquire_rate_permit(
    core: &GatewayCore,
    bringer: Submitter,
    scope: &Scope,
    author: &Actor,
    key: Option<&ItemKey>,
) -> Answer<RateLimitPermit> {
    let now = core.ports.runtime.clock.now();
    Ok(RateLimitPermit(match bringer {
        Submitter::Operator => None,
        Submitter::Actor => charge_actor(core, scope, author, key, now).await?,
    }))
}

impl RateLimitPermit {
    /// Hands the input to the engine.
    pub(crate) async fn submit(
        self,
        core: &GatewayCore,
        scope: Scope,
        input: NewInput,
    ) -> Answer<InputReceipt> {
        let tenant = scope.tenant();
        let submitted = core.ports.runs.submit_input(scope, input).await?;
        if submitted.replayed {
            self.give_back(core, tenant);
        }
        Ok(submitted)
    }

    /// Puts it back, because no input was submitted.
    pub(crate) fn give_back(self, core: &GatewayCore, tenant: TenantId) {
        if let Self(Some(author)) = self {
            core.limits.actors.give_back(tenant, &author);
        }
    }
}

/// Counts an input; returns whose it was, if it was counted.
async fn charge_actor(
    core: &GatewayCore,
    scope: &Scope,
    author: &Actor,
    key: Option<&ItemKey>,
    now: Timestamp,
) -> Answer<Option<Actor>> {
    let Err(again_ms) = core.limits.actors.take_input(scope.tenant(), author, now) else {
        return Ok(Some(author.clone()));
    };
    if let Some(key) = key
        && is_known(core, scope, key, now).await?
    {
        return Ok(None);
    }
    core.meters.count_refusal(EdgeRefusal::ActorRate);
    let text = format!("{author} has sent as many inputs as one actor may for now");
    Err(ApiError::new(ErrorCode::ActorRateLimited, text).again_in(again_ms.div_ceil(1_000).max(1)))
}

/// Tells whether a key belongs to an input of the same request.
pub(crate) async fn is_known(
    core: &GatewayCore,
    scope: &Scope,
    key: &ItemKey,
    now: Timestamp,
) -> Answer<bool> {
    let known = core.ports.store.find_keyed_item(scope, &key.key, now).await?;
    Ok(known.is_some_and(|known| known.request == key.request))
}
