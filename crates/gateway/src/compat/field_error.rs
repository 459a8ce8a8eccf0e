//! The refusal of one field of a compatible request; it names the field.

use crate::failure::ApiError;

/// The failure for a field that does not fit.
pub(super) fn invalid_field(path: &str, problem: &str) -> ApiError {
    ApiError::invalid_request(format!("`{path}`: {problem}")).at_field(path)
}
