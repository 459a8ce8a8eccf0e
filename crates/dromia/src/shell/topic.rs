//! Topics of `dromia help` that are no command.

/// The names of the topics.
pub(super) const NAMES: [&str; 4] = ["exit-codes", "environment", "commands", "schemas"];

/// The variables that this program reads, each with what it does.
const VARIABLES: [(&str, &str); 13] = [
    ("DROMIA_HOME", "the home, where --home names none; by default ~/.dromia"),
    ("DROMIA_LISTEN", "the TCP address that `dromia up` serves, where --listen names none"),
    ("DROMIA_LOG", "what `dromia up` logs, such as info or dromia_engine=debug; by default warn"),
    ("HOME", "where ~ is"),
    ("NO_COLOR", "set to anything: no colour, unless --color asks for it"),
    ("CLICOLOR_FORCE", "set to anything but 0: colour also where no terminal is"),
    ("CLICOLOR", "set to 0: no colour"),
    ("TERM", "dumb: no colour"),
    ("COLUMNS", "how wide a table may be; by default as wide as the terminal"),
    ("LC_ALL, LC_CTYPE, LANG", "looked at by `dromia doctor` only; all texts are UTF-8"),
    ("OPENAI_API_KEY", "if it is set, `dromia init` offers that model"),
    ("OPENAI_BASE_URL", "where `dromia init` finds that model's server"),
    ("OPENAI_MODEL", "which model `dromia init` takes there"),
];

/// The page about the environment.
pub(super) fn environment() -> String {
    let width = VARIABLES.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let mut text = "The variables that dromia reads. A flag counts before its variable, a variable before dromia.yaml.\n\n".to_owned();
    for (name, meaning) in VARIABLES {
        text.extend([format!("  {name:<width$}  {meaning}\n")]);
    }
    text.push_str(
        "\nA key of dromia.yaml with one value has a variable of its own, such as DROMIA_LIMITS_DRAIN_MS for \
         limits.drain_ms; `dromia config explain KEY` names it.\n\
         dromia.yaml can refer to any other as env:NAME, so that no secret stands in the file.",
    );
    text
}
