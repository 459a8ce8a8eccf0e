//! Topics of `dromia help` that are not commands.

/// The names of the topics.
pub(super) const NAMES: [&str; 5] = ["options", "commands", "environment", "exit-codes", "schemas"];

/// The variables that this program reads, each with what it does.
const VARIABLES: [(&str, &str); 14] = [
    ("DROMIA_HOME", "the home, unless --home names one [default: ~/.dromia]"),
    ("DROMIA_LISTEN", "the TCP address of `dromia up`, unless --listen names one"),
    ("DROMIA_LOG", "what `dromia up` logs, such as info or dromia_engine=debug [default: warn]"),
    ("HOME", "the directory that ~ means"),
    ("NO_COLOR", "any value: no colour, unless --color asks for it"),
    ("CLICOLOR_FORCE", "any value but 0: colour also without a terminal"),
    ("CLICOLOR", "0: no colour"),
    ("TERM", "dumb: no colour, and no line is written over"),
    ("ACCESSIBLE", "any value but 0: plain lines, as with --accessible"),
    ("COLUMNS", "the greatest width of a table [default: that of the terminal]"),
    ("LC_ALL, LC_CTYPE, LANG", "without UTF-8: plain lines, as with --accessible; all texts are UTF-8"),
    ("OPENAI_API_KEY", "`dromia init` offers that model if it is set"),
    ("OPENAI_BASE_URL", "the address of that model for `dromia init`"),
    ("OPENAI_MODEL", "the model that `dromia init` uses there"),
];

/// The page about the environment.
pub(super) fn environment_page() -> String {
    let width = VARIABLES.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let mut text = "The environment variables that dromia reads. A flag overrides its variable, and a variable overrides\n\
         dromia.yaml.\n\n".to_owned();
    for (name, meaning) in VARIABLES {
        text.extend([format!("  {name:<width$}  {meaning}\n")]);
    }
    text.push_str(
        "\nEach key of dromia.yaml with one value has a variable, such as DROMIA_LIMITS_DRAIN_MS for\n\
         limits.drain_ms; `dromia config explain KEY` names it. dromia.yaml can refer to any other\n\
         variable as env:NAME, so that the file contains no secret.",
    );
    text
}
