//! Which changed keys a running server has to leave as they were: those that only a start applies.

use std::collections::BTreeMap;

use serde_json::Value;

use super::schema::{self, ConfigKey, KeyEffect};
use super::{LoadedConfig, show};

/// The most keys that are named.
const NAMED_MAX: usize = 32;

/// Lists the keys that have another value than at the start and take effect at the next one, in the order of the alphabet.
pub(crate) fn pending_keys(boot: &LoadedConfig, newest: &LoadedConfig) -> Vec<String> {
    let keys = schema::list_keys();
    let mut pending: Vec<_> =
        changed_keys(boot, newest).into_keys().filter(|path| waits_for_start(&keys, path)).collect();
    pending.truncate(NAMED_MAX);
    pending
}

/// Lists the values that differ, each with the one before and the one after; nothing where the key is absent.
pub(crate) fn changed_keys(
    before: &LoadedConfig,
    after: &LoadedConfig,
) -> BTreeMap<String, (Option<Value>, Option<Value>)> {
    let values = |loaded| show::list_values(loaded).into_iter().map(|shown| (shown.key, shown.value));
    let mut changed: BTreeMap<String, (Option<Value>, Option<Value>)> =
        values(before).map(|(key, value)| (key, (Some(value), None))).collect();
    for (key, value) in values(after) {
        changed.entry(key).or_default().1 = Some(value);
    }
    changed.retain(|_, (before, after)| before != after);
    changed
}

/// Tells whether only a start applies a key, or the nearest key above it that the schema has.
fn waits_for_start(keys: &[ConfigKey], path: &str) -> bool {
    let mut path = path;
    loop {
        if let Some(key) = keys.iter().find(|key| key.is_meant_by(path)) {
            return key.effect == Some(KeyEffect::Restart);
        }
        match path.rsplit_once('.') {
            Some((above, _)) => path = above,
            None => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{EnvironmentVariables, parse_layered};
    use super::*;

    fn loaded(text: &str) -> LoadedConfig {
        parse_layered(Path::new("dromia.yaml"), text, &EnvironmentVariables::default(), &[])
            .expect("its form is right")
    }

    /// Names the keys that say neither that they are live nor that they need a start.
    fn undecided(keys: &[ConfigKey]) -> Vec<&str> {
        let leaves = keys.iter().filter(|key| !key.is_group && key.effect.is_none());
        leaves.map(|key| key.path.as_str()).collect()
    }

    #[test]
    fn every_key_is_live_or_needs_a_start() {
        assert_eq!(undecided(&schema::list_keys()), Vec::<&str>::new());
    }

    /// Planted fault: a key that says neither.
    #[test]
    fn a_key_that_says_neither_is_caught() {
        let mut keys = schema::list_keys();
        keys.iter_mut().filter(|key| key.path == "listen").for_each(|key| key.effect = None);
        assert_eq!(undecided(&keys), ["listen"]);
    }

    #[test]
    fn only_changed_keys_that_need_a_start_are_pending() {
        let boot = loaded("engine: { active_max: 2, model_calls_max: 3 }\n");
        for (text, pending) in [
            ("engine: { active_max: 2, model_calls_max: 4 }\n", vec![]),
            ("engine: { active_max: 9, model_calls_max: 3 }\n", vec!["engine.active_max"]),
            (
                "listen: 127.0.0.1:1\nengine: { active_max: 2, model_calls_max: 3 }\ntenants: { acme: { trust: hostile } }\n",
                vec!["listen"],
            ),
            (
                "engine: { active_max: 2, model_calls_max: 3 }\nlimits: { requests_max: 7 }\nsandbox: { minimum: base }\n",
                vec!["sandbox.minimum"],
            ),
        ] {
            assert_eq!(pending_keys(&boot, &loaded(text)), pending, "{text}");
        }
    }
}
