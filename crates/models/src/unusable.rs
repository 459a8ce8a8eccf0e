//! The adapter of a model whose provider cannot be used, such as one whose key is missing. It sends nothing: each attempt
//! fails before it begins, with the reason that the configuration gave, so that a fallback can answer instead.

use bytes::Bytes;
use dromia_contracts::encoded_request::RequestEncoding;
use dromia_contracts::model::{
    DeltaSink, LanguageModel, ModelError, ModelReply, ModelRequest, PreparedAttempt,
};
use dromia_contracts::{BoxFuture, ErrorCode};

use crate::encoded_request;

/// A model that refuses every attempt.
#[derive(Debug)]
pub(crate) struct UnusableModel {
    /// Why, and what an operator can do about it.
    pub(crate) reason: String,
}

impl UnusableModel {
    fn refusal(&self) -> ModelError {
        ModelError { code: ErrorCode::ModelRejected, message: self.reason.clone(), retry_after: None }
    }
}

impl LanguageModel for UnusableModel {
    fn knows_alias(&self, _alias: &str) -> bool {
        true
    }

    fn prepare_attempt(&self, _request: &ModelRequest) -> Result<PreparedAttempt, ModelError> {
        Err(self.refusal())
    }

    fn encode_request(&self, wording: &RequestEncoding, request: &ModelRequest) -> Result<Bytes, ModelError> {
        encoded_request::encode_request(wording, request, request.output_tokens_max)
    }

    fn call_model<'a>(
        &'a self,
        _request: &'a ModelRequest,
        _prepared: &'a PreparedAttempt,
        _deltas: &'a dyn DeltaSink,
    ) -> BoxFuture<'a, Result<ModelReply, ModelError>> {
        Box::pin(async { Err(self.refusal()) })
    }
}
