//! What people allow agents call by call, what agents may spend, what they may use without seeing it, and which signed
//! rights they hold.

use dromia_api::approval::{AnswerApproval, Approval, ApprovalRule, SetApprovalRule};
use dromia_api::budget::{Budget, SetBudget};
use dromia_api::capability::{Capability, CapabilityMade, Checked, DelegateCapability, GrantCapability};
use dromia_api::secret::{RotateSecret, Secret, SetSecret};
use dromia_api::{ErrorCode, List};

use crate::openapi::operation::Operation;
use crate::routes::queries;

pub(super) fn approvals() -> Vec<Operation> {
    vec![
        Operation::new("GET", "/v1/approvals", "approval_list", "List calls that wait for a person, or did")
            .query::<queries::Approvals>()
            .gives::<List<Approval>>(200, "A page of approvals, the newest first.")
            .fails(&[ErrorCode::AgentNotFound]),
        Operation::new("GET", "/v1/approvals/{approval}", "approval_show", "Show an approval")
            .gives::<Approval>(200, "The approval, with the exact call.")
            .fails(&[ErrorCode::ApprovalNotFound]),
        Operation::new(
            "POST",
            "/v1/approvals/{approval}/answer",
            "approval_answer",
            "Approve a call, or refuse it",
        )
        .takes::<AnswerApproval>()
        .gives::<Approval>(200, "The approval as it stands now.")
        .writes()
        .fails(&[
            ErrorCode::ApprovalNotFound,
            ErrorCode::ApprovalClosed,
            ErrorCode::ApprovalOutdated,
            ErrorCode::AgentTerminated,
        ]),
        Operation::new("GET", "/v1/approval-rules", "approval_rule_list", "List rules that answer approvals")
            .gives::<List<ApprovalRule>>(
                200,
                "All rules: those of the configuration, then the others by name.",
            ),
        Operation::new("PUT", "/v1/approval-rules/{rule}", "approval_rule_set", "Set a rule")
            .takes::<SetApprovalRule>()
            .gives::<ApprovalRule>(200, "The rule, as it matches.")
            .writes()
            .fails(&[ErrorCode::AgentNotFound]),
        Operation::new("DELETE", "/v1/approval-rules/{rule}", "approval_rule_remove", "Remove a rule")
            .gives::<ApprovalRule>(200, "The rule that was removed.")
            .writes()
            .fails(&[ErrorCode::ApprovalRuleNotFound]),
    ]
}

pub(super) fn budgets() -> Vec<Operation> {
    vec![
        Operation::new("GET", "/v1/budgets", "budget_list", "List budgets and how they stand")
            .gives::<List<Budget>>(200, "All budgets, by name."),
        Operation::new("PUT", "/v1/budgets/{budget}", "budget_set", "Set a budget")
            .takes::<SetBudget>()
            .gives::<Budget>(200, "The budget, and how it stands.")
            .writes()
            .fails(&[ErrorCode::AgentNotFound, ErrorCode::BudgetDeclared]),
        Operation::new("DELETE", "/v1/budgets/{budget}", "budget_remove", "Remove a budget")
            .gives::<Budget>(200, "The budget that was removed.")
            .writes()
            .fails(&[ErrorCode::BudgetNotFound, ErrorCode::BudgetDeclared]),
    ]
}

pub(super) fn secrets() -> Vec<Operation> {
    vec![
        Operation::new("GET", "/v1/secrets", "secret_list", "List secrets, without their values")
            .query::<queries::Secrets>()
            .gives::<List<Secret>>(200, "A page of secrets, by name."),
        Operation::new("POST", "/v1/secrets", "secret_set", "Make a secret, or set one anew")
            .takes::<SetSecret>()
            .gives::<Secret>(200, "The secret, without its value.")
            .writes()
            .fails(&[ErrorCode::VaultLocked, ErrorCode::VersionConflict]),
        Operation::new("POST", "/v1/secrets/{secret}/rotate", "secret_rotate", "Give a secret a new value")
            .takes::<RotateSecret>()
            .gives::<Secret>(200, "The secret, without its value.")
            .writes()
            .fails(&[ErrorCode::SecretNotFound, ErrorCode::VaultLocked, ErrorCode::VersionConflict]),
        Operation::new("DELETE", "/v1/secrets/{secret}", "secret_delete", "Erase a secret with its key")
            .gives::<Secret>(200, "What it was, without its value.")
            .writes()
            .fails(&[ErrorCode::SecretNotFound, ErrorCode::VersionConflict]),
        Operation::new(
            "POST",
            "/v1/vault/reset",
            "vault_reset",
            "Give up secrets that nobody can open any more",
        )
        .gives::<List<Secret>>(200, "The secrets that were erased.")
        .writes()
        .fails(&[ErrorCode::VaultLocked, ErrorCode::VersionConflict]),
    ]
}

pub(super) fn capabilities() -> Vec<Operation> {
    vec![
        Operation::new("GET", "/v1/capabilities", "capability_list", "List capabilities")
            .query::<queries::Capabilities>()
            .gives::<List<Capability>>(200, "A page of capabilities, by id."),
        Operation::new("POST", "/v1/capabilities", "capability_grant", "Grant rights to an agent")
            .takes::<GrantCapability>()
            .gives::<CapabilityMade>(201, "The capability, with its token.")
            .writes()
            .fails(&[ErrorCode::AgentNotFound, ErrorCode::CapabilityRefused, ErrorCode::VaultLocked]),
        Operation::new(
            "POST",
            "/v1/capabilities/{capability}/delegate",
            "capability_delegate",
            "Hand a capability on to another agent, narrowed",
        )
        .takes::<DelegateCapability>()
        .gives::<CapabilityMade>(201, "What was handed on, with its token.")
        .writes()
        .fails(&[
            ErrorCode::AgentNotFound,
            ErrorCode::CapabilityNotFound,
            ErrorCode::CapabilityRefused,
            ErrorCode::VaultLocked,
        ]),
        Operation::new(
            "DELETE",
            "/v1/capabilities/{capability}",
            "capability_revoke",
            "Take a capability back, with all that were made from it",
        )
        .gives::<Capability>(200, "The capability, taken back.")
        .writes()
        .fails(&[ErrorCode::CapabilityNotFound]),
        Operation::new(
            "GET",
            "/v1/agents/{agent}/tools/{tool}/check",
            "capability_check",
            "Ask what the gate would say of a call",
        )
        .query::<queries::Checking>()
        .gives::<Checked>(200, "The verdict, and what each capability says.")
        .fails(&[
            ErrorCode::AgentNotFound,
            ErrorCode::ToolNotFound,
            ErrorCode::CapabilityUnreadable,
            ErrorCode::CapabilityForeign,
        ]),
    ]
}
