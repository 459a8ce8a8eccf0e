//! Records: which record of a tool's result a person means by typing its name.
//!
//! A person says "rent" or 'Introductory meeting', and a call takes 7 or an address. The operator's configuration of a
//! tool says that its results are JSON records, which of their fields are keys and which are names
//! ([`RecordFields`](dromia_contracts::tool::RecordFields)); a key whose record's name a person typed is one that the
//! person named. It compares texts deterministically: no model decides what is meant.
//!
//! Values in a record may be an attacker's. So it ignores a name that two records have, one of fewer than [`CHARS_MIN`]
//! characters, and, for destinations, one that the person typed neither in quotes nor as a proper name (two words at
//! least, each with a capital letter), because the sender of an invitation chooses its title. It does not detect an
//! attacker who adds a record with the very name that a person types while the true record is missing.

use std::collections::{BTreeMap, BTreeSet};

use dromia_contracts::content::{CallStatus, ContentPart};
use dromia_contracts::tool::RecordFields;
use serde_json::{Map, Value};

use crate::context::transcript::ConversationTranscript;
use crate::endorse::{is_whole_in, typed_texts};
use crate::json_leaves::collect_leaves;
use crate::run_tools::RunTools;

/// The shortest name that counts.
const CHARS_MIN: usize = 3;

/// The most records, and the most bytes of results, that are read in a turn; with more, none counts.
const RECORDS_MAX: usize = 4096;
const BYTES_MAX: usize = 1 << 20;

/// The keys that a person named, by what their records are called.
#[derive(Debug, Default)]
pub(crate) struct KnownRecords {
    objects: BTreeSet<String>,
    places: BTreeSet<String>,
}

/// The identity of one record: its own key, all of its keys, and its names.
#[derive(Default)]
struct RecordIdentity {
    own: String,
    keys: BTreeSet<String>,
    names: BTreeSet<String>,
}

impl KnownRecords {
    /// Compares the records in this turn's results with the typed texts.
    pub(crate) fn from_transcript(story: &ConversationTranscript, tools: RunTools<'_>) -> Self {
        let mut sighted = BTreeMap::<String, RecordIdentity>::new();
        let mut room = BYTES_MAX;
        for (call, result) in story.own_results().filter(|(_, result)| result.status == CallStatus::Ok) {
            let tool = tools.catalogue.find_tool(&call.tool);
            let Some(records) = tool.and_then(|tool| tool.records.as_ref()) else { continue };
            for text in result.parts.iter().filter(|part| !part.is_image()).map(ContentPart::as_text) {
                let Some(left) = room.checked_sub(text.len()) else { return Self::default() };
                room = left;
                for record in parse_records(text) {
                    note_record(&record, records, &mut sighted);
                }
            }
        }
        if sighted.len() > RECORDS_MAX {
            return Self::default();
        }
        let texts: Vec<&str> = story.transcript.turns().iter().flat_map(typed_texts).collect();
        Self::named_in_texts(&sighted, &texts, is_meant)
    }

    fn named_in_texts(
        sighted: &BTreeMap<String, RecordIdentity>,
        texts: &[&str],
        is_meant: fn(&str, &str) -> bool,
    ) -> Self {
        let mut shared = BTreeMap::<String, usize>::new();
        for name in sighted.values().flat_map(|record| record.names.iter()).map(|name| name.to_lowercase()) {
            *shared.entry(name).or_default() += 1;
        }
        let mut owners = BTreeMap::<&str, usize>::new();
        for record in sighted.values() {
            *owners.entry(&record.own).or_default() += 1;
        }
        let lower: Vec<String> = texts.iter().map(|text| text.to_lowercase()).collect();
        let mut known = Self::default();
        for record in sighted.values() {
            let own = |name: &&String| {
                name.chars().count() >= CHARS_MIN && shared.get(&name.to_lowercase()) == Some(&1)
            };
            let names: Vec<_> = record.names.iter().filter(own).collect();
            let is_typed = |name: &&&String| {
                let name = name.to_lowercase();
                lower.iter().any(|text| is_whole_in(&name, text))
            };
            // Records of two kinds may have one key; which of them is meant is unknown.
            if owners.get(record.own.as_str()) == Some(&1) && names.iter().any(|name| is_typed(&name)) {
                known.objects.extend(record.keys.iter().cloned());
            }
            if names.iter().any(|name| texts.iter().any(|text| is_meant(name, text))) {
                known.places.extend(record.keys.iter().cloned());
            }
        }
        known
    }

    /// Returns whether a person named the object with this key.
    pub(crate) fn names_object(&self, key: &str) -> bool {
        self.objects.contains(key)
    }

    /// Returns whether a person named the destination with this key.
    pub(crate) fn names_place(&self, key: &str) -> bool {
        self.places.contains(key)
    }
}

/// The records in a result: an object, or a list of them. Another text has none.
fn parse_records(text: &str) -> Vec<Map<String, Value>> {
    let object = |value: Value| match value {
        Value::Object(fields) => Some(fields),
        _ => None,
    };
    match serde_json::from_str(text) {
        Ok(Value::Array(values)) => values.into_iter().filter_map(object).collect(),
        Ok(value) => object(value).into_iter().collect(),
        Err(_) => Vec::new(),
    }
}

/// Stores a record under its own key. A repeated record is the same one.
fn note_record(
    record: &Map<String, Value>,
    fields: &RecordFields,
    sighted: &mut BTreeMap<String, RecordIdentity>,
) {
    let words = |name: &String| {
        let mut words = Vec::new();
        collect_leaves(record.get(name).unwrap_or(&Value::Null), &mut words);
        words
    };
    let Some(own) = fields.keys.first().and_then(|key| words(key).into_iter().next()) else { return };
    // Records of different kinds may have equal keys.
    let kind = fields.keys.join("\u{0}");
    let known = sighted.entry(format!("{kind}\u{0}\u{0}{own}")).or_default();
    known.own = own;
    known.keys.extend(fields.keys.iter().flat_map(words));
    known.names.extend(fields.names.iter().flat_map(words));
}

/// Returns whether a person who typed a text means this very name: it is quoted there, or it is a proper name.
fn is_meant(name: &str, text: &str) -> bool {
    const QUOTES: [(char, char); 7] =
        [('\'', '\''), ('"', '"'), ('`', '`'), ('‘', '’'), ('“', '”'), ('„', '“'), ('«', '»')];
    let quoted = QUOTES.iter().any(|(open, close)| text.contains(&format!("{open}{name}{close}")));
    let is_capital = |word: &str| word.chars().next().is_some_and(char::is_uppercase);
    let is_proper = name.split_whitespace().count() >= 2 && name.split_whitespace().all(is_capital);
    quoted || (is_proper && is_whole_in(name, text))
}

#[cfg(test)]
mod tests;
