//! The first screen of a tenant in one request, and of all tenants in pages for the operator.
//!
//! Bounds: each part has at most [`ROWS_MAX`] rows, of which each costs at most three reads; of a run that is held or stopped the
//! journal is read whole, to say why. What was spent is summed up over the newest [`SPENT_RUNS_MAX`] runs of the day; a page has at
//! most [`TENANTS_MAX`] tenants. Every list is read along an index, so the number of runs that a tenant ever had does not matter.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use dromia_api::CURRENCY;
use dromia_api::overview::{
    FailedDelivery, OpenRun, OverviewPage, OverviewPart, ServerHealth, SpendToday, TenantOverview,
    TroubledRun, WaitingApproval,
};
use dromia_contracts::agent::TenantRecord;
use dromia_contracts::content::ContentPart;
use dromia_contracts::delivery::{DeliveryState, DeliverySummary};
use dromia_contracts::entry::{Entry, ParkReason};
use dromia_contracts::input::InputBody;
use dromia_contracts::run::{RunRecord, RunStatus};
use dromia_contracts::session::{InboxOwner, ItemKind};
use dromia_contracts::store::{ApprovalFilter, DeliveryFilter, PageRequest, StoredEntry};
use dromia_contracts::{AgentId, RunId, Scope, TenantId};
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;

use super::node::{disabled_parts, sees_node};
use crate::caller::Caller;
use crate::core::{GatewayCore, Shared};
use crate::extract::QueryParams;
use crate::failure::{Answer, ApiError};

/// The most rows of each part.
const ROWS_MAX: usize = 16;

/// The most runs whose spending is summed up.
const SPENT_RUNS_MAX: usize = 20_000;

/// The most tenants of a page.
const TENANTS_MAX: usize = 16;

/// For how long a run that failed or stopped is shown.
const TROUBLED_HOURS: i64 = 24;

/// For how long a message is shown that was not delivered.
const UNDELIVERED_HOURS: i64 = 7 * 24;

/// The most characters of a question.
const QUESTION_CHARS_MAX: usize = 80;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OverviewQuery {
    /// Every tenant instead of the caller's; for operators only.
    #[serde(default)]
    all: bool,
    /// Only tenants after this one; the `next` of the page before.
    after: Option<TenantId>,
}

pub(crate) async fn show_overview(
    State(core): State<Shared>,
    caller: Caller,
    QueryParams(asked): QueryParams<OverviewQuery>,
) -> Answer<Json<OverviewPage>> {
    if !asked.all {
        if asked.after.is_some() {
            let text = "`after` belongs to `all`: without it the answer has one tenant";
            return Err(ApiError::invalid_request(text).at_field("after"));
        }
        let tenant =
            OverviewReader::new(&core, caller.scope.clone()).read_tenant(caller.tenant_record().clone());
        let tenants = vec![tenant.await?];
        let disabled =
            if sees_node(&core, &caller).await? { read_disabled(&core).await? } else { Vec::new() };
        return Ok(Json(new_page(&core, tenants, disabled)));
    }
    // Refuses who is no operator before a tenant is read.
    caller.scope_of_tenant(&core, caller.scope.tenant())?;
    let page = PageRequest { after: asked.after, limit: TENANTS_MAX };
    let tenants = core.ports.store.tenants(&core.operator, page).await?;
    let next =
        (tenants.len() == TENANTS_MAX).then(|| tenants.last().map(|last| last.id.to_string())).flatten();
    let mut read = Vec::with_capacity(tenants.len());
    for tenant in tenants {
        let scope = caller.scope_of_tenant(&core, tenant.id)?;
        read.push(OverviewReader::new(&core, scope).read_tenant(tenant).await?);
    }
    let disabled = read_disabled(&core).await?;
    Ok(Json(OverviewPage { next, ..new_page(&core, read, disabled) }))
}

async fn read_disabled(core: &GatewayCore) -> Answer<Vec<String>> {
    match core.configuration.get() {
        Some(reporter) => disabled_parts(core, &reporter.active_config()).await,
        None => Ok(Vec::new()),
    }
}

fn new_page(core: &GatewayCore, tenants: Vec<TenantOverview>, disabled: Vec<String>) -> OverviewPage {
    let health = core.ports.store.store_health();
    let config = core.configuration.get().map(|reporter| reporter.active_config());
    let server = ServerHealth {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: core.started_at,
        draining: core.phase.closing.is_cancelled(),
        writable: health.read_only.is_none(),
        damaged: health.damaged.is_some(),
        config_refused: config.as_ref().is_some_and(|config| config.refused.is_some()),
        restart_needed: config.is_some_and(|config| !config.pending.is_empty()),
        disabled,
    };
    OverviewPage { at: core.ports.runtime.clock.now(), server, tenants, next: None }
}

/// Reads what there is of one tenant.
pub(super) struct OverviewReader<'a> {
    core: &'a GatewayCore,
    scope: Scope,
    now: Timestamp,
    /// The names of agents that were looked up; at most one for each row.
    names: HashMap<AgentId, String>,
}

impl<'a> OverviewReader<'a> {
    pub(super) fn new(core: &'a GatewayCore, scope: Scope) -> Self {
        Self { core, scope, now: core.ports.runtime.clock.now(), names: HashMap::new() }
    }

    async fn read_tenant(mut self, tenant: TenantRecord) -> Answer<TenantOverview> {
        let approvals = self.read_approvals().await?;
        let troubled = self.read_troubled().await?;
        let running = self.read_running(&approvals).await?;
        let deliveries = self.read_deliveries().await?;
        Ok(TenantOverview {
            tenant: tenant.handle,
            suspended_at: tenant.suspended_at,
            approvals,
            troubled,
            running,
            deliveries,
            spend: self.read_spend().await?,
        })
    }

    async fn read_approvals(&mut self) -> Answer<OverviewPart<WaitingApproval>> {
        let filter = ApprovalFilter { agent: None, open_at: Some(self.now) };
        let found = self
            .core
            .ports
            .store
            .approvals(&self.scope, filter, PageRequest::first_page(ROWS_MAX + 1))
            .await?;
        let mut items = Vec::new();
        for asked in found {
            items.push(WaitingApproval {
                id: asked.id,
                agent: self.agent_name(asked.source.agent).await?,
                run: asked.source.run,
                tool: asked.judged.tool,
                asked_at: asked.deadlines.asked_at,
                expires_at: asked.deadlines.expires_at,
                cools_until: asked.deadlines.cools_until,
            });
        }
        Ok(OverviewPart::from_found(items, ROWS_MAX))
    }

    async fn read_troubled(&mut self) -> Answer<OverviewPart<TroubledRun>> {
        let since = self.now - SignedDuration::from_hours(TROUBLED_HOURS);
        let runs = self.core.ports.store.troubled_runs(&self.scope, since, ROWS_MAX + 1).await?;
        let (mut items, more) = (Vec::new(), runs.len() > ROWS_MAX);
        for run in runs.into_iter().take(ROWS_MAX) {
            let Some((cause, command)) = self.find_cause(&run).await? else { continue };
            items.push(TroubledRun {
                id: run.id,
                agent: self.agent_name(run.agent).await?,
                status: run.head.status,
                question: self.read_question(&run).await,
                since: run.updated_at,
                cause,
                command,
            });
        }
        Ok(OverviewPart { items, more })
    }

    /// Says why a run needs a person, and which command comes next; nothing of a run that was resumed already.
    async fn find_cause(&self, run: &RunRecord) -> Answer<Option<(String, String)>> {
        let look = || format!("dromia run why {}", run.id);
        if run.head.status == RunStatus::Failed {
            let cause = match self.last_entry(run).await {
                Some(Entry::RunFailed(failed)) => format!("{}: {}", failed.code, failed.message),
                _ => "its journal says why".to_owned(),
            };
            return Ok(Some((cause, look())));
        }
        // A journal that cannot be read is why the run is held.
        let Ok(why) = self.core.ports.runs.explain_run(self.scope.clone(), run.id).await else {
            return Ok(Some(("its journal cannot be read".to_owned(), look())));
        };
        let is_resumed = run.head.status == RunStatus::Yielded && why.unblocked_by.starts_with("no action");
        // That a person is waited for, the whole list says.
        let cause = why.waits_for.strip_prefix("a person to check it: ").unwrap_or(&why.waits_for).to_owned();
        Ok((!is_resumed).then(|| (cause, why.command.unwrap_or_else(look))))
    }

    async fn read_running(&mut self, asked: &OverviewPart<WaitingApproval>) -> Answer<OverviewPart<OpenRun>> {
        // Enough for those that are listed already and for one row more than are shown.
        let runs = self.core.ports.store.working_runs(&self.scope, 2 * ROWS_MAX + 1).await?;
        let listed = |run: &RunRecord| asked.items.iter().any(|asked| asked.run == run.id);
        let mut items = Vec::new();
        let mut left = runs.iter().filter(|run| run.head.status == RunStatus::Running || !listed(run));
        for run in left.by_ref().take(ROWS_MAX) {
            items.push(OpenRun {
                id: run.id,
                agent: self.agent_name(run.agent).await?,
                status: run.head.status,
                question: self.read_question(run).await,
                started_at: run.started_at,
                waits_for: self.last_entry(run).await.map_or_else(String::new, |entry| wait_text(&entry)),
                waits_since: run.updated_at,
            });
        }
        Ok(OverviewPart { items, more: left.next().is_some() })
    }

    async fn read_deliveries(&self) -> Answer<OverviewPart<FailedDelivery>> {
        let mut found = Vec::new();
        for state in [DeliveryState::Dead, DeliveryState::UnknownAfterSend] {
            let filter = DeliveryFilter { state: Some(state), target: None };
            let page = PageRequest::first_page(ROWS_MAX + 1);
            found.extend(self.core.ports.store.deliveries(&self.scope, filter, page).await?);
        }
        let since = self.now - SignedDuration::from_hours(UNDELIVERED_HOURS);
        found.retain(|delivery: &DeliverySummary| delivery.updated_at >= since);
        found.sort_by_key(|delivery: &DeliverySummary| std::cmp::Reverse(delivery.updated_at));
        let row = |delivery: DeliverySummary| FailedDelivery {
            id: delivery.id,
            target: delivery.target,
            state: delivery.state,
            reason: delivery.reason,
            since: delivery.updated_at,
        };
        Ok(OverviewPart::from_found(found.into_iter().map(row).collect(), ROWS_MAX))
    }

    pub(super) async fn read_spend(&self) -> Answer<SpendToday> {
        let second = self.now.as_second();
        let since = Timestamp::from_second(second - second.rem_euclid(86_400)).unwrap_or(self.now);
        let sum = self
            .core
            .ports
            .store
            .spending_since(&self.scope, RunId::earliest_at(since), SPENT_RUNS_MAX)
            .await?;
        Ok(SpendToday {
            since,
            currency: CURRENCY.to_owned(),
            runs: sum.runs,
            spent: sum.spent,
            more: sum.runs >= SPENT_RUNS_MAX as u64,
        })
    }

    /// Finds what people call an agent; its id where it has none any more.
    async fn agent_name(&mut self, agent: AgentId) -> Answer<String> {
        if let Some(known) = self.names.get(&agent) {
            return Ok(known.clone());
        }
        let found = self.core.ports.store.agent(&self.scope, agent).await?;
        let name = found.map_or_else(|| agent.to_string(), |found| found.handle.to_string());
        self.names.insert(agent, name.clone());
        Ok(name)
    }

    /// Reads the first words of what a run was asked. What cannot be read, or was erased, has none: a screen is no place to fail.
    async fn read_question(&self, run: &RunRecord) -> String {
        let store = &self.core.ports.store;
        let first = store.journal_entries(&self.scope, run.id, 0, 1).await.unwrap_or_default();
        let Some(Ok(Entry::RunStarted(started))) = first.first().map(StoredEntry::decode) else {
            return String::new();
        };
        if let Some(before) = started.resumes {
            return format!("(continues {before})");
        }
        if let Some(approved) = &started.approved {
            return format!("(the approved call {})", approved.approval);
        }
        let owner = InboxOwner::Session(run.session);
        let items = store.inbox_items(&self.scope, owner, started.after, 1).await.unwrap_or_default();
        let body =
            items.first().filter(|item| item.kind == ItemKind::Input).and_then(|item| item.body.as_ref());
        body.and_then(|body| InputBody::decode(body).ok()).map_or_else(String::new, |body| first_words(&body))
    }

    async fn last_entry(&self, run: &RunRecord) -> Option<Entry> {
        let after = run.last_seq.saturating_sub(1);
        let last = self.core.ports.store.journal_entries(&self.scope, run.id, after, 1).await.ok()?;
        last.first()?.decode().ok()
    }
}

/// Takes the first words of an input: of its text, else of the call that it asks for.
fn first_words(body: &InputBody) -> String {
    let text = body.message.parts.iter().find_map(|part| match part {
        ContentPart::Text { text, .. } => Some(text.as_str()),
        ContentPart::Image { .. } => None,
    });
    let text = match (text, &body.call, &body.answers) {
        (Some(text), _, _) => text.to_owned(),
        (None, Some(call), _) => format!("(the call {})", call.tool),
        (None, None, Some(_)) => "(results of the client's tools)".to_owned(),
        (None, None, None) => String::new(),
    };
    let mut words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((cut, _)) = words.char_indices().nth(QUESTION_CHARS_MAX) {
        words.truncate(cut);
        words.push('…');
    }
    words
}

/// Says what a run waits for by its last entry.
fn wait_text(last: &Entry) -> String {
    match last {
        Entry::ModelCalled(called) => format!("the model {}", called.asked_alias()),
        Entry::OpinionCalled(called) => format!("a second opinion of {}", called.asked_alias()),
        Entry::ToolStarted(started) => format!("the tool {}", started.tool),
        Entry::ModelFailed(failed) => format!("another attempt, after {}", failed.code),
        Entry::RunParked(parked) => match parked.park {
            ParkReason::Retry { until } => format!("another attempt at {until:.0}"),
            ParkReason::AgentPaused => "its agent, which is paused".to_owned(),
            ParkReason::Approval { approval, .. } => format!("the approval {approval}"),
        },
        _ => "its next step".to_owned(),
    }
}
