//! Messages on their way out: list, show, have one sent again.

use axum::Json;
use axum::extract::State;
use dromia_api::List;
use dromia_api::delivery::{Delivery, DeliveryShown};
use dromia_contracts::delivery::{AttemptOutcome, Bell as _, DeliveryRecord, DeliveryState};
use dromia_contracts::store::{Batch, Commit, DeliveryFilter, DeliveryRedrive, Mutation, Page, Refusal};
use dromia_contracts::{DeliveryId, ErrorCode, Scope};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::caller::Caller;
use crate::core::{Core, Shared};
use crate::extract::{Params, Segments, id, page_limit};
use crate::failure::{Answer, Failure, committed};
use crate::wire;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listing {
    /// Only those that stand so.
    state: Option<DeliveryState>,
    /// Only those to this target, such as `webhook:orders`.
    target: Option<String>,
    /// Only deliveries after this one; the `next` of the page before.
    after: Option<DeliveryId>,
    /// The most rows, from 1 to 256; 50 where it is absent.
    #[schemars(range(min = 1, max = dromia_api::list::LIMIT_MAX))]
    limit: Option<u32>,
}

pub(crate) async fn list(
    State(core): State<Shared>,
    caller: Caller,
    Params(listing): Params<Listing>,
) -> Answer<Json<List<Delivery>>> {
    let limit = page_limit(listing.limit)?;
    let filter = DeliveryFilter { state: listing.state, target: listing.target };
    let page = Page { after: listing.after, limit };
    let found = core.ports.store.deliveries(&caller.scope, filter, page).await?;
    let items = found.into_iter().map(wire::delivery).collect();
    Ok(Json(List::page(items, limit, |delivery| delivery.id.to_string())))
}

pub(crate) async fn show(
    State(core): State<Shared>,
    caller: Caller,
    Segments(delivery): Segments<String>,
) -> Answer<Json<DeliveryShown>> {
    let record = find(&core, &caller.scope, id(&delivery)?).await?;
    Ok(Json(wire::delivery_record(record)))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Redriving {
    /// Send it even if its receiver may have it already and takes no id, so that it may count it twice.
    accept_double: Option<bool>,
}

/// Has a dead message sent again, or one that may not have arrived. Whatever stands otherwise is left as it is: asked
/// twice, it is sent again once.
pub(crate) async fn redrive(
    State(core): State<Shared>,
    caller: Caller,
    Segments(delivery): Segments<String>,
    Params(redriving): Params<Redriving>,
) -> Answer<Json<DeliveryShown>> {
    let delivery = id(&delivery)?;
    let record = find(&core, &caller.scope, delivery).await?;
    if !record.delivery.state.may_be_redriven() {
        return Ok(Json(wire::delivery_record(record)));
    }
    if !redriving.accept_double.unwrap_or(false) && may_double(&core, &record) {
        return Err(Failure::new(
            ErrorCode::DeliveryUncertain,
            format!("{delivery} may have arrived, and its receiver takes no id: it would count it twice"),
        )
        .with_hint("ask the receiver; if it is missing there, send it with `accept_double=true`"));
    }
    let at = core.ports.runtime.clock.now();
    let redrive = DeliveryRedrive { delivery, redrives: record.delivery.redrives, at };
    let batch = Batch::new(caller.scope.tenant()).wanted_by(caller.scope.actor(), redrive.at);
    let batch = batch.with(Mutation::DeliveryRedrive(redrive));
    let shared = Shared::clone(&core);
    let answer = core.ports.runtime.carried_through(async move {
        let answer = shared.ports.store.commit(batch).await;
        // Also where the client hangs up, and whatever came of it: the outbox looks.
        shared.ports.outbox.ring();
        answer
    });
    match answer.await {
        // Somebody else asked at the same time; one of the two is enough.
        Commit::Refused(Refusal::DeliveryMoved { .. }) => {}
        answer => {
            committed(answer)?;
        }
    }
    let record = find(&core, &caller.scope, delivery).await?;
    Ok(Json(wire::delivery_record(record)))
}

/// Tells whether a receiver that counts by itself may have seen the message. One of a channel that is not there any
/// more is taken for such a receiver.
fn may_double(core: &Core, record: &DeliveryRecord) -> bool {
    let channel = core.ports.outbox.channels().of_target(&record.delivery.target);
    let takes_id = channel.is_some_and(|channel| channel.idempotent);
    let mut outcomes = record.attempts.iter().map(|attempt| attempt.ended.as_ref().map(|end| end.outcome));
    !takes_id && outcomes.any(|outcome| outcome.is_none_or(AttemptOutcome::may_have_arrived))
}

async fn find(core: &Core, scope: &Scope, delivery: DeliveryId) -> Answer<DeliveryRecord> {
    let found = core.ports.store.delivery(scope, delivery).await?;
    found.ok_or_else(|| Failure::new(ErrorCode::DeliveryNotFound, format!("there is no delivery {delivery}")))
}
