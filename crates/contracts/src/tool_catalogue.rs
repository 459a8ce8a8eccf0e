//! The catalogue of tools: what one agent may be given, or some agent of one tenant.
//!
//! A catalogue never changes. The host makes another one when the operator changes the tools; a run keeps the one that it began
//! with. A tool that is in no catalogue of an agent does not exist for it.

use std::sync::Arc;

use crate::digest::Digest;
use crate::tool::ToolDescriptor;

/// One tool of a catalogue.
#[derive(Debug, Clone)]
pub struct CatalogueTool {
    descriptor: Arc<ToolDescriptor>,
    is_configured: bool,
}

impl CatalogueTool {
    /// A tool that every version of this program has.
    pub fn from_builtin(descriptor: ToolDescriptor) -> Self {
        Self { descriptor: Arc::new(descriptor), is_configured: false }
    }

    /// A tool that the configuration adds, and may change or remove.
    pub fn from_configuration(descriptor: ToolDescriptor) -> Self {
        Self { descriptor: Arc::new(descriptor), is_configured: true }
    }

    /// Returns what the tool says about itself.
    pub fn descriptor(&self) -> &ToolDescriptor {
        &self.descriptor
    }
}

/// The tools that an agent may be given, sorted by name. A clone is cheap.
#[derive(Debug, Clone)]
pub struct ToolCatalogue {
    tools: Arc<[CatalogueTool]>,
    generation: u64,
    digest: Digest,
}

impl ToolCatalogue {
    /// Makes the catalogue of a generation of tools. The digest is the host's, and covers every definition.
    pub fn new(mut tools: Vec<CatalogueTool>, generation: u64, digest: Digest) -> Self {
        tools.sort_by(|a, b| a.descriptor.name.cmp(&b.descriptor.name));
        Self { tools: tools.into(), generation, digest }
    }

    /// Makes the catalogue of a host whose tools never change.
    pub fn from_builtins(tools: impl IntoIterator<Item = ToolDescriptor>) -> Self {
        Self::new(tools.into_iter().map(CatalogueTool::from_builtin).collect(), 0, Digest::default())
    }

    /// Returns the number of the host's tools as they were: it rises with each change of them.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns the digest of the definitions. Equal digests are equal catalogues, whatever else the host has.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Lists the tools.
    pub fn tools(&self) -> &[CatalogueTool] {
        &self.tools
    }

    /// Lists what the tools say about themselves.
    pub fn descriptors(&self) -> impl Iterator<Item = &ToolDescriptor> {
        self.tools.iter().map(CatalogueTool::descriptor)
    }

    /// Finds a tool by its name.
    pub fn find_tool(&self, name: &str) -> Option<&ToolDescriptor> {
        self.find_entry(name).map(CatalogueTool::descriptor)
    }

    /// Finds a tool by its name, or as providers spell it that allow no dots.
    pub fn find_spelled(&self, name: &str) -> Option<&ToolDescriptor> {
        let is_spelled = |tool: &&ToolDescriptor| {
            tool.name.replace('.', "__") == name || tool.name.replace('.', "_") == name
        };
        self.find_tool(name).or_else(|| self.descriptors().find(is_spelled))
    }

    /// Returns whether it has a tool that the configuration added.
    pub fn is_configured(&self, name: &str) -> bool {
        self.find_entry(name).is_some_and(|tool| tool.is_configured)
    }

    /// The catalogue of a run: these tools, but those that the run is pinned to as the run knows them, whether or not they are
    /// still here.
    #[must_use]
    pub fn with_definitions(&self, own: &[ToolDescriptor]) -> Self {
        let is_own = |tool: &CatalogueTool| own.iter().any(|own| own.name == tool.descriptor.name);
        let mut tools: Vec<_> = self.tools.iter().filter(|tool| !is_own(tool)).cloned().collect();
        tools.extend(own.iter().map(|own| CatalogueTool {
            descriptor: Arc::new(own.clone()),
            // What is gone came from the configuration: this program has its own tools as long as it runs.
            is_configured: self.find_entry(&own.name).is_none_or(|tool| tool.is_configured),
        }));
        Self::new(tools, self.generation, self.digest)
    }

    fn find_entry(&self, name: &str) -> Option<&CatalogueTool> {
        let at = self.tools.binary_search_by(|tool| tool.descriptor.name.as_str().cmp(name)).ok()?;
        self.tools.get(at)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::label::Label;
    use crate::tool::{EffectClass, Sensitivity};

    fn tool(name: &str, description: &str) -> ToolDescriptor {
        ToolDescriptor {
            name: name.to_owned(),
            description: description.to_owned(),
            parameters: json!({}),
            effect: EffectClass::Pure,
            roles: Vec::new(),
            result_label: Label::PUBLIC_FACT,
            sensitivity: Sensitivity::Low,
            records: None,
        }
    }

    #[test]
    fn a_catalogue_finds_tools_by_both_spellings() {
        let catalogue = ToolCatalogue::from_builtins([tool("time.now", "a"), tool("file.read", "b")]);
        let names: Vec<_> = catalogue.descriptors().map(|tool| tool.name.as_str()).collect();
        assert_eq!(names, ["file.read", "time.now"]);
        for name in ["time.now", "time_now", "time__now"] {
            assert_eq!(catalogue.find_spelled(name).map(|tool| tool.name.as_str()), Some("time.now"));
        }
        assert_eq!(catalogue.find_tool("time_now"), None);
        assert_eq!(catalogue.find_spelled("time.no"), None);
    }

    #[test]
    fn a_runs_catalogue_keeps_the_definitions_of_its_pin() {
        let live = vec![
            CatalogueTool::from_builtin(tool("time.now", "now")),
            CatalogueTool::from_configuration(tool("bank.pay", "another")),
            CatalogueTool::from_configuration(tool("bank.new", "new")),
        ];
        let live = ToolCatalogue::new(live, 2, Digest::default());
        let pinned = [tool("bank.gone", "gone"), tool("bank.pay", "pinned"), tool("time.now", "pinned")];
        let run = live.with_definitions(&pinned);
        let told = |name: &str| run.find_tool(name).map(|tool| tool.description.as_str());
        assert_eq!(
            [told("bank.gone"), told("bank.pay"), told("time.now"), told("bank.new")],
            [Some("gone"), Some("pinned"), Some("pinned"), Some("new")]
        );
        assert!(run.is_configured("bank.gone") && run.is_configured("bank.pay"));
        assert!(!run.is_configured("time.now"), "a pin makes no built-in tool the configuration's");
    }
}
