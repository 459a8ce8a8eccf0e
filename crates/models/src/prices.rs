//! List prices that are built in, for a few well known models of two providers.
//!
//! The table is a data file with a version and a date. It says what a *host* charges, so a model of the same name
//! on somebody's own server has no price here. It is a convenience and ages: what the operator writes wins, and a
//! model that is in neither place costs 0 and is shown as unpriced.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::http::Price;

/// The built-in prices.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceTable {
    /// The version of the table's form.
    pub version: u32,
    /// The day for which the prices were right.
    pub as_of: String,
    /// The currency whose millionths are counted.
    pub currency: String,
    /// What a reader of the file should know.
    pub note: String,
    hosts: BTreeMap<String, Vec<Entry>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    ids: Vec<String>,
    input: u64,
    output: u64,
    cache_read: u64,
    cache_write: u64,
}

impl PriceTable {
    /// Returns the table of this program.
    pub fn builtin() -> &'static Self {
        static TABLE: LazyLock<PriceTable> = LazyLock::new(|| {
            serde_json::from_str(include_str!("../prices.json"))
                .unwrap_or_else(|error| unreachable!("the table is part of the program: {error}"))
        });
        &TABLE
    }

    /// Finds what a host charges for a model, by its exact id.
    pub fn price(&self, host: &str, model: &str) -> Option<Price> {
        let entry = self.hosts.get(host)?.iter().find(|entry| entry.ids.iter().any(|id| id == model))?;
        let Entry { input, output, cache_read, cache_write, .. } = *entry;
        Some(Price { input, output, cache_read, cache_write })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_can_be_read_and_names_no_model_twice() {
        let table = PriceTable::builtin();
        assert_eq!((table.version, table.currency.as_str()), (1, "USD"));
        for (host, entries) in &table.hosts {
            let mut seen = BTreeSet::new();
            for entry in entries {
                assert!(entry.ids.iter().all(|id| seen.insert(id)), "{host}: {entry:?}");
                assert!(entry.cache_read <= entry.input && entry.input <= entry.cache_write, "{entry:?}");
                assert!(entry.input < entry.output, "{host}: {entry:?}");
            }
        }
    }

    #[test]
    fn a_model_of_the_same_name_on_another_host_has_no_price() {
        let table = PriceTable::builtin();
        let price = table.price("api.openai.com", "gpt-5-mini").expect("it is in the table");
        assert_eq!((price.input, price.output), (250_000, 2_000_000));
        assert_eq!(table.price("127.0.0.1", "gpt-5-mini"), None);
        assert_eq!(table.price("api.openai.com", "gpt-5-min"), None);
    }
}
