//! Which document each command prints with `--json`: the table behind `docs/schemas` and `--json=FIELD,…`.

use dromia_api::List;
use dromia_api::agent::{Agent, Deleted};
use dromia_api::approval::{Approval, ApprovalRule};
use dromia_api::audit;
use dromia_api::budget::Budget;
use dromia_api::capability::{Capability, CapabilityMade, Checked};
use dromia_api::cost::{CostSummary, RunCost};
use dromia_api::delivery::{Delivery, DeliveryShown};
use dromia_api::event::EventAccepted;
use dromia_api::run::{Run, Why};
use dromia_api::secret::Secret;
use dromia_api::session::{Imported, Session};
use dromia_api::status::Status;
use dromia_api::task::{Killed, Task, TaskSpawned};
use dromia_api::tenant::{Tenant, TenantCreated};
use dromia_api::token::{Token, TokenCreated};
use dromia_api::tool::Tool;

use super::event::Waited;
use super::{agent, approval, run, session, token, tool};
use crate::error::Document;
use crate::explain::Explained;
use crate::schema::Published;

/// The documents of this crate's commands; `error` is what any command prints when it fails.
pub fn published() -> Vec<Published> {
    vec![
        Published::of::<Document>("error"),
        Published::of::<Waited>("ask"),
        Published::of::<Waited>("event send"),
        Published::of::<Agent>("agent create"),
        Published::of::<List<Agent>>("agent list"),
        Published::of::<Agent>("agent show"),
        Published::of::<agent::Status>("agent status"),
        Published::of::<Deleted>("agent delete"),
        Published::of::<Agent>("agent pause"),
        Published::of::<Agent>("agent resume"),
        Published::of::<Agent>("agent terminate"),
        Published::of::<Agent>("agent switch"),
        Published::of::<TaskSpawned>("agent spawn"),
        Published::of::<List<Task>>("agent tasks"),
        Published::of::<Killed>("agent kill"),
        Published::of::<TenantCreated>("tenant create"),
        Published::of::<List<Tenant>>("tenant list"),
        Published::of::<List<Session>>("session list"),
        Published::of::<session::Shown>("session show"),
        Published::of::<Imported>("session import"),
        Published::of::<List<Run>>("run list"),
        Published::of::<run::Shown>("run show"),
        Published::of::<run::Watched>("run watch"),
        Published::of::<Why>("run why"),
        Published::of::<EventAccepted>("run resume"),
        Published::of::<Run>("run cancel"),
        Published::of::<Run>("run terminate"),
        Published::of::<run::Exported>("run export"),
        Published::of::<TokenCreated>("token create"),
        Published::of::<List<Token>>("token list"),
        Published::of::<Token>("token revoke"),
        Published::of::<Secret>("secret set"),
        Published::of::<List<Secret>>("secret list"),
        Published::of::<Secret>("secret rotate"),
        Published::of::<Secret>("secret delete"),
        Published::of::<List<Secret>>("secret reset"),
        Published::of::<CapabilityMade>("capability grant"),
        Published::of::<CapabilityMade>("capability delegate"),
        Published::of::<Capability>("capability revoke"),
        Published::of::<List<Capability>>("capability list"),
        Published::of::<Checked>("capability check"),
        Published::of::<Checked>("capability explain"),
        Published::of::<List<Approval>>("approval list"),
        Published::of::<Approval>("approval show"),
        Published::of::<Approval>("approval approve"),
        Published::of::<Approval>("approval deny"),
        Published::of::<List<ApprovalRule>>("approval rule list"),
        Published::of::<ApprovalRule>("approval rule add"),
        Published::of::<ApprovalRule>("approval rule remove"),
        Published::of::<List<Approval>>("approval rule test"),
        Published::of::<List<approval::Proposed>>("approval suggest"),
        Published::of::<Budget>("budget set"),
        Published::of::<List<Budget>>("budget list"),
        Published::of::<Budget>("budget remove"),
        Published::of::<List<Delivery>>("delivery list"),
        Published::of::<DeliveryShown>("delivery show"),
        Published::of::<DeliveryShown>("delivery redrive"),
        Published::of::<List<Tool>>("tool list"),
        Published::of::<Tool>("tool show"),
        Published::of::<tool::Waited>("tool call"),
        Published::of::<List<audit::Record>>("audit query"),
        Published::of::<audit::Explained>("audit explain"),
        Published::of::<CostSummary>("cost summary"),
        Published::of::<RunCost>("cost show"),
        Published::of::<Status>("status"),
        Published::of::<token::Who>("whoami"),
        Published::of::<List<Explained>>("explain"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_command_prints_two_documents_and_every_document_has_fields() {
        let published = published();
        for (at, one) in published.iter().enumerate() {
            assert!(!one.fields().is_empty(), "{} has no fields", one.command);
            assert!(published[..at].iter().all(|other| other.command != one.command), "{}", one.command);
        }
    }
}
