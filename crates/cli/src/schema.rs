//! What each command prints with `--json`, as JSON Schema.
//!
//! A schema is made from the very type that is printed, so it cannot say something else. It also tells which fields
//! `--json=FIELD,…` knows: those of the document, or of each row where the document is a listing.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::Value;

/// The field of a listing that holds its rows.
pub(crate) const ROWS: &str = "items";

/// The document of one command.
#[derive(Debug, Clone, Copy)]
pub struct PublishedSchema {
    /// The command as it is typed, such as `agent list`.
    pub command: &'static str,
    make: fn() -> Schema,
}

impl PublishedSchema {
    /// Says that a command prints a type.
    pub const fn for_command<T: JsonSchema>(command: &'static str) -> Self {
        Self { command, make: generate_schema::<T> }
    }

    /// The schema, draft 2020-12.
    pub fn json_schema(&self) -> Value {
        (self.make)().to_value()
    }

    /// The fields that can be asked for, in the order of the alphabet.
    pub fn field_names(&self) -> Vec<String> {
        let schema = self.json_schema();
        let mut fields = schema_properties(&schema, &schema);
        if fields.iter().any(|(name, _)| *name == ROWS) {
            let rows: Vec<_> = fields.iter().filter(|(name, _)| *name == ROWS).copied().collect();
            fields = rows
                .iter()
                .filter_map(|(_, rows)| rows.get("items"))
                .flat_map(|row| schema_properties(&schema, row))
                .collect();
        }
        let mut names: Vec<_> = fields.into_iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names.dedup();
        names
    }
}

fn generate_schema<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>()
}

/// Finds the properties of a schema, through references and alternatives.
fn schema_properties<'schema>(
    root: &'schema Value,
    at: &'schema Value,
) -> Vec<(&'schema String, &'schema Value)> {
    let mut found: Vec<_> = at.get("properties").and_then(Value::as_object).into_iter().flatten().collect();
    let named = at.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix('#'));
    if let Some(named) = named.and_then(|pointer| root.pointer(pointer)) {
        found.extend(schema_properties(root, named));
    }
    for branch in ["anyOf", "oneOf", "allOf"] {
        let branches = at.get(branch).and_then(Value::as_array).into_iter().flatten();
        found.extend(branches.flat_map(|branch| schema_properties(root, branch)));
    }
    found
}

#[cfg(test)]
mod tests {
    use dromia_api::ListPage;
    use dromia_api::status::NodeStatus;
    use dromia_api::tenant::TenantResource;

    use super::*;

    #[test]
    fn the_fields_of_a_listing_are_those_of_its_rows() {
        assert_eq!(
            PublishedSchema::for_command::<ListPage<TenantResource>>("x").field_names(),
            ["created_at", "handle", "id", "suspended_at"]
        );
        let status = PublishedSchema::for_command::<NodeStatus>("x").field_names();
        assert!(status.contains(&"version".to_owned()) && status.contains(&"store".to_owned()), "{status:?}");
    }
}
