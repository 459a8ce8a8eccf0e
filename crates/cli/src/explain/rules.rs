//! The rules that the program has by itself and that people are shown: in a refusal, in a journal, in `policy explain`. They are
//! no error codes; a rule says why one thing may not happen.
//!
//! Rules of an operator's own policies are not here. A test reads the sources, so that each rule that is shown has a
//! text.

use super::pages::{ErrorCodePage, new_page};

/// A rule with its text.
pub(super) struct RulePage {
    pub(super) name: &'static str,
    pub(super) page: ErrorCodePage,
}

const fn new_rule_page(name: &'static str, meaning: &'static str, todo: &'static str) -> RulePage {
    RulePage { name, page: new_page(meaning, todo) }
}

/// Finds a rule as it is shown: with the verdict in front (`policy`, `ask`, `delay`), and with what it was about behind it.
pub(super) fn find_rule(typed: &str) -> Option<&'static RulePage> {
    let shown = typed.trim().to_ascii_lowercase().replace('_', "-");
    let bare = ["policy ", "ask ", "delay "].iter().find_map(|verdict| shown.strip_prefix(verdict));
    let bare = bare.unwrap_or(&shown);
    let spelled = |name: &str| name.replace(' ', "-") == bare.replace(' ', "-");
    let exact = RULES.iter().find(|rule| spelled(rule.name));
    // `grant file.read`, `within cap_…`: only the first word is the name.
    let word = bare.split_once(' ').map(|(word, _)| word);
    exact.or_else(|| RULES.iter().find(|rule| Some(rule.name) == word))
}

const ASK_OPERATOR: &str = "look with `dromia capability check` and `dromia agent show`; an operator grants more, if the agent should have it";

/// Every rule, by the order of the alphabet.
pub(super) const RULES: &[RulePage] = &[
    new_rule_page(
        "address of this machine",
        "the host is at an address of this machine, and nobody opened it",
        "an operator allows it in dromia.yaml under `egress`",
    ),
    new_rule_page(
        "approval",
        "a person allowed the call, or time did because nobody refused it",
        "`dromia approval show` with the id in the rule says who answered and when",
    ),
    new_rule_page(
        "approval-denied",
        "a person refused the call, or took its approval back",
        "`dromia approval list` names it, and `dromia approval show` the reason; ask that person",
    ),
    new_rule_page(
        "approval-files",
        "the call needs a person, and the files of its workspace that its program could execute cannot be looked at as a whole",
        "its result says why: take very deep directories, very many names, what the server may not read, or what takes more than \
         30 seconds to read out of the workspace; where too many are looked at just now, let it ask again; where pipes or the sheer size of files are the reason, `approvals.files: named` in dromia.yaml helps too",
    ),
    new_rule_page(
        "approval-mismatch",
        "what was approved is not what would happen now: the call, the tool, where it leads, the files that its program could \
         execute, who asks or what the policy says changed since",
        "let the agent ask again, and look at what it asks for now; an approval is for one action only",
    ),
    new_rule_page(
        "approval-waiting",
        "the very same call waits already, too many calls of the run wait, or its arguments are too long to be shown",
        "answer what waits: `dromia approval list`; arguments are sent in smaller parts",
    ),
    new_rule_page(
        "approvals-full",
        "as many calls of the tenant wait for people as may, so nobody was asked about one more",
        "answer what waits: `dromia approval list`; `dromia approval suggest` proposes rules for what is asked often",
    ),
    new_rule_page(
        "budget",
        "a budget has no room for the call",
        "`dromia budget list` shows what is used up; an admin gives more room with `dromia budget set`",
    ),
    new_rule_page(
        "built in",
        "every agent may read what its own session was told before",
        "nothing: a policy or a permission that denies `past.read` takes it away",
    ),
    new_rule_page(
        "capability",
        "a capability that the agent holds covers the call",
        "`dromia capability list` shows it and whose it is",
    ),
    new_rule_page(
        "default deny",
        "no grant of the agent and no capability that it holds covers it",
        ASK_OPERATOR,
    ),
    new_rule_page(
        "delay-hops",
        "too many messages between agents and calls that were put off led here without a person",
        "say in the session what should happen: the next word from outside begins anew",
    ),
    new_rule_page(
        "erased",
        "the arguments of the call were erased before it began",
        "nothing: the session goes on without it; ask again for what is still wanted",
    ),
    new_rule_page(
        "grant",
        "a grant of the agent covers it",
        "`dromia agent show` lists the grants; take away what is too much",
    ),
    new_rule_page(
        "https only",
        "a request would leave without encryption",
        "use an https:// address; only a server that the operator names may be reached without",
    ),
    new_rule_page(
        "irreversible",
        "`irreversible.action` in dromia.yaml says what becomes of calls that cannot be undone",
        "`dromia config explain irreversible.action` says how it is set; a permission or a policy says more of single tools",
    ),
    new_rule_page(
        "leak scan",
        "it holds the value of a secret, or nobody can look whether it does because the vault is closed",
        "take the value out of what the agent is told; `dromia doctor --only vault` says whether the vault opens",
    ),
    new_rule_page(
        "link-local address",
        "the host is at an address that counts on one network only, and nobody opened it",
        "an operator allows it in dromia.yaml under `egress`",
    ),
    new_rule_page(
        "loop",
        "the run made this very call `engine.loop_same` times already among its last ones, so it is not made once more",
        "nothing: the model was told, and may do something else; where an agent must ask the same so often, raise \
         engine.loop_same in dromia.yaml",
    ),
    new_rule_page(
        "loopback address",
        "the host is at a loopback address, and nobody opened it",
        "an operator allows it in dromia.yaml under `egress`",
    ),
    new_rule_page(
        "malformed url",
        "the address of a request is none, or is written in a way that programs read differently",
        "write scheme, host and path plainly, such as https://example.com/path",
    ),
    new_rule_page(
        "metadata address",
        "the host is at an address where clouds hand out credentials",
        "use another host; nothing opens this address",
    ),
    new_rule_page(
        "multicast address",
        "the host is at an address of a group of machines, which is never opened",
        "use the address at which other machines reach the server",
    ),
    new_rule_page(
        "no address",
        "the name of the host has no address",
        "check how the host is spelled, and the name server of this machine",
    ),
    new_rule_page(
        "no-capability",
        "the built-in policy was asked about something that no grant covers",
        ASK_OPERATOR,
    ),
    new_rule_page(
        "not the named server",
        "a line that the operator opened to one server was to be used for another",
        "use the address that dromia.yaml names, or name the other one there",
    ),
    new_rule_page(
        "own door",
        "the address is a door of this very server, which no agent reaches over the network",
        "use the agent's own tools for what it wants of this server",
    ),
    new_rule_page(
        "permission",
        "`permissions` in dromia.yaml say deny, ask or delay for the tool",
        "change the row in dromia.yaml; of several rows that speak of a tool the strictest counts",
    ),
    new_rule_page(
        "plan-frozen",
        "the agent declared a plan after something came to the turn that nobody here vouches for",
        "nothing: a plan is said before anything is read; the next input begins a new turn with a new plan",
    ),
    new_rule_page(
        "policy-bound",
        "what the call would do is larger than a policy is asked about: too many bytes or values, or a path too long",
        "ask for less in one call; docs/policy.md has the bounds",
    ),
    new_rule_page(
        "policy-broken",
        "a policy of the home could not be evaluated for this question, and what cannot be evaluated is denied",
        "the reason and the server's log name file and place; mend it and run `dromia policy test`",
    ),
    new_rule_page(
        "policy-silent",
        "no rule of the built-in policy allows it",
        "nothing of an operator's own can allow it; ask for something that the built-in policy knows",
    ),
    new_rule_page(
        "port",
        "port 0 is no port, so nothing can be reached there",
        "write the port of the server, or leave it out",
    ),
    new_rule_page(
        "private address",
        "the host is at a private address, and nobody opened it",
        "an operator allows it in dromia.yaml under `egress`",
    ),
    new_rule_page(
        "privileged",
        "the tool is privileged, and the operator has not said that this agent may use it",
        "an operator writes agents.HANDLE.tools.TOOL.privileged: true into dromia.yaml",
    ),
    new_rule_page(
        "public address",
        "the line is for addresses that the operator opened, and the host is at a public one",
        "use a host that dromia.yaml names under `egress`, or have it named there",
    ),
    new_rule_page(
        "redirect",
        "the server sends elsewhere in a way that is not followed: without encryption, or with a body to another host",
        "use the address that it leads to, if the agent may reach that",
    ),
    new_rule_page(
        "reserved address",
        "the host is at an address that is kept for other ends and is never opened",
        "use the address at which other machines reach the server",
    ),
    new_rule_page(
        "scheme",
        "only addresses that begin with http:// or https:// can be reached",
        "write the address with one of them",
    ),
    new_rule_page(
        "second-opinion",
        "a second model, which the operator asks about calls that cannot be undone, did not agree, or nobody could ask it",
        "`dromia policy explain` tells what it said; `irreversible.second_opinion` in dromia.yaml says whom is asked",
    ),
    new_rule_page(
        "secret",
        "a secret cannot be used for the request: it is not there, not granted, for another host or for another place",
        "`dromia secret list` shows for which server and which place of a request each is",
    ),
    new_rule_page(
        "tunnel address",
        "the host is at an address that hides another one and is never opened",
        "use the address at which other machines reach the server",
    ),
    new_rule_page(
        "unknown-action",
        "the policy was asked about a kind of action that it was not written for",
        "use a server and a policy of the same version",
    ),
    new_rule_page(
        "unknown-outcome",
        "the same call may have happened before, and nobody knows whether it did",
        "look at the place itself whether it happened, and say so in the session",
    ),
    new_rule_page(
        "unplanned",
        "after somebody else's text was read, a call would be seen outside that was not planned like this, or not as often",
        "look at what was planned, in `dromia run why`; a person answers it; a permission that allows the tool vouches for it, as docs/policy.md says",
    ),
    new_rule_page(
        "unplanned-content",
        "the turn has read what is somebody's own, and the call would say something that was not planned to carry it",
        "read the text of the call; a person answers it, or the next plan names what the tool carries",
    ),
    new_rule_page(
        "unsaid-object",
        "after somebody else's text was read, nobody planned or typed a thing, an amount, a key, or what a program would run",
        "type it in the session, or let a person answer; a permission that allows the tool vouches for it",
    ),
    new_rule_page(
        "unsaid-text",
        "after somebody else's text was read, a call that could name a receiver names none and says what nobody planned",
        "read the text of the call; a person answers it, or the next plan says the text",
    ),
    new_rule_page(
        "unspecified address",
        "the host is at 0.0.0.0 or ::, which is nobody's address",
        "use the address at which other machines reach the server",
    ),
    new_rule_page(
        "userinfo",
        "the address holds a user name or an @ before its path, which hides where it leads",
        "write the address without; a secret goes into a header by its name",
    ),
    new_rule_page(
        "within",
        "the task may do less than its agent, and this lies outside of it",
        "`dromia capability list` shows within what the task stays; begin it with more",
    ),
    new_rule_page(
        "within-capability",
        "the built-in policy has nothing against what a grant covers",
        "nothing: a policy in policies/ of the home can take it away",
    ),
    new_rule_page(
        "zone id",
        "the address names a network interface of this machine",
        "write the address without the part behind the percent sign",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The crates whose rules are shown.
    const CRATES: [&str; 5] = ["contracts", "engine", "gateway", "guard", "tools"];
    /// How a rule is written where it is used.
    const SIGNS: [&str; 4] = ["rule: \"", "let rule = \"", "Refusing::by(\"", "\"rule\": \""];
    /// How the text before the name of a rule ends where it has a name in the program.
    const DOCUMENTED: &str = "/// The rule ";

    /// The rules that a source names.
    fn named(source: &str) -> BTreeSet<String> {
        let shipped = shipped(source);
        let literal = |rest: &str| rest.split('"').next().unwrap_or_default().to_owned();
        let mut found: BTreeSet<_> =
            SIGNS.iter().flat_map(|sign| shipped.split(*sign).skip(1)).map(literal).collect();
        for rest in shipped.split(DOCUMENTED).skip(1) {
            let mut lines = rest.lines().skip(1).skip_while(|line| line.trim_start().starts_with("///"));
            let constant =
                lines.next().filter(|line| line.contains("const ") && line.contains(": &str = \""));
            found.extend(constant.and_then(|line| line.split('"').nth(1)).map(str::to_owned));
        }
        found
    }

    /// The kinds of addresses that the egress client refuses, each a rule.
    fn addresses(source: &str) -> impl Iterator<Item = String> {
        let is_rule = |text: &&str| {
            text.len() < 30
                && !text.starts_with("it is")
                && (text.ends_with(" address") || text.starts_with("address of"))
        };
        shipped(source).split('"').filter(is_rule).map(str::to_owned)
    }

    fn shipped(source: &str) -> &str {
        source.split("#[cfg(test)]\nmod ").next().unwrap_or_default()
    }

    fn read(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && name != "tests" {
                read(&path, found);
            } else if name == "default.rego"
                || (path.extension().is_some_and(|end| end == "rs") && name != "tests.rs")
            {
                let source = fs::read_to_string(&path).unwrap();
                found.extend(named(&source));
                if path.ends_with("egress/address.rs") {
                    found.extend(addresses(&source));
                }
            }
        }
    }

    #[test]
    fn every_rule_that_the_sources_show_is_explained() {
        let mut found = BTreeSet::new();
        for name in CRATES {
            read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src"), &mut found);
        }
        for known in
            ["unplanned", "policy-broken", "approval-mismatch", "plan-frozen", "approvals-full", "own door"]
        {
            assert!(found.contains(known), "the sources are read wrongly: {known} is not among {found:?}");
        }
        let unexplained: Vec<_> = found.iter().filter(|name| find_rule(name).is_none()).collect();
        assert!(unexplained.is_empty(), "nobody explains {unexplained:?}");
    }

    #[test]
    fn an_unexplained_rule_is_caught() {
        let source = "/// The rule that denies.\n/// More.\npub(crate) const X: &str = \"mystery\";\n\
                      let a = Refused { rule: \"riddle\", reason: \"\" };\n#[cfg(test)]\nmod tests { rule: \"test\" }";
        let found = named(source);
        assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), ["mystery", "riddle"]);
        assert!(found.iter().all(|name| find_rule(name).is_none()));
    }

    #[test]
    fn a_rule_is_found_as_it_is_shown() {
        for (typed, name) in [
            ("unplanned", "unplanned"),
            ("ask unplanned", "unplanned"),
            ("policy policy-broken", "policy-broken"),
            ("delay irreversible", "irreversible"),
            ("Default-Deny", "default deny"),
            ("default_deny", "default deny"),
            ("leak scan", "leak scan"),
            ("grant file.read", "grant"),
            ("approval apr_1 of ask unplanned", "approval"),
            ("within cap_1 block 0", "within"),
        ] {
            assert_eq!(find_rule(typed).map(|rule| rule.name), Some(name), "{typed}");
        }
        assert!(find_rule("moon").is_none());
    }

    #[test]
    fn rules_are_sorted_and_each_text_is_one_sentence() {
        assert!(RULES.is_sorted_by(|one, next| one.name < next.name));
        for rule in RULES {
            for text in [rule.page.meaning, rule.page.todo] {
                let is_good =
                    text.len() > 20 && !text.ends_with('.') && text.trim() == text && !text.contains('\n');
                assert!(is_good, "{}: {text:?}", rule.name);
            }
        }
    }
}
