//! Flags of tools: what is said of one agent goes before what is said of all, and what cannot be meant is refused with its
//! place.

use dromia_contracts::tool_policy::ToolTerms;

use super::*;
use crate::config::Named;

fn dev() -> Named {
    ("default".parse().expect("a handle"), "dev".parse().expect("a handle"))
}

#[test]
fn tool_settings_of_one_agent_override_those_of_all() {
    let text = "tools: { exec: { mem_limit: 512MiB, time_limit: 30s }, net: [docs.rs], privileged: [exec] }\nagents:\n  dev: { tools: { exec: { mem_limit: 2GiB }, net: ['*.example.com'], privileged: [exec] } }\n  acme/dev: { tools: { exec: { cpu_limit: 1m } } }\n";
    let said = loaded(text).resolve_all(&EnvironmentVariables::default()).expect("it is right").calls.said;
    let all = ToolTerms {
        privileged: true,
        memory_bytes: Some(512 << 20),
        wall_ms: Some(30_000),
        ..ToolTerms::default()
    };
    assert_eq!(said.terms_for_tool("exec", None), all);
    assert_eq!(said.terms_for_tool("file.read", None), ToolTerms::default());
    let own = said.terms_for_tool("exec", Some(&dev()));
    assert_eq!(own, ToolTerms { memory_bytes: Some(2 << 30), ..all.clone() });
    let strangers = ("acme".parse().expect("a handle"), "dev".parse().expect("a handle"));
    assert_eq!(said.terms_for_tool("exec", Some(&strangers)), ToolTerms { cpu_ms: Some(60_000), ..all });
    assert_eq!(said.added_grants(None), ["net:docs.rs"]);
    assert_eq!(said.added_grants(Some(&dev())), ["net:docs.rs", "net:*.example.com", "privileged:exec"]);
    assert_eq!(said.added_grants(Some(&strangers)), ["net:docs.rs"]);
}

#[test]
fn an_invalid_tool_setting_is_refused_with_line_and_column() {
    for (text, says) in [
        (
            "tools:\n  exec: { mem_limit: 512MB }\n",
            "dromia.yaml:2:22: tools.exec.mem_limit: \"512MB\" is not a size; write a whole number and B, KiB, MiB, GiB, TiB",
        ),
        (
            "tools:\n  exec: { time_limit: 11m }\n",
            "dromia.yaml:2:23: tools.exec.time_limit: must be from 100ms to 10m",
        ),
        (
            "tools:\n  exec: { cpu_limit: 5h }\n",
            "dromia.yaml:2:22: tools.exec.cpu_limit: must be from 100ms to 4h",
        ),
        ("tools: { exec: { sandbox: base } }\n", "tools.exec.sandbox: is weaker than sandbox.minimum"),
        (
            "tools: { net: [docs.rs, 'http://x/'] }\n",
            "tools.net.1: the grant \"net:http://x/\" cannot be read",
        ),
        (
            "agents: { dev: { tools: { privileged: [exec] } } }\n",
            "agents.dev.tools.privileged.0: exec is not privileged; list it under tools.privileged too",
        ),
        (
            "tools: { privileged: [exce] }\n",
            "tools.privileged.0: there is no tool \"exce\"; did you mean `exec`?",
        ),
        ("tools: { privileged: [exec, exec] }\n", "tools.privileged.1: exec is listed twice"),
        ("agents: { Dev: {} }\n", "agents.Dev: write an agent's handle"),
        ("agents: { dev: {}, default/dev: {} }\n", "appears twice"),
    ] {
        let told = refused(text);
        assert!(told.contains(says), "{text}\n{told}");
    }
}

#[test]
fn a_misspelt_tool_or_flag_gets_a_suggestion() {
    for (text, near) in [
        ("tools: { exce: { mem_limit: 1GiB } }\n", "did you mean `exec`?"),
        ("tools: { exec: { mem_limt: 1GiB } }\n", "did you mean `mem_limit`?"),
        ("agents: { dev: { tools: { privilegd: [exec] } } }\n", "did you mean `privileged`?"),
        ("agents: { dev: { tool: {} } }\n", "did you mean `tools`?"),
    ] {
        let told = parse_config(Path::new("dromia.yaml"), text).expect_err(text).to_string();
        assert!(told.contains(near), "{text}\n{told}");
    }
}

#[test]
fn a_flag_of_programs_is_set_from_the_environment() {
    let environment = EnvironmentVariables::from([("DROMIA_TOOLS_EXEC_MEM_LIMIT", "64MiB")]);
    let loaded = parse_layered(Path::new("dromia.yaml"), "", &environment, &[]).expect("the form is right");
    let said = loaded.resolve_all(&environment).expect("it is right").calls.said;
    assert_eq!(said.terms_for_tool("shell.execute", None).memory_bytes, Some(64 << 20));
    let environment = EnvironmentVariables::from([("DROMIA_TOOLS_EXEC_MEM_LIMIT", "lots")]);
    let loaded = parse_layered(Path::new("dromia.yaml"), "", &environment, &[]).expect("the form is right");
    let told = loaded.resolve_all(&environment).expect_err("it is no size").to_string();
    assert!(
        told.starts_with("DROMIA_TOOLS_EXEC_MEM_LIMIT: tools.exec.mem_limit: \"lots\" is not a size"),
        "{told}"
    );
}

#[test]
fn permissions_are_added_to_an_agents_grants() {
    let text = "permissions: { deny: [exec], ask: ['file.*'] }\nagents: { dev: { permissions: { allow: [time.now], ask: [exec], deny: [http.request] } } }\n";
    let said = loaded(text).resolve_all(&EnvironmentVariables::default()).expect("it is right").calls.said;
    assert_eq!(said.added_grants(None), ["ask:file.*", "deny:exec"]);
    let own = ["ask:file.*", "deny:exec", "allow:time.now", "time.now", "ask:exec", "deny:http.request"];
    assert_eq!(said.added_grants(Some(&dev())), own);
    let later = "permissions: { delay: [exec] }\nagents: { dev: { permissions: { delay: ['file.*'] } } }\n";
    let said = loaded(later).resolve_all(&EnvironmentVariables::default()).expect("it is right").calls.said;
    assert_eq!(said.added_grants(Some(&dev())), ["delay:exec", "delay:file.*"]);
}

#[test]
fn permissions_must_name_existing_tools_only_once() {
    for (text, said) in [
        ("permissions: { deny: [exce] }", "permissions.deny.0: the grant \"exce\" covers no tool"),
        ("permissions: { ask: [model] }", "permissions.ask.0: \"model\" is not a tool"),
        ("permissions: { ask: [exec], deny: [exec] }", "permissions.deny.0: exec appears twice"),
        ("permissions: { delay: [exec], ask: [exec] }", "permissions.ask.0: exec appears twice"),
        ("agents: { dev: { permissions: { allow: ['*'] } } }", "agents.dev.permissions.allow.0: the grant"),
    ] {
        let problems =
            loaded(text).resolve_all(&EnvironmentVariables::default()).expect_err(text).to_string();
        assert!(problems.contains(said), "{problems}");
    }
}

#[test]
fn a_cooling_time_has_a_least_and_a_greatest_value() {
    for (ms, is_right) in [("0", false), ("1", true), ("2592000000", true), ("2592000001", false)] {
        let told = loaded(&format!("irreversible: {{ cooling_ms: {ms} }}"))
            .resolve_all(&EnvironmentVariables::default());
        match told {
            Ok(_) => assert!(is_right, "{ms}"),
            Err(problems) => {
                let problems = problems.to_string();
                assert!(
                    !is_right && problems.contains("irreversible.cooling_ms: must be from 1"),
                    "{problems}"
                );
            }
        }
    }
}

#[test]
fn a_second_opinion_needs_bounded_counts_and_an_existing_model() {
    for (keys, said) in [
        ("model: scripted", ""),
        ("model: scripted, samples: 1", ""),
        ("model: scripted, samples: 5, agree: 3", ""),
        ("model: scripted, samples: 0", "irreversible.second_opinion.samples: must be from 1 to 5"),
        ("model: scripted, samples: 6", "irreversible.second_opinion.samples: must be from 1 to 5"),
        (
            "model: scripted, samples: 4, agree: 2",
            "irreversible.second_opinion.agree: must be more than half",
        ),
        (
            "model: scripted, samples: 2, agree: 3",
            "irreversible.second_opinion.agree: must be more than half",
        ),
        ("model: scriptet", "irreversible.second_opinion.model: there is no model `scriptet`"),
        ("samples: 1", "irreversible.second_opinion: has no `model`"),
        ("objection: abort", "irreversible.second_opinion: has no `model`"),
    ] {
        let told = loaded(&format!("irreversible: {{ second_opinion: {{ {keys} }} }}"));
        match told.resolve_all(&EnvironmentVariables::default()) {
            Ok(resolved) => {
                assert_eq!(said, "", "{keys}");
                let second = resolved.engine.second_opinion.expect("a model is named");
                assert!(second.agree > second.samples / 2 && second.agree <= second.samples, "{keys}");
            }
            Err(problems) => {
                let problems = problems.to_string();
                assert!(!said.is_empty() && problems.contains(said), "{keys}: {problems}");
            }
        }
    }
}

/// A file with tools of these names.
fn many_external<'a>(names: impl IntoIterator<Item = &'a str>, keys: &str) -> String {
    let tool = |name| format!("    {name}: {{ description: Pays., url: 'https://h/pay'{keys} }}\n");
    format!("tools:\n  external:\n{}", names.into_iter().map(tool).collect::<String>())
}

#[test]
fn hostile_names_and_sizes_of_tools_are_refused_with_their_place() {
    let long = format!("bank.{}", "x".repeat(124));
    for (name, says) in [
        (long.as_str(), "the name of an external tool has a family and a word"),
        ("\"bank.pa\\ny\"", "the name of an external tool has a family and a word"),
        ("\"bank.p\\e[31may\"", "the name of an external tool has a family and a word"),
        ("bank.раy", "the name of an external tool has a family and a word"),
        ("file.read", "file begins the names of built-in tools"),
        ("file_read", "the name of an external tool has a family and a word"),
        ("file.read_", "the name of an external tool has a family and a word"),
        ("exec", "the name of an external tool has a family and a word"),
        ("message.send", "message begins the names of built-in tools"),
        ("past.read", "past begins the names of built-in tools"),
        ("plan.declare", "plan begins the names of built-in tools"),
        ("time__now.x", "the name of an external tool has a family and a word"),
    ] {
        let told = refused(&external(name, ""));
        assert!(told.contains("tools.external") && told.contains(says), "{name}\n{told}");
        assert!(!told.contains(char::is_control), "{told:?}");
    }
    let told = refused(&many_external(["bank.pay_all", "bank.pay.all"], ""));
    assert!(told.contains("tools.external.bank.pay_all: differs from bank.pay.all only by"), "{told}");
    let told = problem(&many_external(["bank.pay", "bank.pay"], ""));
    assert!(told.contains("bank.pay") && told.contains("appears twice"), "{told}");
    let names: Vec<_> = (0..=1000).map(|number| format!("bank.pay{number}")).collect();
    let of = |count: usize, keys: &str| many_external(names.iter().take(count).map(String::as_str), keys);
    assert!(loaded(&of(1000, "")).resolve_all(&EnvironmentVariables::default()).is_ok());
    let told = refused(&of(1001, ""));
    assert!(told.contains("tools.external: has 1001 tools; at most 1000 are allowed"), "{told}");
    let large = format!(", arguments: {{ title: '{}' }}", "x".repeat(16_000));
    let told = refused(&of(270, &large));
    assert!(told.contains("bytes of descriptions and schemas; at most 4194304 are allowed"), "{told}");
    let told =
        refused(&external("bank.pay", &format!(", arguments: {{ title: '{}' }}", "x".repeat(16 << 10))));
    assert!(told.contains("tools.external.bank.pay.arguments: the schema has"), "{told}");
    let deep = format!(", arguments: {{ x: {}{} }}", "[".repeat(40), "]".repeat(40));
    assert!(problem(&external("bank.pay", &deep)).contains("nested too deeply"));
    let endless = ", arguments: { properties: { a: { $ref: '#/properties/a' } } }";
    let told = refused(&external("bank.pay", endless));
    assert!(
        told.contains("tools.external.bank.pay.arguments: ") && told.contains("leads back to itself"),
        "{told}"
    );
}

/// A file with one tool of the operator's own.
fn external(name: &str, keys: &str) -> String {
    format!("tools:\n  external:\n    {name}: {{ description: Pays., url: 'https://h/pay'{keys} }}\n")
}

#[test]
fn an_external_tool_follows_the_file_and_defaults_to_untrusted() {
    use dromia_contracts::tool::{ArgumentRole, EffectClass, Sensitivity};

    let text = external("bank.pay", "");
    let resolved = loaded(&text).resolve_all(&EnvironmentVariables::default()).expect("it is right");
    let [external_tool] = resolved.calls.external.as_slice() else { panic!("one tool: {resolved:?}") };
    let said = external_tool.tool.descriptor();
    assert_eq!((said.name.as_str(), said.effect), ("bank.pay", EffectClass::Unkeyed));
    assert_eq!(said.result_label.to_string(), "untrusted/agent");
    assert_eq!(said.parameters["additionalProperties"], false);
    assert_eq!(external_tool.limits.redirects_max, 0);
    let keys = ", effect: keyed, arguments: { properties: { to: { type: string } }, required: [to] }, roles: { to: destination }, result_label: trusted/tenant";
    let resolved = loaded(&external("bank.pay", keys))
        .resolve_all(&EnvironmentVariables::default())
        .expect("it is right");
    let said = resolved.calls.external[0].tool.descriptor();
    assert_eq!(said.roles, [("to".to_owned(), ArgumentRole::Destination)]);
    assert_eq!((said.effect, said.result_label.to_string().as_str()), (EffectClass::Keyed, "trusted/tenant"));
    // What a secret opens is somebody's own, unless the operator says otherwise.
    for (keys, sensitivity) in [
        ("", Sensitivity::Low),
        (", sensitivity: high", Sensitivity::High),
        (", secret: bank", Sensitivity::High),
        (", secret: bank, sensitivity: low", Sensitivity::Low),
    ] {
        let resolved = loaded(&external("bank.pay", keys))
            .resolve_all(&EnvironmentVariables::default())
            .expect("it is right");
        assert_eq!(resolved.calls.external[0].tool.descriptor().sensitivity, sensitivity, "{keys}");
    }
}

#[test]
fn an_invalid_external_tool_is_refused_with_its_place() {
    for (name, keys, says) in [
        ("file.send", "", "tools.external.file.send: file begins the names of built-in tools"),
        ("pay", "", "tools.external.pay: the name of an external tool has a family and a word"),
        (
            "bank.pay",
            ", effect: transactional",
            "dromia.yaml:3:67: tools.external.bank.pay.effect: an external tool cannot commit",
        ),
        (
            "bank.pay",
            ", roles: { to: object }",
            "tools.external.bank.pay.roles.to: `properties` has no argument \"to\"",
        ),
        (
            "bank.pay",
            ", arguments: { type: array }",
            "tools.external.bank.pay.arguments: arguments must be an object",
        ),
        (
            "bank.pay",
            ", result_label: good",
            "tools.external.bank.pay.result_label: expected a label such as",
        ),
        (
            "bank.pay",
            ", records: { keys: [], names: [a] }",
            "tools.external.bank.pay.records: name the fields",
        ),
        ("bank.pay", ", placement: bearer", "tools.external.bank.pay.placement: needs `secret`"),
        ("bank.pay", ", secret: 'a b'", "tools.external.bank.pay.secret: a secret's name is"),
        ("bank.pay", ", timeout_ms: 0", "tools.external.bank.pay.timeout_ms: must be from 1 to 600000"),
        ("bank.pay", ", agents: []", "tools.external.bank.pay.agents: names nobody; leave the key out"),
        ("bank.pay", ", tenants: [Acme]", "tools.external.bank.pay.tenants.0: write a tenant's handle"),
        ("bank.pay", ", agents: [a/b/c]", "tools.external.bank.pay.agents.0: write an agent's handle, or"),
        ("bank.pay", ", agents: [clerk, default/clerk]", "tools.external.bank.pay.agents.1: is listed twice"),
    ] {
        let told = refused(&external(name, keys));
        assert!(told.contains(says), "{name}{keys}\n{told}");
    }
    for (url, says) in
        [("ftp://h/", "a URL begins with https://"), ("https://u:p@h/", "must not have a user name")]
    {
        let told = refused(&external("bank.pay", "").replace("https://h/pay", url));
        assert!(told.contains("tools.external.bank.pay.url: ") && told.contains(says), "{told}");
    }
}

#[test]
fn permissions_may_name_external_tools() {
    let text = external("bank.pay", "")
        + "permissions: { ask: [bank.pay] }\nagents: { dev: { permissions: { allow: ['bank.*'] } } }\n";
    let said = loaded(&text).resolve_all(&EnvironmentVariables::default()).expect("it is right").calls.said;
    assert_eq!(said.added_grants(Some(&dev())), ["ask:bank.pay", "allow:bank.*", "bank.*"]);
    let told = refused("permissions: { ask: [bank.pay] }\n");
    assert!(told.contains("permissions.ask.0: the grant \"bank.pay\" covers no tool"), "{told}");
}

#[test]
fn an_allow_rule_names_an_external_tool_and_its_target() {
    let bank = "tools: { external: { bank.pay: { description: Pays., url: 'http://h/pay', arguments: { type: object, properties: { to: { type: string } } }, roles: { to: destination } } } }\n";
    let good = format!("{bank}approvals: {{ allow: ['bank.pay to=DE1'], deny: ['bank.pay'] }}\n");
    let resolved = loaded(&good).resolve_all(&EnvironmentVariables::default()).expect("it is right");
    assert_eq!(resolved.engine.approvals.rules.len(), 2);
    for (rule, says) in [
        ("bank.pay", "approvals.allow.0: a rule that allows bank.pay needs a pattern for to"),
        ("file.write", "approvals.allow.0: a rule that allows file.write needs a pattern for path"),
        ("file_write path=a", "approvals.allow.0: there is no tool \"file_write\""),
        ("exec", "approvals.allow.0: a rule that allows a program needs all its words"),
        ("file.write pth=a only", "approvals.allow.0: file.write has no argument pth"),
        ("bank.pay too=DE1 only", "approvals.allow.0: bank.pay has no argument too"),
        ("file.write only", "approvals.allow.0: every call of file.write has "),
    ] {
        let told = refused(&format!("{bank}approvals: {{ allow: ['{rule}'] }}\n"));
        assert!(told.contains(says), "{rule}\n{told}");
    }
    for rule in ["exec argv=git*", "exec argv=**push**", "exec timeout_s=*", "file.write path:=3"] {
        for answer in ["allow", "deny"] {
            let told = refused(&format!("approvals: {{ {answer}: ['{rule}'] }}\n"));
            let place = format!("approvals.{answer}.0: ");
            assert!(
                told.contains(&place) && told.contains("so the rule would match no call: write"),
                "{told}"
            );
        }
    }
    let told = refused("approvals: { deny: ['file.write pth=a'] }\n");
    assert!(told.contains("approvals.deny.0: file.write has no argument pth"), "{told}");
}
