//! The component schemas, derived from the wire types.
//!
//! What a request must carry differs from what an answer does carry: a field with a default may be left out of the
//! one and is always in the other. So both are derived, and where they differ the request's has `Input` behind its
//! name. Where they are the same, there is one.

use std::collections::BTreeSet;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::operation::Schema;

/// Where the components lie.
pub(super) const COMPONENTS: &str = "#/components/schemas/";

/// Where references to what is taken point until the two kinds are put together.
const TAKEN: &str = "#/taken/";

/// The schemas of what is taken and of what is given, as they are asked for.
#[derive(Debug)]
pub(super) struct SchemaRegistry {
    taken: SchemaGenerator,
    given: SchemaGenerator,
}

impl SchemaRegistry {
    pub(super) fn new() -> Self {
        let settings = |path: &'static str| {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = path.into();
                settings.meta_schema = None;
            })
        };
        Self {
            taken: settings("/taken").for_deserialize().into_generator(),
            given: settings("/components/schemas").for_serialize().into_generator(),
        }
    }

    /// Describes what a request carries.
    pub(super) fn request_schema(&mut self, schema: Schema) -> Value {
        schema(&mut self.taken).to_value()
    }

    /// Describes what an answer carries.
    pub(super) fn response_schema(&mut self, schema: Schema) -> Value {
        schema(&mut self.given).to_value()
    }

    /// Puts the two kinds together, points every reference in the document to its component, and returns the
    /// components.
    pub(super) fn finish(mut self, document: &mut Value) -> Map<String, Value> {
        let mut components = self.given.take_definitions(false);
        let taken = self.taken.take_definitions(false);
        let apart = ambiguous_names(&taken, &components);
        let name = |name: &str| {
            if apart.contains(name) { format!("{name}Input") } else { name.to_owned() }
        };
        for (key, mut schema) in taken {
            point_references(&mut schema, &name);
            components.insert(name(&key), schema);
        }
        point_references(document, &name);
        components
    }
}

/// Finds the names that mean one thing in requests and another in answers, or mention such a name.
fn ambiguous_names(taken: &Map<String, Value>, given: &Map<String, Value>) -> BTreeSet<String> {
    let mut apart = BTreeSet::new();
    loop {
        let differs = |name: &str, schema: &Value| {
            let Some(other) = given.get(name) else { return false };
            let mut plain = schema.clone();
            point_references(&mut plain, &|name: &str| name.to_owned());
            plain != *other || mentions_any(schema, &apart)
        };
        let more = taken.iter().find(|(name, schema)| !apart.contains(*name) && differs(name, schema));
        let Some(more) = more.map(|(name, _)| name.clone()) else { return apart };
        apart.insert(more);
    }
}

fn mentions_any(schema: &Value, names: &BTreeSet<String>) -> bool {
    match schema {
        Value::Object(fields) => fields.iter().any(|(key, value)| {
            let named = (key == "$ref").then(|| value.as_str()?.strip_prefix(TAKEN)).flatten();
            named.is_some_and(|name| names.contains(name)) || mentions_any(value, names)
        }),
        Value::Array(items) => items.iter().any(|item| mentions_any(item, names)),
        _ => false,
    }
}

/// Points references to what is taken to their components.
fn point_references(value: &mut Value, name: &impl Fn(&str) -> String) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let taken = value.as_str().and_then(|text| text.strip_prefix(TAKEN));
                match taken.filter(|_| key == "$ref").map(|taken| format!("{COMPONENTS}{}", name(taken))) {
                    Some(pointed) => *value = Value::String(pointed),
                    None => point_references(value, name),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| point_references(item, name)),
        _ => {}
    }
}
