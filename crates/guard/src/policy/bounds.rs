//! How large a question to a policy may be: what is larger is refused before any rule sees it.
//!
//! A policy walks through what it is asked, often in loops within loops, so what an agent sends decides how long that takes.
//! It refuses by the question alone, and it shortens nothing: a rule would judge another call than the one that is made.

use dromia_contracts::tool::{ArgumentRole, ToolManifest};
use serde_json::Value;

/// The most bytes of the arguments of a call.
pub const ARGUMENT_BYTES_MAX: usize = 1 << 20;
/// The most values in one another.
pub const ARGUMENT_DEPTH_MAX: usize = 32;
/// The most values in all.
pub const ARGUMENT_VALUES_MAX: usize = 16_384;
/// The most parts of a path that says what a call acts upon.
pub const PATH_PARTS_MAX: usize = 256;

/// Says which bound the arguments of a call exceed, if they exceed one. It goes no deeper than what is allowed.
pub(super) fn exceeded_bound(
    text: &str,
    arguments: &Value,
    manifest: Option<&ToolManifest>,
) -> Option<String> {
    if text.len() > ARGUMENT_BYTES_MAX {
        return Some(format!("the arguments have {} bytes, more than {ARGUMENT_BYTES_MAX}", text.len()));
    }
    let mut left = vec![(arguments, 1)];
    let mut values = 0;
    while let Some((value, depth)) = left.pop() {
        values += 1;
        if depth > ARGUMENT_DEPTH_MAX {
            return Some(format!("the arguments are nested deeper than {ARGUMENT_DEPTH_MAX} levels"));
        }
        if values > ARGUMENT_VALUES_MAX {
            return Some(format!("the arguments have more than {ARGUMENT_VALUES_MAX} values"));
        }
        match value {
            Value::Array(items) => left.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(fields) => left.extend(fields.values().map(|field| (field, depth + 1))),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let roles = manifest.into_iter().flat_map(|manifest| &manifest.roles);
    let objects = roles.filter(|(_, role)| **role == ArgumentRole::Object);
    let paths = objects.filter_map(|(name, _)| Some((name, arguments.get(name)?.as_str()?)));
    let is_long = |path: &str| path.split('/').filter(|part| !part.is_empty()).count() > PATH_PARTS_MAX;
    let (name, _) = paths.into_iter().find(|(_, path)| is_long(path))?;
    Some(format!("`{name}` has more than {PATH_PARTS_MAX} parts"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use dromia_contracts::tool::EffectSink;
    use serde_json::json;

    use super::*;

    fn nested(depth: usize) -> Value {
        (1..depth).fold(json!(1), |inside, _| json!([inside]))
    }

    fn named(depth: usize) -> Value {
        (1..depth).fold(json!(1), |inside, _| json!({ "a": inside }))
    }

    /// Compares a check with what each bound must let through and refuse.
    fn check_bounds(
        exceeded: impl Fn(&str, &Value, Option<&ToolManifest>) -> Option<String>,
    ) -> Result<(), String> {
        let roles = BTreeMap::from([("path".to_owned(), ArgumentRole::Object)]);
        let manifest = ToolManifest { sink: EffectSink::Inside, roles };
        let path = |parts: usize| json!({ "path": format!("/{}", vec!["a"; parts].join("//")) });
        for (within, beyond, said) in [
            (nested(ARGUMENT_DEPTH_MAX), nested(ARGUMENT_DEPTH_MAX + 1), "nested deeper"),
            (named(ARGUMENT_DEPTH_MAX), named(ARGUMENT_DEPTH_MAX + 1), "nested deeper"),
            (json!(vec![0; ARGUMENT_VALUES_MAX - 1]), json!(vec![0; ARGUMENT_VALUES_MAX]), "values"),
            (
                json!("a".repeat(ARGUMENT_BYTES_MAX - 2)),
                json!("a".repeat(ARGUMENT_BYTES_MAX - 1)),
                "bytes, more than 1048576",
            ),
            (path(PATH_PARTS_MAX), path(PATH_PARTS_MAX + 1), "`path` has more than 256 parts"),
        ] {
            if let Some(found) = exceeded(&within.to_string(), &within, Some(&manifest)) {
                return Err(format!("refused within: {found}"));
            }
            let found = exceeded(&beyond.to_string(), &beyond, Some(&manifest));
            if !found.as_ref().is_some_and(|found| found.contains(said)) {
                return Err(format!("not refused beyond {said}: {found:?}"));
            }
        }
        // Of what nobody described no argument is known to be a path.
        let long = path(PATH_PARTS_MAX + 1);
        exceeded(&long.to_string(), &long, None).map_or(Ok(()), |found| Err(format!("no path: {found}")))
    }

    #[test]
    fn each_bound_holds_at_its_number_and_not_beyond() {
        assert_eq!(check_bounds(exceeded_bound), Ok(()));
    }

    /// Planted faults: each bound in turn is not kept.
    #[test]
    fn a_bound_that_is_not_enforced_is_caught() {
        for forgotten in ["nested deeper", "values", "bytes", "parts"] {
            let lenient = |text: &str, arguments: &Value, manifest: Option<&ToolManifest>| {
                exceeded_bound(text, arguments, manifest).filter(|found| !found.contains(forgotten))
            };
            let found = check_bounds(lenient).expect_err(forgotten);
            assert!(found.starts_with("not refused beyond"), "{found}");
        }
    }
}
