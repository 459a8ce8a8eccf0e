//! Files of the wrong form, each by all that a person is told: the place, the key, what stands there, what belongs there,
//! and what to do next. No word of the library that reads them, and no type of the program.

use std::path::Path;

use super::problem;
use crate::config::{parse_config, positions};

/// What only a programmer of this program or of the library knows.
const FOREIGN: [&str; 15] = [
    "u8",
    "u16",
    "u32",
    "u64",
    "usize",
    "Policy",
    "invalid type",
    "invalid value",
    "unknown field",
    "unknown variant",
    "missing field",
    "struct ",
    "scalar",
    "mapping start",
    "deserial",
];

const WHOLE_32: &str = "must be a whole number from 0 to 4294967295, and is";
const WHOLE_64: &str = "must be a whole number from 0 to 18446744073709551615, and is";
const FROM_ONE_32: &str = "must be a whole number from 1 to 4294967295, and is";
const FROM_ONE_64: &str = "must be a whole number from 1 to 18446744073709551615, and is";
const KEYS: &str = "must be keys with their values, each on a line of its own below it, and is";

/// Says of a key what explains it.
fn more(key: &str) -> String {
    format!("; `dromia config explain {key}` says more")
}

#[test]
fn a_form_mistake_names_its_place_key_and_next_step() {
    for (text, says) in [
        (
            "engine:\n  active_max: many\n",
            format!("dromia.yaml:2:15: engine.active_max: {FROM_ONE_64} \"many\"{}", more("engine.active_max")),
        ),
        (
            "engine:\n  model_calls_max: 5000000000\n",
            format!(
                "dromia.yaml:2:20: engine.model_calls_max: {FROM_ONE_32} 5000000000{}",
                more("engine.model_calls_max")
            ),
        ),
        (
            "tools: { message_hops_max: -1 }\n",
            format!("tools.message_hops_max: {WHOLE_32} -1{}", more("tools.message_hops_max")),
        ),
        (
            "models:\n  a: { kind: openai, model: m, price: { input: cheap, output: 1 } }\n",
            format!("models.a.price.input: {WHOLE_64} \"cheap\"{}", more("models.a.price.input")),
        ),
        (
            "engine:\n  active_max: [1]\n",
            format!("engine.active_max: must be a whole number, and is a list{}", more("engine.active_max")),
        ),
        (
            "egress:\n  https_only: perhaps\n",
            format!("egress.https_only: must be true or false, and is \"perhaps\"{}", more("egress.https_only")),
        ),
        (
            "listen: nowhere\n",
            format!(
                "listen: must be an IP address and a port, such as 127.0.0.1:7700, and is \"nowhere\"{}",
                more("listen")
            ),
        ),
        (
            "default_agent: No Handle\n",
            format!(
                "default_agent: a handle has 1 to 64 of a-z, 0-9, - and _, and begins with a letter or digit{}",
                more("default_agent")
            ),
        ),
        ("models: [a]\n", format!("dromia.yaml:1:9: models: {KEYS} a list{}", more("models"))),
        ("providers:\n  openai: sk-live-0123456789\n", format!("providers.openai: {KEYS} a text")),
        (
            "egress:\n  private_tools: 10.0.0.0/8\n",
            format!(
                "egress.private_tools: must be a list, such as [a, b], and is a text{}",
                more("egress.private_tools")
            ),
        ),
        (
            "tenants:\n  acme: { trust: hostil }\n",
            "tenants.acme.trust: must be one of standard, hostile, and is \"hostil\"; did you mean `hostile`?"
                .to_owned(),
        ),
        (
            "engine:\n  active_max: 1\n  active_max: 2\n",
            "dromia.yaml:3:3: engine.active_max: appears twice; keep one of the two".to_owned(),
        ),
        (
            "engnie:\n  active_max: 1\n",
            "dromia.yaml:1:1: there is no key `engnie`; did you mean `engine`?".to_owned(),
        ),
        (
            "engine:\n  colour: red\n",
            "dromia.yaml:2:3: there is no key `colour` in `engine`; there are active_max, model_calls_max, \
             worker_deadline_ms, output_tokens_max, loop_same, prompts"
                .to_owned(),
        ),
        (
            "channels:\n  w: { kind: webhook, url: 'http://h/', secret: 'env:S' }\n",
            format!("channels.w: needs `agent`{}", more("channels.w.agent")),
        ),
        ("---\nversion: 1\n---\nversion: 1\n", "a second document begins here".to_owned()),
    ] {
        let told = problem(text);
        assert!(told.starts_with("dromia.yaml:") && told.contains(&says), "{text}\n{told}\n{says}");
        let foreign = FOREIGN.iter().find(|word| told.contains(**word));
        assert_eq!(foreign, None, "{told}");
        assert!(!told.contains("sk-live") && !told.contains('\n'), "{told}");
    }
}

#[test]
fn a_problem_quotes_no_misplaced_text_that_may_be_secret() {
    let long = "sk-live-0123456789-0123456789-0123456789";
    let as_name = format!("providers: {{ {long}: 5 }}\n");
    let as_key = format!("engine:\n  {long}: 5\n");
    for (text, secret, says) in [
        (
            "providers: { o: { kind: openai, key:sk-live-abc } }\n",
            "sk-live",
            "a key of 15 characters is unknown in `providers.o`; add a space after `key:`",
        ),
        (as_key.as_str(), "sk-live", "a key of 40 characters is unknown in `engine`; there are active_max"),
        (as_name.as_str(), "sk-live", "providers.(a key of 40 characters): must be keys with their values"),
        (
            "channels:\n  w:\n    kind: webhook\n    agent: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n",
            "whsec",
            "a handle has 1 to 64 of a-z, 0-9, - and _, and begins with a letter or digit",
        ),
        ("default_agent: Hunter2\n", "Hunter2", "default_agent: a handle has 1 to 64"),
        ("providers: { o: 8472918374 }\n", "8472918374", "below it, and is a number"),
        ("egress:\n  private_tools: 8472918374\n", "8472918374", "such as [a, b], and is a number"),
        ("egress:\n  private_tools: -0.5\n", "0.5", "such as [a, b], and is a number"),
        ("egress:\n  private_tools: true\n", "is true;", "such as [a, b], and is true or false"),
        (
            "models:\n  sk+live: { kind: openai, model: m }\n  sk+live: { kind: openai, model: m }\n",
            "sk+live",
            "models.(a key of 7 characters): appears twice",
        ),
        (
            "models:\n  sk+live: { kind: openai, model: m, price: { input: cheap, output: 1 } }\n",
            "sk+live",
            "`dromia config explain models.ALIAS.price.input` says more",
        ),
    ] {
        let told = problem(text);
        assert!(told.starts_with("dromia.yaml:") && told.contains(says), "{text}\n{told}\n{says}");
        assert!(!told.contains(secret), "{told}");
    }
    let told = problem("agents:\n  acme/ops: { colour: red }\n");
    assert!(told.contains("there is no key `colour` in `agents.acme/ops`"), "{told}");
}

#[test]
fn a_configuration_nested_too_deeply_is_refused() {
    let nested = |more: &str, levels: usize| {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        format!(
            "{more}tools: {{ external: {{ pay: {{ description: Pays., url: 'http://h/pay', arguments: {{ x: {open}{close} }} }} }} }}\n"
        )
    };
    // Five levels are those of the keys.
    let most = positions::DEPTH_MAX - 5;
    let text = nested("", most);
    assert!(parse_config(Path::new("dromia.yaml"), &text).is_ok());
    assert!(
        positions::key_positions(&text).contains_key("tools.external.pay.url"),
        "what is taken has its places"
    );
    let told = problem(&nested("engnie: 1\n", most));
    assert!(told.contains("did you mean `engine`?"), "{told}");
    let told = problem(&nested("", most + 1));
    assert!(told.contains("nested too deeply") && told.contains("32 levels"), "{told}");
}

/// Each level takes some of the stack, also of a thread that has little of it.
#[test]
fn endless_nesting_is_refused_without_exhausting_the_stack() {
    for (open, close) in [("[", "]"), ("{a: ", "}"), ("{limits: [", "]}"), ("- ", "")] {
        for depth in [40, 3_000] {
            let text = format!("limits: {}{}", open.repeat(depth), close.repeat(depth));
            let text = if open == "- " { open.repeat(depth) } else { text };
            assert!(crate::read_configuration(&text).is_err(), "{open} {depth}");
        }
    }
}

#[test]
fn a_yaml_syntax_error_says_what_to_check() {
    for text in ["listen: [\n", "engine: { active_max: 1\n", "listen: \"127.0.0.1:1\n"] {
        let told = problem(text);
        assert!(told.starts_with("dromia.yaml:"), "{told}");
        assert!(told.contains("brackets") || told.contains("has no partner"), "{told}");
    }
}
