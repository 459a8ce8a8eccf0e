//! Tools of which a test needs no more than the name.

use dromia_contracts::label::Label;
use dromia_contracts::tool::{EffectClass, Sensitivity, ToolDescriptor};
use dromia_contracts::tool_catalogue::ToolCatalogue;
use serde_json::json;

/// A tool that takes any object and reads something.
pub fn bare_tool(name: &str) -> ToolDescriptor {
    ToolDescriptor {
        name: name.to_owned(),
        description: format!("It is {name}."),
        parameters: json!({"type": "object"}),
        effect: EffectClass::Pure,
        roles: Vec::new(),
        result_label: Label::PUBLIC_FACT,
        sensitivity: Sensitivity::Low,
        records: None,
    }
}

/// The catalogue of tools with these names.
pub fn bare_catalogue<'a>(names: impl IntoIterator<Item = &'a str>) -> ToolCatalogue {
    ToolCatalogue::from_builtins(names.into_iter().map(bare_tool))
}
