//! The check for secrets in what leaves: requests to models, and answers.

use dromia_contracts::model::PreparedAttempt;
use dromia_contracts::vault::LeakDetector;
use dromia_contracts::{ErrorCode, Fault, Scope};

use super::CallJudge;
use crate::owner::error::OwnershipError;

/// The rule by which words are withheld that hold a secret, or may.
pub(crate) const LEAK_SCAN: &str = "leak scan";

impl CallJudge<'_> {
    /// Returns why a request may not leave, if it holds a secret or cannot be scanned. A request to the scripted model
    /// stays in this process.
    pub(crate) async fn leak_in_request(
        &self,
        prepared: &PreparedAttempt,
    ) -> Result<Option<String>, OwnershipError> {
        if !prepared.wording.leaves_process() {
            return Ok(None);
        }
        match self.core.ports.leaks.scan_text(&self.identity.scope, &prepared.body).await {
            Ok(found) => Ok(found.first().map(|leak| {
                format!(
                    "the request contains the value of the secret {:?}, so it was not sent; give that secret \
                     a new value, because this conversation has the old one, or start another session",
                    leak.secret
                )
            })),
            // The store answers again sooner or later, and the run is taken up then.
            Err(fault) if fault.code == ErrorCode::StoreUnavailable => Err(OwnershipError::Store),
            Err(fault) => Ok(Some(format!("failed to check whether the request contains a secret: {fault}"))),
        }
    }
}

/// Returns why words for the session may not leave, if they hold a secret or cannot be scanned.
pub(super) async fn leak_in_words(leaks: &dyn LeakDetector, scope: &Scope, text: &str) -> Option<String> {
    match leaks.scan_text(scope, text.as_bytes()).await {
        Ok(found) => found.first().map(|leak| answer_holds(&leak.secret)),
        Err(fault) => Some(unseen_answer(&fault)),
    }
}

/// Says that an answer holds a secret.
pub(crate) fn answer_holds(secret: &str) -> String {
    format!("the answer contains the value of the secret {secret:?}, so it was not sent")
}

/// Says that an answer could not be scanned.
pub(crate) fn unseen_answer(fault: &Fault) -> String {
    format!("failed to check whether the answer contains a secret: {fault}")
}
