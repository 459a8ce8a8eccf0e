//! What kinds of runs read first, as `engine.prompts` says it for every tenant and `tenants.NAME.prompts` for one.

use std::collections::BTreeMap;
use std::sync::Arc;

use dromia_contracts::agent::HandleSlug;
use dromia_contracts::identity_document::{PromptKind, check_document_text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problem_collector::ProblemCollector;

/// Texts by the kinds of runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenPrompts {
    /// What a turn reads before the instructions of its agent, up to 64 KiB; branches too. Default: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) turn: Option<String>,
    /// What a worker reads before the instructions of its agent, up to 64 KiB. Default: a text that is built in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) worker: Option<String>,
    /// The whole instructions of a compaction, up to 64 KiB. Default: a text that is built in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) compaction: Option<String>,
}

impl WrittenPrompts {
    /// Tells whether nothing is said.
    pub(crate) fn is_absent(&self) -> bool {
        *self == Self::default()
    }

    fn resolve_texts(&self, here: &str, check: &mut ProblemCollector<'_>) -> PromptTexts {
        let written = [
            (PromptKind::Turn, &self.turn),
            (PromptKind::Worker, &self.worker),
            (PromptKind::Compaction, &self.compaction),
        ];
        let mut texts = PromptTexts::new();
        for (kind, text) in written {
            let Some(text) = text else { continue };
            if let Err(error) = check_document_text(text) {
                check.add_problem(&format!("{here}.{}", kind.as_str()), error);
            }
            texts.insert(kind, Arc::from(text.as_str()));
        }
        texts
    }
}

type PromptTexts = BTreeMap<PromptKind, Arc<str>>;

/// The operator's prompts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PromptSettings {
    all: PromptTexts,
    tenants: BTreeMap<HandleSlug, PromptTexts>,
}

impl PromptSettings {
    /// Reads what the file says.
    pub(super) fn resolve_prompts<'w>(
        all: &WrittenPrompts,
        own: impl Iterator<Item = (&'w String, &'w WrittenPrompts)>,
        check: &mut ProblemCollector<'_>,
    ) -> Self {
        let all = all.resolve_texts("engine.prompts", check);
        let mut tenants = BTreeMap::new();
        for (name, prompts) in own {
            let texts = prompts.resolve_texts(&format!("tenants.{name}.prompts"), check);
            // A name that is no handle is reported where tenants are resolved.
            if let (false, Ok(handle)) = (texts.is_empty(), name.parse()) {
                tenants.insert(handle, texts);
            }
        }
        Self { all, tenants }
    }

    /// Lists the tenants with prompts of their own.
    pub(crate) fn list_tenants(&self) -> impl Iterator<Item = &HandleSlug> {
        self.tenants.keys()
    }

    /// Returns the text for a kind of run of a tenant.
    pub(crate) fn find_text(&self, tenant: Option<&HandleSlug>, kind: PromptKind) -> Option<Arc<str>> {
        let own = tenant.and_then(|tenant| self.tenants.get(tenant)?.get(&kind));
        own.or_else(|| self.all.get(&kind)).cloned()
    }
}
