//! What is built in about a few well known models of two providers: their list prices and their windows.
//!
//! The table is a data file with a version and a date. It says what holds at a *host*, so a model of the same name on a
//! private server is not in it. It is a convenience and ages: what the operator writes wins, a model without a price
//! costs 0 and is shown as unpriced, and nothing is left out for one without a window.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::context_window::ContextWindow;
use crate::http::TokenPrice;

/// The models that are known without being asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownModels {
    /// The version of the table's form.
    pub version: u32,
    /// The day for which prices and windows were right.
    pub as_of: String,
    /// The currency whose millionths are counted.
    pub currency: String,
    /// What a reader of the file should know.
    pub note: String,
    hosts: BTreeMap<String, Vec<KnownModel>>,
}

/// One model, under all its ids.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownModel {
    ids: Vec<String>,
    price: KnownPrice,
    window: KnownWindow,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownPrice {
    input: u64,
    output: u64,
    cache_read: u64,
    cache_write: u64,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownWindow {
    context: u32,
    output: u32,
}

impl KnownModels {
    /// Returns the table of this program.
    pub fn builtin_table() -> &'static Self {
        static TABLE: LazyLock<KnownModels> = LazyLock::new(|| {
            serde_json::from_str(include_str!("../models.json"))
                .unwrap_or_else(|error| unreachable!("the table is part of the program: {error}"))
        });
        &TABLE
    }

    /// Finds what a host charges for a model, by its exact id.
    pub fn model_price(&self, host: &str, model: &str) -> Option<TokenPrice> {
        let KnownPrice { input, output, cache_read, cache_write } = self.find_model(host, model)?.price;
        Some(TokenPrice { input, output, cache_read, cache_write })
    }

    /// Finds what a model takes at a host, by its exact id; nothing is known of others.
    pub fn model_window(&self, host: &str, model: &str) -> ContextWindow {
        self.find_model(host, model).map_or_else(ContextWindow::default, |known| ContextWindow {
            context_tokens: Some(known.window.context),
            output_tokens_max: Some(known.window.output),
        })
    }

    fn find_model(&self, host: &str, model: &str) -> Option<&KnownModel> {
        self.hosts.get(host)?.iter().find(|known| known.ids.iter().any(|id| id == model))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_builtin_table_is_consistent_and_names_models_once() {
        let table = KnownModels::builtin_table();
        assert_eq!((table.version, table.currency.as_str()), (1, dromia_contracts::cost::CURRENCY));
        for (host, models) in &table.hosts {
            let mut seen = BTreeSet::new();
            for known in models {
                assert!(known.ids.iter().all(|id| seen.insert(id)), "{host}: {known:?}");
                let KnownPrice { input, output, cache_read, cache_write } = known.price;
                assert!(cache_read <= input && input <= cache_write && input < output, "{host}: {known:?}");
                let KnownWindow { context, output } = known.window;
                assert!(0 < output && output < context, "{host}: {known:?}");
            }
        }
    }

    #[test]
    fn a_model_of_the_same_name_elsewhere_is_unknown() {
        let table = KnownModels::builtin_table();
        let price = table.model_price("api.openai.com", "gpt-5-mini").expect("it is in the table");
        assert_eq!((price.input, price.output), (250_000, 2_000_000));
        assert_eq!(table.model_window("api.openai.com", "gpt-4o").context_tokens, Some(128_000));
        for (host, model) in [("127.0.0.1", "gpt-5-mini"), ("api.openai.com", "gpt-5-min")] {
            assert_eq!(table.model_price(host, model), None, "{host} {model}");
            assert_eq!(table.model_window(host, model), ContextWindow::default(), "{host} {model}");
        }
    }
}
