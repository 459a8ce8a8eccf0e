//! Messages on their way out: list, show, have one sent again.

use axum::Json;
use axum::extract::State;
use dromia_api::ListPage;
use dromia_api::delivery::{DeliveryResource, DeliveryShown};
use dromia_contracts::channel::DeliveryClass;
use dromia_contracts::delivery::{AttemptOutcome, DeliveryRecord, DeliveryState};
use dromia_contracts::store::{
    CommitOutcome, CommitRefusal, DeliveryFilter, DeliveryRedrive, Mutation, PageRequest, WriteBatch,
};
use dromia_contracts::{DeliveryId, ErrorCode, Scope};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::caller::Caller;
use crate::core::{GatewayCore, Shared};
use crate::extract::{PathSegments, QueryParams, page_limit, parse_id};
use crate::failure::{Answer, ApiError, commit_receipt};
use crate::wire;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeliveryListQuery {
    /// Only deliveries in this state.
    state: Option<DeliveryState>,
    /// Only those to this target, such as `webhook:orders`.
    target: Option<String>,
    /// Only deliveries after this one; the `next` of the page before.
    after: Option<DeliveryId>,
    /// The most rows, from 1 to 256; 50 where it is absent.
    #[schemars(range(min = 1, max = dromia_api::list::LIMIT_MAX))]
    limit: Option<u32>,
}

pub(crate) async fn list_deliveries(
    State(core): State<Shared>,
    caller: Caller,
    QueryParams(listing): QueryParams<DeliveryListQuery>,
) -> Answer<Json<ListPage<DeliveryResource>>> {
    let limit = page_limit(listing.limit)?;
    let filter = DeliveryFilter { state: listing.state, target: listing.target };
    let page = PageRequest { after: listing.after, limit };
    let found = core.ports.store.deliveries(&caller.scope, filter, page).await?;
    let items = found.into_iter().map(wire::api_delivery).collect();
    Ok(Json(ListPage::from_limited(items, limit, |delivery| delivery.id.to_string())))
}

pub(crate) async fn show_delivery(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(delivery): PathSegments<String>,
) -> Answer<Json<DeliveryShown>> {
    let record = find_delivery(&core, &caller.scope, parse_id(&delivery)?).await?;
    Ok(Json(wire::delivery_record(record)))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeliveryRedriveQuery {
    /// Send it even if its receiver may have it already and takes no id, so that it may count it twice.
    accept_double: Option<bool>,
}

/// Has a dead message sent again, or one that may not have arrived. A delivery in another state is left as it is: asked
/// twice, it is sent again once.
pub(crate) async fn redrive_delivery(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(delivery): PathSegments<String>,
    QueryParams(redriving): QueryParams<DeliveryRedriveQuery>,
) -> Answer<Json<DeliveryShown>> {
    let delivery = parse_id(&delivery)?;
    let record = find_delivery(&core, &caller.scope, delivery).await?;
    if !record.delivery.state.may_be_redriven() {
        return Ok(Json(wire::delivery_record(record)));
    }
    if !redriving.accept_double.unwrap_or(false) && may_double(&core, &record) {
        return Err(ApiError::new(
            ErrorCode::DeliveryUncertain,
            format!(
                "{delivery} may have arrived, and its receiver ignores message ids, so it would count a second \
                 one"
            ),
        )
        .with_hint("ask the receiver; if it did not get the message, send it with `accept_double=true`"));
    }
    let at = core.ports.runtime.clock.now();
    let redrive = DeliveryRedrive { delivery, redrives: record.delivery.redrives, at };
    let batch = WriteBatch::new(caller.scope.tenant()).wanted_by(caller.scope.actor(), redrive.at);
    let batch = batch.with_mutation(Mutation::DeliveryRedrive(redrive));
    let shared = Shared::clone(&core);
    let (tenant, target) = (caller.scope.tenant(), record.delivery.target.clone());
    let answer = core.ports.runtime.carried_through(async move {
        let answer = shared.ports.store.commit(batch).await;
        // Also where the client hangs up, and whatever came of it: the outbox looks.
        shared.ports.outbox.notify_target(tenant, target);
        answer
    });
    match answer.await {
        // Another request asked at the same time; one of the two is enough.
        CommitOutcome::Refused(CommitRefusal::DeliveryMoved { .. }) => {}
        answer => {
            commit_receipt(answer)?;
        }
    }
    let record = find_delivery(&core, &caller.scope, delivery).await?;
    Ok(Json(wire::delivery_record(record)))
}

/// Tells whether a receiver that counts by itself may have seen the message. One of a channel that is not there any
/// more is taken for such a receiver.
fn may_double(core: &GatewayCore, record: &DeliveryRecord) -> bool {
    let served = core.ports.outbox.served_channels();
    let channel = served.of_target(&record.delivery.target);
    let takes_id = channel.is_some_and(|channel| channel.terms.class != DeliveryClass::Plain);
    let mut outcomes = record.attempts.iter().map(|attempt| attempt.ended.as_ref().map(|end| end.outcome));
    !takes_id && outcomes.any(|outcome| outcome.is_none_or(AttemptOutcome::may_have_arrived))
}

async fn find_delivery(core: &GatewayCore, scope: &Scope, delivery: DeliveryId) -> Answer<DeliveryRecord> {
    let found = core.ports.store.delivery_record(scope, delivery).await?;
    found
        .ok_or_else(|| ApiError::new(ErrorCode::DeliveryNotFound, format!("there is no delivery {delivery}")))
}
