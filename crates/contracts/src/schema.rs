//! JSON Schemas of the types that travel as text; all others derive theirs.

/// Describes a type that is written as a text of a pattern.
macro_rules! text_schema {
    ($type:ty, $name:expr, $pattern:expr) => {
        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

pub(crate) use text_schema;
