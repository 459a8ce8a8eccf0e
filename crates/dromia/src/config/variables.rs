//! Variables of the environment that look like one of this program's and are none: their values have no effect.
//!
//! Only what is near to a name that counts, or is named after a group of keys, is taken for a mistake: others may call theirs
//! DROMIA_ something too, as Kubernetes does beside a service of that name, and the file may refer to any.

use std::collections::BTreeSet;

use super::environment::EnvironmentVariables;
use super::problem::ConfigProblem;
use super::schema;

/// The variables that no key has.
const OTHERS: [&str; 6] =
    ["DROMIA_HOME", "DROMIA_LOG", "DROMIA_SERVER", "DROMIA_TOKEN", "DROMIA_CA", "DROMIA_CONTEXT"];

/// How many changes make another word of a name.
const CHANGES_MAX: usize = 2;

/// Lists the variables that were probably meant to be others, for a file of this text.
pub(crate) fn misspelt_variables(environment: &EnvironmentVariables, text: &str) -> Vec<ConfigProblem> {
    let keys = schema::list_keys();
    let known: BTreeSet<&str> = keys.iter().filter_map(|key| key.variable.as_deref()).chain(OTHERS).collect();
    // DROMIA_ENGINE_ and the like.
    let groups: BTreeSet<&str> = known.iter().filter_map(|name| variable_prefix(name)).collect();
    let mut problems = Vec::new();
    for name in environment.variable_names() {
        if known.contains(name) || !name.starts_with("DROMIA_") || text.contains(&format!("env:{name}")) {
            continue;
        }
        let near = known.iter().map(|known| (strsim::damerau_levenshtein(name, known), *known)).min();
        let near = near.filter(|(changes, _)| *changes <= CHANGES_MAX).map(|(_, known)| known);
        if near.is_none() && variable_prefix(name).is_none_or(|group| !groups.contains(group)) {
            continue;
        }
        let meant = near.map_or_else(
            || "; `dromia config explain` lists the variables".to_owned(),
            |near| format!("; did you mean `{near}`?"),
        );
        problems
            .push(ConfigProblem::new(name, format!("no key has this variable, so it has no effect{meant}")));
    }
    problems
}

/// The beginning of a variable, up to the end of the word after DROMIA; nothing where no further word follows.
fn variable_prefix(name: &str) -> Option<&str> {
    let rest = name.strip_prefix("DROMIA_")?;
    let (word, _) = rest.split_once('_')?;
    name.get(.."DROMIA_".len() + word.len() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_variable_is_reported_with_a_suggestion() {
        let environment = EnvironmentVariables::from([
            ("DROMIA_ENGINE_ACTIVE_MX", "3"),
            ("DROMIA_ENGINE_NOTHING_LIKE_IT", "3"),
            ("DROMIA_HOEM", "/h"),
            // What counts, what the file refers to, and what others set.
            ("DROMIA_ENGINE_ACTIVE_MAX", "3"),
            ("DROMIA_HOME", "/h"),
            ("DROMIA_LIMITS_KEY_OF_MINE", "k"),
            ("DROMIA_SERVICE_HOST", "10.0.0.1"),
            ("ENGINE_ACTIVE_MX", "3"),
        ]);
        let told =
            misspelt_variables(&environment, "providers: { a: { key: env:DROMIA_LIMITS_KEY_OF_MINE } }");
        let told: Vec<_> = told.iter().map(ToString::to_string).collect();
        let says = "no key has this variable, so it has no effect";
        assert_eq!(
            told,
            [
                format!("DROMIA_ENGINE_ACTIVE_MX: {says}; did you mean `DROMIA_ENGINE_ACTIVE_MAX`?"),
                format!("DROMIA_ENGINE_NOTHING_LIKE_IT: {says}; `dromia config explain` lists the variables"),
                format!("DROMIA_HOEM: {says}; did you mean `DROMIA_HOME`?"),
            ]
        );
    }
}
