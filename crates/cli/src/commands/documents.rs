//! Which document each command prints with `--json`: the table behind `docs/schemas` and `--json=FIELD,…`.

use dromia_api::ListPage;
use dromia_api::agent::{AgentResource, DeletionReport, RevisionResource};
use dromia_api::approval::{ApprovalResource, ApprovalRuleResource};
use dromia_api::audit;
use dromia_api::budget::BudgetResource;
use dromia_api::capability::{CallCheck, CapabilityMade, CapabilityResource};
use dromia_api::child::ChildResource;
use dromia_api::cost::{CostSummary, RunCost};
use dromia_api::delivery::{DeliveryResource, DeliveryShown};
use dromia_api::event::EventAccepted;
use dromia_api::file::{FileResource, FileWritten};
use dromia_api::identity::DocumentResource;
use dromia_api::overview::OverviewPage;
use dromia_api::run::{RunExplanation, RunResource, RunTree};
use dromia_api::secret::SecretResource;
use dromia_api::session::{SessionImport, SessionResource};
use dromia_api::session_context::{CompactionResource, SessionContext, SummaryResource};
use dromia_api::status::NodeStatus;
use dromia_api::task::{KillReceipt, TaskResource, TaskSpawned};
use dromia_api::template::{RoleResource, TemplateResource};
use dromia_api::tenant::{TenantCreated, TenantDeletionReport, TenantDetails, TenantResource};
use dromia_api::token::{TokenCreated, TokenResource};
use dromia_api::tool::ToolResource;

use super::event::EventWaitResult;
use super::{
    agent, agent_apply, agent_change, agent_identity, approval, context, retention, run, session, token, tool,
};
use crate::error::ErrorDocument;
use crate::explain::CodeExplanation;
use crate::schema::PublishedSchema;

/// The documents of this crate's commands; `error` is what any command prints when it fails.
pub fn published_schemas() -> Vec<PublishedSchema> {
    vec![
        PublishedSchema::for_command::<ErrorDocument>("error"),
        PublishedSchema::for_command::<EventWaitResult>("ask"),
        PublishedSchema::for_command::<EventWaitResult>("event send"),
        PublishedSchema::for_command::<AgentResource>("agent create"),
        PublishedSchema::for_command::<ListPage<AgentResource>>("agent list"),
        PublishedSchema::for_command::<AgentResource>("agent show"),
        PublishedSchema::for_command::<agent::AgentOverview>("agent status"),
        PublishedSchema::for_command::<agent_change::AgentChanged>("agent set"),
        PublishedSchema::for_command::<agent_apply::ApplyReport>("agent apply"),
        PublishedSchema::for_command::<agent_change::RevisionDiff>("agent diff"),
        PublishedSchema::for_command::<ListPage<RevisionResource>>("agent history"),
        PublishedSchema::for_command::<ListPage<DocumentResource>>("agent identity list"),
        PublishedSchema::for_command::<DocumentResource>("agent identity show"),
        PublishedSchema::for_command::<agent_change::AgentChanged>("agent identity edit"),
        PublishedSchema::for_command::<agent_change::AgentChanged>("agent identity remove"),
        PublishedSchema::for_command::<agent_identity::DocumentDiff>("agent identity diff"),
        PublishedSchema::for_command::<ListPage<RevisionResource>>("agent identity history"),
        PublishedSchema::for_command::<ListPage<TemplateResource>>("template list"),
        PublishedSchema::for_command::<TemplateResource>("template show"),
        PublishedSchema::for_command::<ListPage<RoleResource>>("role list"),
        PublishedSchema::for_command::<RoleResource>("role show"),
        PublishedSchema::for_command::<agent_change::AgentChanged>("agent revert"),
        PublishedSchema::for_command::<AgentResource>("agent rename"),
        PublishedSchema::for_command::<DeletionReport>("agent delete"),
        PublishedSchema::for_command::<AgentResource>("agent pause"),
        PublishedSchema::for_command::<AgentResource>("agent resume"),
        PublishedSchema::for_command::<AgentResource>("agent terminate"),
        PublishedSchema::for_command::<AgentResource>("agent switch"),
        PublishedSchema::for_command::<TaskSpawned>("agent spawn"),
        PublishedSchema::for_command::<ListPage<TaskResource>>("agent tasks"),
        PublishedSchema::for_command::<KillReceipt>("agent kill"),
        PublishedSchema::for_command::<TenantCreated>("tenant create"),
        PublishedSchema::for_command::<ListPage<TenantResource>>("tenant list"),
        PublishedSchema::for_command::<TenantDetails>("tenant show"),
        PublishedSchema::for_command::<TenantResource>("tenant suspend"),
        PublishedSchema::for_command::<TenantResource>("tenant resume"),
        PublishedSchema::for_command::<TenantDeletionReport>("tenant delete"),
        PublishedSchema::for_command::<context::ContextRow>("context add"),
        PublishedSchema::for_command::<ListPage<context::ContextRow>>("context list"),
        PublishedSchema::for_command::<context::ContextRow>("context use"),
        PublishedSchema::for_command::<context::ContextRow>("context show"),
        PublishedSchema::for_command::<context::ContextRow>("context remove"),
        PublishedSchema::for_command::<ListPage<SessionResource>>("session list"),
        PublishedSchema::for_command::<session::SessionDetails>("session show"),
        PublishedSchema::for_command::<DeletionReport>("session delete"),
        PublishedSchema::for_command::<SessionResource>("session hold"),
        PublishedSchema::for_command::<retention::RetentionOverview>("retention show"),
        PublishedSchema::for_command::<retention::RetentionReport>("retention run"),
        PublishedSchema::for_command::<ListPage<ChildResource>>("worker list"),
        PublishedSchema::for_command::<ChildResource>("worker show"),
        PublishedSchema::for_command::<EventAccepted>("worker send"),
        PublishedSchema::for_command::<ChildResource>("worker cancel"),
        PublishedSchema::for_command::<SessionContext>("session context"),
        PublishedSchema::for_command::<CompactionResource>("session compact"),
        PublishedSchema::for_command::<ListPage<SummaryResource>>("session archive list"),
        PublishedSchema::for_command::<session::window::SummaryDetails>("session archive show"),
        PublishedSchema::for_command::<SessionImport>("session import"),
        PublishedSchema::for_command::<ListPage<RunResource>>("run list"),
        PublishedSchema::for_command::<run::RunDetails>("run show"),
        PublishedSchema::for_command::<run::RunWatchDocument>("run watch"),
        PublishedSchema::for_command::<RunTree>("run tree"),
        PublishedSchema::for_command::<RunExplanation>("run why"),
        PublishedSchema::for_command::<EventAccepted>("run resume"),
        PublishedSchema::for_command::<RunResource>("run cancel"),
        PublishedSchema::for_command::<RunResource>("run terminate"),
        PublishedSchema::for_command::<run::RunJournalExport>("run export"),
        PublishedSchema::for_command::<ListPage<FileResource>>("file list"),
        PublishedSchema::for_command::<FileWritten>("file put"),
        PublishedSchema::for_command::<TokenCreated>("token create"),
        PublishedSchema::for_command::<ListPage<TokenResource>>("token list"),
        PublishedSchema::for_command::<TokenResource>("token revoke"),
        PublishedSchema::for_command::<SecretResource>("secret set"),
        PublishedSchema::for_command::<ListPage<SecretResource>>("secret list"),
        PublishedSchema::for_command::<SecretResource>("secret rotate"),
        PublishedSchema::for_command::<SecretResource>("secret delete"),
        PublishedSchema::for_command::<ListPage<SecretResource>>("secret reset"),
        PublishedSchema::for_command::<CapabilityMade>("capability grant"),
        PublishedSchema::for_command::<CapabilityMade>("capability delegate"),
        PublishedSchema::for_command::<CapabilityResource>("capability revoke"),
        PublishedSchema::for_command::<ListPage<CapabilityResource>>("capability list"),
        PublishedSchema::for_command::<CallCheck>("capability check"),
        PublishedSchema::for_command::<CallCheck>("capability explain"),
        PublishedSchema::for_command::<ListPage<ApprovalResource>>("approval list"),
        PublishedSchema::for_command::<ApprovalResource>("approval show"),
        PublishedSchema::for_command::<ApprovalResource>("approval approve"),
        PublishedSchema::for_command::<ApprovalResource>("approval deny"),
        PublishedSchema::for_command::<ListPage<ApprovalRuleResource>>("approval rule list"),
        PublishedSchema::for_command::<ApprovalRuleResource>("approval rule add"),
        PublishedSchema::for_command::<ApprovalRuleResource>("approval rule remove"),
        PublishedSchema::for_command::<ListPage<ApprovalResource>>("approval rule test"),
        PublishedSchema::for_command::<ListPage<approval::RuleProposal>>("approval suggest"),
        PublishedSchema::for_command::<BudgetResource>("budget set"),
        PublishedSchema::for_command::<ListPage<BudgetResource>>("budget list"),
        PublishedSchema::for_command::<BudgetResource>("budget remove"),
        PublishedSchema::for_command::<ListPage<DeliveryResource>>("delivery list"),
        PublishedSchema::for_command::<DeliveryShown>("delivery show"),
        PublishedSchema::for_command::<DeliveryShown>("delivery redrive"),
        PublishedSchema::for_command::<ListPage<ToolResource>>("tool list"),
        PublishedSchema::for_command::<ToolResource>("tool show"),
        PublishedSchema::for_command::<tool::ToolWaitResult>("tool call"),
        PublishedSchema::for_command::<ListPage<audit::AuditRecord>>("audit query"),
        PublishedSchema::for_command::<audit::RecordExplanation>("audit explain"),
        PublishedSchema::for_command::<CostSummary>("cost summary"),
        PublishedSchema::for_command::<RunCost>("cost show"),
        PublishedSchema::for_command::<OverviewPage>("status"),
        PublishedSchema::for_command::<NodeStatus>("status --node"),
        PublishedSchema::for_command::<token::WhoamiDocument>("whoami"),
        PublishedSchema::for_command::<ListPage<CodeExplanation>>("explain"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_command_prints_two_documents_and_every_document_has_fields() {
        let published = published_schemas();
        for (at, one) in published.iter().enumerate() {
            assert!(!one.field_names().is_empty(), "{} has no fields", one.command);
            assert!(published[..at].iter().all(|other| other.command != one.command), "{}", one.command);
        }
    }
}
