//! The least whole number that a key takes. It is not written down twice: the code that resolves the key is tried with
//! a zero.

use std::path::Path;

use super::environment::EnvironmentVariables;
use super::file::WrittenConfig;
use super::layers;
use super::origin::ValueOrigins;
use super::type_words::FROM_ZERO;
use super::{positions, resolve, schema};

/// Says what belongs at a key, where that is less than its type takes; nothing where a zero is taken, and for keys below a name.
pub(super) fn bounds_text(path: &str, wanted: &str) -> Option<String> {
    let most = wanted.strip_prefix(FROM_ZERO)?;
    let keys = schema::list_keys();
    let key = keys.iter().find(|key| key.path == path && key.is_integer && key.variable.is_some())?;
    let zero = layers::set_key(&WrittenConfig::default(), key, "0").ok()?;
    let origins = ValueOrigins::of_file(Path::new("dromia.yaml"), positions::key_positions(""));
    let refused = resolve::resolve_config(&zero, &origins, &EnvironmentVariables::default()).err()?;
    let named = format!("{path}: must be ");
    let said = refused.0.iter().find_map(|problem| problem.message.strip_prefix(&named))?;
    if let Some(least) = said.strip_prefix("at least ") {
        return Some(format!("a whole number from {least} to {most}"));
    }
    let bounds = said.strip_prefix("from ")?;
    Some(format!("a whole number from {}", bounds.split(',').next().unwrap_or(bounds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keys_bounds_text_starts_at_its_least_number() {
        let wanted = format!("{FROM_ZERO}{}", u64::MAX);
        let told = |path| bounds_text(path, &wanted);
        assert_eq!(told("engine.active_max"), Some(format!("a whole number from 1 to {}", u64::MAX)));
        let body = told("limits.body_bytes_max").expect("it has bounds");
        assert!(body.starts_with("a whole number from 1024 to ") && !body.contains("is 0"), "{body}");
        assert_eq!(told("tools.pace_ms"), None, "a zero is taken");
        assert_eq!(told("models.a.price.input"), None, "a name is in its path");
        assert_eq!(bounds_text("engine.active_max", "true or false"), None);
    }
}
