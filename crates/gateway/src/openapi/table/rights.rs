//! What agents may spend, and what they may use without seeing it.

use dromia_api::budget::{Budget, SetBudget};
use dromia_api::secret::{RotateSecret, Secret, SetSecret};
use dromia_api::{ErrorCode, List};

use crate::openapi::operation::Operation;
use crate::routes::queries;

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
    ]
}
