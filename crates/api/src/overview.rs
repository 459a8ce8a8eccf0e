//! The first screen: who needs a person, what runs, what was spent today, what was not delivered, and how the server does.
//!
//! Each part is bounded and says whether there is more; the listings of its noun have the rest. Nothing here is the node's:
//! `status` has that.

use dromia_contracts::agent::HandleSlug;
use dromia_contracts::cost::CostTotals;
use dromia_contracts::delivery::{DeadReason, DeliveryState};
use dromia_contracts::run::RunStatus;
use dromia_contracts::{ApprovalId, DeliveryId, RunId};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The answer of `/v1/overview`: one tenant, or a page of all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OverviewPage {
    /// When it was read.
    pub at: Timestamp,
    /// How the server does.
    pub server: ServerHealth,
    /// What there is of each tenant.
    pub tenants: Vec<TenantOverview>,
    /// What to send as `after` for the tenants that follow; absent after the last one.
    pub next: Option<String>,
}

/// How the server does, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(clippy::struct_excessive_bools, reason = "each is one fact about the server")]
pub struct ServerHealth {
    /// Its version.
    pub version: String,
    /// When it began to serve.
    pub started_at: Timestamp,
    /// Whether it is draining.
    pub draining: bool,
    /// Whether its store takes writes.
    pub writable: bool,
    /// Whether a read or a write met damage.
    pub damaged: bool,
    /// Whether the server ignores its configuration file, because the file is wrong.
    #[serde(default)]
    pub config_refused: bool,
    /// Whether keys of the file were edited that take effect only at the next start.
    #[serde(default)]
    pub restart_needed: bool,
    /// The providers and channels that are disabled because they have no key, for those who see the server's configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disabled: Vec<String>,
}

/// What a person wants to know of a tenant first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TenantOverview {
    /// The tenant.
    pub tenant: HandleSlug,
    /// Since when it is suspended; absent while it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended_at: Option<Timestamp>,
    /// Calls that wait for a person, the newest first.
    pub approvals: OverviewPart<WaitingApproval>,
    /// Runs that are held, and those that failed or stopped within a day.
    pub troubled: OverviewPart<TroubledRun>,
    /// Runs that work, then those that rest; without those whose approval is listed above.
    pub running: OverviewPart<OpenRun>,
    /// Messages that were given up, or of which no one knows whether they arrived.
    pub deliveries: OverviewPart<FailedDelivery>,
    /// What runs spent that began today.
    pub spend: SpendToday,
}

/// The first rows of something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "{T}Part")]
pub struct OverviewPart<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Whether there are more.
    pub more: bool,
}

impl<T> OverviewPart<T> {
    /// Keeps at most so many rows of those that were found.
    pub fn from_found(mut items: Vec<T>, most: usize) -> Self {
        let more = items.len() > most;
        items.truncate(most);
        Self { items, more }
    }
}

/// A call that waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaitingApproval {
    /// The approval.
    pub id: ApprovalId,
    /// The handle of the agent whose call it is, or its id.
    pub agent: String,
    /// The run that asked.
    pub run: RunId,
    /// The tool.
    pub tool: String,
    /// Since when it waits.
    pub asked_at: Timestamp,
    /// Until when it may be answered.
    pub expires_at: Timestamp,
    /// When the call becomes allowed by itself; absent where only a person allows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cools_until: Option<Timestamp>,
}

/// A run that a person may have to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TroubledRun {
    /// The run.
    pub id: RunId,
    /// The handle of its agent, or its id.
    pub agent: String,
    /// `held`, `yielded` or `failed`.
    pub status: RunStatus,
    /// The first words of what it was asked.
    pub question: String,
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub cause: String,
    /// The command that comes next.
    pub command: String,
}

/// A run that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OverviewRun")]
pub struct OpenRun {
    /// The run.
    pub id: RunId,
    /// The handle of its agent, or its id.
    pub agent: String,
    /// `running` or `parked`.
    pub status: RunStatus,
    /// The first words of what it was asked.
    pub question: String,
    /// When it began.
    pub started_at: Timestamp,
    /// What it waits for.
    pub waits_for: String,
    /// Since when.
    pub waits_since: Timestamp,
}

/// A message that did not arrive, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailedDelivery {
    /// The delivery.
    pub id: DeliveryId,
    /// Where it goes.
    pub target: String,
    /// `dead` or `unknown_after_send`.
    pub state: DeliveryState,
    /// Why it was given up, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<DeadReason>,
    /// Since when.
    pub since: Timestamp,
}

/// What runs spent that began today.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SpendToday {
    /// When the day began, in UTC.
    pub since: Timestamp,
    /// The currency of the amounts.
    pub currency: String,
    /// How many runs began.
    pub runs: u64,
    /// What they spent. Calls of which no price is known are counted beside the amount and are not in it.
    pub spent: CostTotals,
    /// Whether only the newest runs of the day are counted, because there are too many.
    pub more: bool,
}
