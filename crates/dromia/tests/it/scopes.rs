//! Who issues scopes and who takes over runs, read off the sources: the gateway's authentication, the engine's
//! recovery and `init`; and one function takes over a run, at a start as after a lost store. Input comes to the engine by one
//! function too, which counts it.
//!
//! What is read is shipped code: rooms that are never shipped are left out, and so is whatever stands behind
//! `#[cfg(test)]` at a file's end. The planted faults are sources as text (`..._is_caught`).

use std::path::{Path, PathBuf};

/// A way of writing that only some places may use.
struct Rule {
    /// Any of these means it.
    signs: &'static [&'static str],
    /// Where it may stand, and how often.
    places: &'static [(&'static str, usize)],
    /// Why.
    because: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        signs: &["Authority::claim("],
        // The second is a module of tests.
        places: &[("dromia/src/home_services.rs", 1), ("contracts/src/approval/tests.rs", 1)],
        because: "the authority is claimed once, by the binary",
    },
    Rule {
        signs: &[
            "authority.issue_scope(",
            "authority().issue_scope(",
            "Scope {tenant",
            "Authority::issue_scope(",
        ],
        places: &[
            ("contracts/src/scope.rs", 2),
            ("dromia/src/init.rs", 1),
            ("dromia/src/init/proof.rs", 1),
            ("dromia/src/vault_keys.rs", 1),
            ("dromia/src/tooltest.rs", 1),
            ("engine/src/core.rs", 1),
            ("gateway/src/authentication.rs", 5),
            ("gateway/src/outbox/pump.rs", 1),
        ],
        because: "authentication, recovery, the outbox, init, the keys of providers and the bench of `tool test` issue scopes, and nobody else",
    },
    Rule {
        signs: &[
            "authority.issue_operator(",
            "authority().issue_operator(",
            "OperatorScope(())",
            "Authority::issue_operator(",
        ],
        places: &[
            ("contracts/src/scope.rs", 2),
            ("dromia/src/init.rs", 1),
            ("dromia/src/init/proof.rs", 1),
            ("dromia/src/live_config/follow.rs", 1),
            ("dromia/src/vault_keys.rs", 1),
            ("dromia/src/tooltest.rs", 1),
            ("dromia/src/home_services.rs", 3),
            ("dromia/src/up.rs", 1),
            ("engine/src/core.rs", 1),
            ("gateway/src/core.rs", 1),
            ("gateway/src/outbox.rs", 1),
        ],
        because: "the right to ask about the whole node comes from the same places; the terms of tools, the walls and the roots of workspaces ask for handles",
    },
    Rule {
        signs: &["Mutation::RunTakeover(takeover)"],
        // The store applies a takeover; the engine writes one.
        places: &[("engine/src/recover.rs", 1), ("store/src/apply.rs", 1)],
        because: "one function takes over a run",
    },
    Rule {
        // The one place shows both signs.
        signs: &["= RunTakeover {", "RunTakeover {run"],
        places: &[("engine/src/recover.rs", 2)],
        because: "one function takes over a run",
    },
    Rule {
        signs: &["runs.submit_input("],
        places: &[("gateway/src/ingress.rs", 1)],
        because: "what an actor brings is counted against his rate first",
    },
];

/// Rooms that no release holds.
const NOT_SHIPPED: [&str; 2] = ["testkit", "bench"];

/// Brings a source into one line without comments, tests and needless space, so that a line break hides nothing.
fn plain(source: &str) -> String {
    let shipped = source.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = shipped.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    let mut text = lines.collect::<Vec<_>>().join(" ");
    for (long, short) in [(" .", "."), ("( ", "("), ("{ ", "{"), ("  ", " ")] {
        while text.contains(long) {
            text = text.replace(long, short);
        }
    }
    text
}

/// Checks sources against every rule; says which breaks which.
fn offences(sources: &[(String, String)]) -> Vec<String> {
    let mut offences = Vec::new();
    for rule in RULES {
        for (place, source) in sources {
            let text = plain(source);
            let found: usize = rule.signs.iter().map(|sign| text.matches(sign).count()).sum();
            let allowed =
                rule.places.iter().find(|(allowed, _)| allowed == place).map_or(0, |(_, count)| *count);
            if found > allowed {
                offences.push(format!("{place}: {found} of {:?}, and {}", rule.signs, rule.because));
            }
        }
    }
    offences
}

fn read_into(sources: &mut Vec<(String, String)>, crates: &Path, directory: PathBuf) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read_into(sources, crates, path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let place = path.strip_prefix(crates).expect("it is below").display().to_string();
            sources.push((place, std::fs::read_to_string(&path).expect("a source is UTF-8")));
        }
    }
}

fn shipped() -> Vec<(String, String)> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crates");
    let mut sources = Vec::new();
    for room in std::fs::read_dir(crates).expect("the crates") {
        let room = room.expect("an entry").path();
        let name = room.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        if !NOT_SHIPPED.contains(&name.as_str()) && room.join("src").is_dir() {
            read_into(&mut sources, crates, room.join("src"));
        }
    }
    sources
}

#[test]
fn scopes_and_takeovers_occur_only_in_the_allowed_places() {
    let sources = shipped();
    assert_eq!(offences(&sources), Vec::<String>::new());
    // Each place that is allowed something has it, so the signs still fit how the code is written.
    for rule in RULES {
        for (place, count) in rule.places {
            let (_, source) = sources.iter().find(|(found, _)| found == place).expect("the place is there");
            let text = plain(source);
            let found: usize = rule.signs.iter().map(|sign| text.matches(sign).count()).sum();
            assert_eq!(found, *count, "{place}: {:?}", rule.signs);
        }
    }
}

fn caught(place: &str, source: &str) -> Vec<String> {
    offences(&[(place.to_owned(), source.to_owned())])
}

#[test]
fn a_scope_issued_elsewhere_is_caught() {
    for source in [
        "fn f(a: &Authority) { let scope = a_core.authority().issue_scope(tenant, actor); }",
        "fn f() {\n    let scope = self\n        .ports\n        .authority\n        .issue_scope(tenant, actor);\n}",
        "fn f() { let scope = Authority::claim().issue_scope(tenant, actor); }",
        "fn f() { let all = ports.authority.issue_operator(); }",
    ] {
        assert_eq!(caught("tools/src/toolbox.rs", source).len(), 1, "{source}");
    }
    let place = "gateway/src/authentication.rs";
    let counts = RULES.iter().flat_map(|rule| rule.places).filter(|(found, _)| *found == place);
    let more = counts.map(|(_, count)| count + 1).max().expect("it is allowed some");
    let often = format!("fn f() {{ {} }}", "core.authority().issue_scope(a, b); ".repeat(more));
    assert_eq!(caught(place, &often).len(), 1, "one more than there are");
    let said = "// core.authority().issue_scope(a, b)\nfn f() {}\n#[cfg(test)]\nmod tests { fn g() { Authority::claim() } }";
    assert!(caught("tools/src/toolbox.rs", said).is_empty(), "a comment or a test issues nothing");
}

#[test]
fn an_input_that_is_not_counted_is_caught() {
    let past = "fn send() {\n    let submitted = core\n        .ports\n        .runs\n        .submit_input(scope, input);\n}";
    assert_eq!(caught("gateway/src/routes/event.rs", past).len(), 1);
    assert_eq!(caught("gateway/src/ingress.rs", &past.repeat(2)).len(), 1);
}

#[test]
fn a_second_takeover_is_caught() {
    let second = "fn restart() {\n    let takeover = RunTakeover { run, from_epoch, holder, at };\n    \
                  batch.with(Mutation::RunTakeover(takeover))\n}";
    assert_eq!(caught("engine/src/janitor.rs", second).len(), 2);
    let twice = format!("{second}\n{second}");
    assert_eq!(caught("engine/src/recover.rs", &twice).len(), 2);
}
