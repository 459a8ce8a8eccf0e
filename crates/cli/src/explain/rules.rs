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

const ASK_OPERATOR: &str = "look with `dromia capability check` and `dromia agent show`; if the agent should \
                            have the right, an operator can grant it";

/// Every rule, by the order of the alphabet.
pub(super) const RULES: &[RulePage] = &[
    new_rule_page(
        "address of this machine",
        "the host has an address of this machine, and no rule opens it",
        "an operator can allow it in dromia.yaml under `egress`",
    ),
    new_rule_page(
        "answer-schema",
        "the client wanted JSON that satisfies a schema, and neither the answer nor two repairs of it did",
        "simplify the schema, explain its fields, or use a stronger model; `dromia run show RUN` shows the answers",
    ),
    new_rule_page(
        "approval",
        "a person approved the call, or its delay ended and no person denied it",
        "`dromia approval show` with the id in the rule shows who answered and when",
    ),
    new_rule_page(
        "approval-denied",
        "a person denied the call or withdrew its approval",
        "`dromia approval list` names the call, and `dromia approval show` the reason; ask that person",
    ),
    new_rule_page(
        "approval-files",
        "the call needs a person, and the server cannot read all files of its workspace that its program \
         could execute",
        "the call's result names the cause: remove from the workspace very deep directories, very many names, \
         files that the server may not read, or files that take more than 30 seconds to read; if the server \
         reads too many workspaces at once, let the agent ask again; if pipes or very large files are the \
         cause, `approvals.files: named` in dromia.yaml helps too",
    ),
    new_rule_page(
        "approval-mismatch",
        "the call no longer matches its approval: the call, the tool, its target, the files that its program \
         could execute, the author or the policy changed",
        "let the agent ask again, then check what it asks for now; an approval covers one action only",
    ),
    new_rule_page(
        "approval-waiting",
        "the identical call already waits, too many calls of the run wait, or its arguments are too long to \
         show",
        "answer the waiting calls: `dromia approval list`; send long arguments in smaller parts",
    ),
    new_rule_page(
        "approvals-full",
        "the tenant has the most calls that may wait for people, so the server did not ask about another one",
        "answer the waiting calls: `dromia approval list`; `dromia approval suggest` proposes rules for \
         frequent ones",
    ),
    new_rule_page(
        "budget",
        "a budget does not cover the call",
        "`dromia budget list` shows which budget is used up; an admin can raise it with `dromia budget set`",
    ),
    new_rule_page(
        "built in",
        "every agent may read the messages of its own session",
        "nothing to do; a policy or a permission that denies `past.read` removes this right",
    ),
    new_rule_page(
        "capability",
        "a capability of the agent covers the call",
        "`dromia capability list` shows the capability and its holder",
    ),
    new_rule_page("default deny", "no grant and no capability of the agent covers the call", ASK_OPERATOR),
    new_rule_page(
        "delay-hops",
        "too many messages between agents and delayed calls led to this call without a person",
        "say in the session what should happen: the next message from a person resets the count",
    ),
    new_rule_page(
        "ended turn",
        "the call is an interim reply that was approved after its turn had ended, so there is no turn that it could speak for",
        "ask the agent again in its session; the next answer can say it",
    ),
    new_rule_page(
        "erased",
        "the arguments of the call were erased before it started",
        "nothing to do; the session continues without the call; ask again if you still want it",
    ),
    new_rule_page(
        "grant",
        "a grant of the agent covers it",
        "`dromia agent show` lists the grants; remove the ones that the agent should not have",
    ),
    new_rule_page(
        "https only",
        "the request would leave without encryption",
        "use an https:// address; http:// works only for servers that the operator names",
    ),
    new_rule_page(
        "irreversible",
        "`irreversible.action` in dromia.yaml decides about calls that cannot be undone",
        "`dromia config explain irreversible.action` describes the setting; a permission or a policy can \
         decide about single tools",
    ),
    new_rule_page(
        "leak scan",
        "the request contains the value of a secret, or the server cannot check this because the vault does \
         not open",
        "remove the value from what the agent reads; `dromia doctor --only vault` says whether the vault opens",
    ),
    new_rule_page(
        "link-local address",
        "the host has an address that is valid on one network only, and no rule opens it",
        "an operator can allow it in dromia.yaml under `egress`",
    ),
    new_rule_page(
        "loop",
        "the run made the identical call `engine.loop_same` times already among its last ones, so the gate \
         denied it",
        "nothing to do; the model knows and may do something else; if an agent must repeat a call so often, \
         raise engine.loop_same in dromia.yaml",
    ),
    new_rule_page(
        "loopback address",
        "the host has a loopback address, and no rule opens it",
        "an operator can allow it in dromia.yaml under `egress`",
    ),
    new_rule_page(
        "malformed url",
        "the address of the request is not valid, or programs read it in different ways",
        "write scheme, host and path in the plain form, such as https://example.com/path",
    ),
    new_rule_page(
        "metadata address",
        "the host has an address at which clouds hand out credentials",
        "use another host; no setting opens this address",
    ),
    new_rule_page(
        "mind",
        "the run belongs to an agent whose mind is `branching`, and its kind of run does not have the tool, or it was its last step",
        "nothing to do; the model knows and gives the work to a worker; `dromia agent set NAME mind=solo` gives turns all tools",
    ),
    new_rule_page(
        "multicast address",
        "the host has a multicast address, which no setting opens",
        "use the address at which other machines reach the server",
    ),
    new_rule_page(
        "no address",
        "the name of the host has no address",
        "check the spelling of the host and the name server of this machine",
    ),
    new_rule_page("no-capability", "the built-in policy judged an action that no grant covers", ASK_OPERATOR),
    new_rule_page(
        "not the named server",
        "the connection is open for one server, and the request is for another",
        "use the address in dromia.yaml, or add the other one there",
    ),
    new_rule_page(
        "own door",
        "the address is an entry point of this server, which no agent may reach over the network",
        "use the agent's own tools to work with this server",
    ),
    new_rule_page(
        "permission",
        "`permissions` in dromia.yaml decide deny, ask or delay for the tool",
        "change the row in dromia.yaml; if several rows match a tool, the strictest applies",
    ),
    new_rule_page(
        "plan-frozen",
        "the agent declared a plan after the turn had read untrusted content",
        "nothing to do; a plan must come before untrusted content; the next input starts a new turn with a \
         new plan",
    ),
    new_rule_page(
        "policy-bound",
        "the call is too large for the policy: it has too many bytes or values, or a path is too long",
        "ask for less in one call; `dromia docs policy` lists the bounds",
    ),
    new_rule_page(
        "policy-broken",
        "a policy of the home failed for this question, and a failed policy denies",
        "the reason and the server's log name file and place; correct the policy and run `dromia policy test`",
    ),
    new_rule_page(
        "policy-silent",
        "no rule of the built-in policy allows the action",
        "no setting allows it; ask for an action that the built-in policy knows",
    ),
    new_rule_page("port", "port 0 is not a valid port", "write the port of the server, or leave it out"),
    new_rule_page(
        "private address",
        "the host has a private address, and no rule opens it",
        "an operator can allow it in dromia.yaml under `egress`",
    ),
    new_rule_page(
        "privileged",
        "the tool is privileged, and the operator has not allowed it for this agent",
        "an operator can set agents.HANDLE.tools.TOOL.privileged: true in dromia.yaml",
    ),
    new_rule_page(
        "public address",
        "the connection is for addresses that the operator opened, and the host has a public one",
        "use a host that dromia.yaml lists under `egress`, or ask the operator to add this one",
    ),
    new_rule_page(
        "redirect",
        "the server redirects in a way that dromia does not follow: to a target without encryption, or with a \
         body to another host",
        "use the target address directly, if the agent may reach it",
    ),
    new_rule_page(
        "reserved address",
        "the host has a reserved address, which no setting opens",
        "use the address at which other machines reach the server",
    ),
    new_rule_page(
        "scheme",
        "the address must begin with http:// or https://",
        "write the address with one of these schemes",
    ),
    new_rule_page(
        "second-opinion",
        "a second model, which the operator asks about calls that cannot be undone, did not agree or could \
         not be asked",
        "`dromia policy explain` shows its answer; `irreversible.second_opinion` in dromia.yaml names the \
         model",
    ),
    new_rule_page(
        "secret",
        "the request cannot use the secret: it does not exist, the agent has no grant, or it belongs to \
         another host or another place",
        "`dromia secret list` shows the server and the place in a request for each secret",
    ),
    new_rule_page(
        "tunnel address",
        "the host has an address that embeds another one, which no setting opens",
        "use the address at which other machines reach the server",
    ),
    new_rule_page(
        "unknown-action",
        "the policy does not know this kind of action",
        "use a server and a policy of the same version",
    ),
    new_rule_page(
        "unknown-outcome",
        "the same call may have happened before, and the server does not know whether it did",
        "check at the target whether it happened, and tell the agent in the session",
    ),
    new_rule_page(
        "unplanned",
        "the turn has read untrusted content, and the call has an outside effect that its plan does not \
         contain, or not this often",
        "compare the call with the plan in `dromia run why`, then approve or deny it; a permission that \
         allows the tool skips this check, as `dromia docs policy` describes",
    ),
    new_rule_page(
        "unplanned-content",
        "the turn has read private content, and the call would send text that its plan does not name as a \
         carrier",
        "read the text of the call, then approve or deny it; or let the next plan name what the tool carries",
    ),
    new_rule_page(
        "unsaid-object",
        "the turn has read untrusted content, and an argument that decides what happens was neither planned \
         nor typed: an object, an amount, a key, a program, or an argument without a role in the manifest",
        "type the value in the session, let the next plan declare it, or approve the call; a permission that \
         allows the tool skips this check",
    ),
    new_rule_page(
        "unsaid-text",
        "the turn has read untrusted content, and the call names no receiver although it could, and sends \
         text that was not planned",
        "read the text of the call, then approve or deny it; or let the next plan contain the text",
    ),
    new_rule_page(
        "unspecified address",
        "the host has the unspecified address 0.0.0.0 or ::",
        "use the address at which other machines reach the server",
    ),
    new_rule_page(
        "userinfo",
        "the address has a user name or an @ before its path, which hides the real host",
        "write the address without it; name a secret for a header instead",
    ),
    new_rule_page(
        "within",
        "the call is outside the capability of the task, which may do less than its agent",
        "`dromia capability list` shows the limits of the task; start it with more rights",
    ),
    new_rule_page(
        "within-capability",
        "the built-in policy allows what a grant covers",
        "nothing to do; a policy in policies/ of the home can deny it",
    ),
    new_rule_page(
        "zone id",
        "the address names a network interface of this machine",
        "write the address without the percent sign and the part after it",
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
                && !text.starts_with("it ")
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
        assert!(unexplained.is_empty(), "RULES has no text for {unexplained:?}");
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
