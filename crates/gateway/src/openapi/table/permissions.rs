//! What people allow agents call by call, what agents may spend, what they may use without seeing it, and which signed
//! rights they hold.

use dromia_api::approval::{AnswerApproval, ApprovalResource, ApprovalRuleResource, SetApprovalRule};
use dromia_api::budget::{BudgetResource, SetBudget};
use dromia_api::capability::{
    CallCheck, CapabilityMade, CapabilityResource, DelegateCapability, GrantCapability,
};
use dromia_api::secret::{RotateSecret, SecretResource, SetSecret};
use dromia_api::{ErrorCode, ListPage};

use crate::openapi::operation::Operation;
use crate::routes::queries;

pub(super) fn approval_operations() -> Vec<Operation> {
    vec![
        Operation::new(
            "GET",
            "/v1/approvals",
            "approval_list",
            "List calls that wait, or waited, for a person",
        )
        .with_query::<queries::Approvals>()
        .gives_json::<ListPage<ApprovalResource>>(200, "A page of approvals, the newest first.")
        .fails_with(&[ErrorCode::AgentNotFound]),
        Operation::new("GET", "/v1/approvals/{approval}", "approval_show", "Show an approval")
            .gives_json::<ApprovalResource>(200, "The approval, with the exact call.")
            .fails_with(&[ErrorCode::ApprovalNotFound]),
        Operation::new(
            "POST",
            "/v1/approvals/{approval}/answer",
            "approval_answer",
            "Approve or deny a call",
        )
        .takes_json::<AnswerApproval>()
        .gives_json::<ApprovalResource>(200, "The approval in its new state.")
        .writes_store()
        .fails_with(&[
            ErrorCode::ApprovalNotFound,
            ErrorCode::ApprovalClosed,
            ErrorCode::ApprovalOutdated,
            ErrorCode::AgentTerminated,
        ]),
        Operation::new("GET", "/v1/approval-rules", "approval_rule_list", "List rules that answer approvals")
            .gives_json::<ListPage<ApprovalRuleResource>>(
                200,
                "All rules: those of dromia.yaml, then the others by name.",
            ),
        Operation::new("PUT", "/v1/approval-rules/{rule}", "approval_rule_set", "Set a rule")
            .takes_json::<SetApprovalRule>()
            .gives_json::<ApprovalRuleResource>(200, "The rule as stored.")
            .writes_store()
            .fails_with(&[ErrorCode::AgentNotFound]),
        Operation::new("DELETE", "/v1/approval-rules/{rule}", "approval_rule_remove", "Remove a rule")
            .gives_json::<ApprovalRuleResource>(200, "The rule that was removed.")
            .writes_store()
            .fails_with(&[ErrorCode::ApprovalRuleNotFound]),
    ]
}

pub(super) fn budget_operations() -> Vec<Operation> {
    vec![
        Operation::new("GET", "/v1/budgets", "budget_list", "List budgets and what is used of each")
            .gives_json::<ListPage<BudgetResource>>(200, "All budgets, by name."),
        Operation::new("PUT", "/v1/budgets/{budget}", "budget_set", "Set a budget")
            .takes_json::<SetBudget>()
            .gives_json::<BudgetResource>(200, "The budget and what is used of it.")
            .writes_store()
            .fails_with(&[ErrorCode::AgentNotFound, ErrorCode::BudgetDeclared]),
        Operation::new("DELETE", "/v1/budgets/{budget}", "budget_remove", "Remove a budget")
            .gives_json::<BudgetResource>(200, "The budget that was removed.")
            .writes_store()
            .fails_with(&[ErrorCode::BudgetNotFound, ErrorCode::BudgetDeclared]),
    ]
}

pub(super) fn secret_operations() -> Vec<Operation> {
    vec![
        Operation::new("GET", "/v1/secrets", "secret_list", "List secrets, without their values")
            .with_query::<queries::Secrets>()
            .gives_json::<ListPage<SecretResource>>(200, "A page of secrets, by name."),
        Operation::new(
            "POST",
            "/v1/secrets",
            "secret_set",
            "Create a secret, or replace its value and its rule",
        )
        .takes_json::<SetSecret>()
        .gives_json::<SecretResource>(200, "The secret, without its value.")
        .writes_store()
        .fails_with(&[ErrorCode::VaultLocked, ErrorCode::VersionConflict]),
        Operation::new("POST", "/v1/secrets/{secret}/rotate", "secret_rotate", "Give a secret a new value")
            .takes_json::<RotateSecret>()
            .gives_json::<SecretResource>(200, "The secret, without its value.")
            .writes_store()
            .fails_with(&[ErrorCode::SecretNotFound, ErrorCode::VaultLocked, ErrorCode::VersionConflict]),
        Operation::new("DELETE", "/v1/secrets/{secret}", "secret_delete", "Erase a secret with its key")
            .gives_json::<SecretResource>(200, "The secret, without its value.")
            .writes_store()
            .fails_with(&[ErrorCode::SecretNotFound, ErrorCode::VersionConflict]),
        Operation::new(
            "POST",
            "/v1/vault/reset",
            "vault_reset",
            "Discard secrets that the key of the home cannot open",
        )
        .gives_json::<ListPage<SecretResource>>(200, "The discarded secrets.")
        .writes_store()
        .fails_with(&[ErrorCode::VaultLocked, ErrorCode::VersionConflict]),
    ]
}

pub(super) fn capability_operations() -> Vec<Operation> {
    vec![
        Operation::new("GET", "/v1/capabilities", "capability_list", "List capabilities")
            .with_query::<queries::Capabilities>()
            .gives_json::<ListPage<CapabilityResource>>(200, "A page of capabilities, by id."),
        Operation::new("POST", "/v1/capabilities", "capability_grant", "Grant rights to an agent")
            .takes_json::<GrantCapability>()
            .gives_json::<CapabilityMade>(201, "The capability, with its token.")
            .writes_store()
            .fails_with(&[ErrorCode::AgentNotFound, ErrorCode::CapabilityRefused, ErrorCode::VaultLocked]),
        Operation::new(
            "POST",
            "/v1/capabilities/{capability}/delegate",
            "capability_delegate",
            "Delegate a capability, or a part of it, to another agent",
        )
        .takes_json::<DelegateCapability>()
        .gives_json::<CapabilityMade>(201, "The new capability, with its token.")
        .writes_store()
        .fails_with(&[
            ErrorCode::AgentNotFound,
            ErrorCode::CapabilityNotFound,
            ErrorCode::CapabilityRefused,
            ErrorCode::VaultLocked,
        ]),
        Operation::new(
            "DELETE",
            "/v1/capabilities/{capability}",
            "capability_revoke",
            "Revoke a capability and all that were delegated from it",
        )
        .gives_json::<CapabilityResource>(200, "The capability, revoked.")
        .writes_store()
        .fails_with(&[ErrorCode::CapabilityNotFound]),
        Operation::new(
            "GET",
            "/v1/agents/{agent}/tools/{tool}/check",
            "capability_check",
            "Check a call against the rights of an agent, without executing it",
        )
        .with_query::<queries::CapabilityCheckQuery>()
        .gives_json::<CallCheck>(200, "The verdict, and what each capability says.")
        .fails_with(&[
            ErrorCode::AgentNotFound,
            ErrorCode::ToolNotFound,
            ErrorCode::CapabilityUnreadable,
            ErrorCode::CapabilityForeign,
        ]),
    ]
}
