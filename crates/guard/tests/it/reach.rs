//! Grants for hosts: what they cover, how they are spelled, and that the gate asks for them.

use dromia_contracts::digest::Digest;
use dromia_contracts::egress::{EgressTarget, HttpMethod};
use dromia_contracts::gate::{Gate as _, GateAction, GateVerdict, Principal};
use dromia_contracts::id::{AgentId, CallId, TenantId};
use dromia_contracts::label::Label;
use dromia_contracts::plan::PlanContext;
use dromia_contracts::scope::{Actor, ScopeAuthority};
use dromia_contracts::tool::{EffectClass, PreparedCall};
use dromia_guard::egress::target::{RequestTarget, URL_BYTES_MAX};
use dromia_guard::{Grant, GrantGate, PolicyEngine, PrivateAllowance, PrivateError};
use dromia_testkit::answer_of;
use dromia_testkit::tools::bare_catalogue;
use proptest::prelude::*;

fn covers(grant: &str, method: HttpMethod, url: &str) -> bool {
    let target = RequestTarget::parse_url(url).expect("a URL");
    match Grant::parse(grant).unwrap_or_else(|error| panic!("{error}")) {
        Grant::Net(reach) => reach.covers_request(method, &target),
        other => panic!("{grant} is {other:?}"),
    }
}

#[test]
fn a_grant_covers_its_host_its_methods_and_its_port() {
    for (grant, method, url, covered) in [
        ("net:example.com", HttpMethod::Get, "https://example.com/a", true),
        ("net:example.com", HttpMethod::Post, "http://example.com/a", true),
        ("net:example.com", HttpMethod::Get, "https://EXAMPLE.com./", true),
        ("net:example.com", HttpMethod::Get, "https://example.com:8443/", false),
        ("net:example.com:8443", HttpMethod::Get, "https://example.com:8443/", true),
        ("net:example.com:8443", HttpMethod::Get, "https://example.com/", false),
        ("net:example.com", HttpMethod::Get, "https://www.example.com/", false),
        ("net:example.com", HttpMethod::Get, "https://notexample.com/", false),
        ("net:example.com", HttpMethod::Get, "https://example.com.evil.org/", false),
        ("net:*.example.com", HttpMethod::Get, "https://www.example.com/", true),
        ("net:*.example.com", HttpMethod::Get, "https://a.b.example.com/", true),
        ("net:*.example.com", HttpMethod::Get, "https://example.com/", false),
        ("net:*.example.com", HttpMethod::Get, "https://notexample.com/", false),
        ("net:*", HttpMethod::Delete, "https://anything.example/", true),
        ("net:*", HttpMethod::Get, "https://anything.example:444/", false),
        ("net.read:example.com", HttpMethod::Get, "https://example.com/", true),
        ("net.read:example.com", HttpMethod::Head, "https://example.com/", true),
        ("net.read:example.com", HttpMethod::Post, "https://example.com/", false),
        ("net.post:example.com", HttpMethod::Post, "https://example.com/", true),
        ("net.post:example.com", HttpMethod::Put, "https://example.com/", false),
        ("net:10.0.0.1", HttpMethod::Get, "http://0xa.1/", true),
        ("net:[2001:db8::1]:81", HttpMethod::Get, "http://[2001:db8:0::1]:81/", true),
        ("net:*.0.0.1", HttpMethod::Get, "http://10.0.0.1/", false),
    ] {
        let readable = Grant::parse(grant).is_ok();
        assert_eq!(readable && covers(grant, method, url), covered, "{grant} {method} {url}");
    }
}

#[test]
fn a_host_outside_canonical_form_is_no_grant() {
    for wrong in [
        "net:",
        "net:EXAMPLE.com",
        "net:example.com.",
        "net:example.com:0",
        "net:example.com:080",
        "net:example.com:x",
        "net:https://example.com",
        "net:example.com/path",
        "net:user@example.com",
        "net:exa mple.com",
        "net:**",
        "net:*.",
        "net:*.*",
        "net:a.*",
        "net:*example.com",
        "net:0x7f.1",
        "net:127.1",
        "net:2130706433",
        "net:::1",
        "net:[0:0::1]",
        "net:[::1",
        "net:bücher.example",
        "net.trace:example.com",
        "net.GET:example.com",
        "net.:example.com",
        "net:.example.com",
        "net:*.10",
    ] {
        assert!(Grant::parse(wrong).is_err(), "{wrong} was read as a grant");
    }
    for right in [
        "net:*",
        "net.read:*",
        "net:a_b.example",
        "net.delete:*.example.com:8443",
        "net:[::1]:80",
        "net:wiki",
    ] {
        let grant = Grant::parse(right).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(grant.to_string(), right);
    }
}

#[test]
fn the_gate_asks_for_the_tool_and_for_the_host() {
    let author = Actor::new("cli:ada");
    let scope = ScopeAuthority::claim()
        .issue_scope(TenantId::from_bytes([1; 16]), author.clone())
        .narrowed_to(AgentId::from_bytes([2; 16]));
    let policies = PolicyEngine::built_in().expect("the shipped policy compiles");
    let gate = GrantGate::new(policies);
    for (grants, url, rule) in [
        ("http.request net:h", "http://h/", Ok("grant http.request and net:h")),
        ("http.* net:* net:h", "http://h/", Ok("grant http.* and net:h")),
        ("http.request", "http://h/", Err("default deny")),
        ("net:h", "http://h/", Err("default deny")),
        ("http.request net:h", "http://i/", Err("default deny")),
        ("http.request net:*", "http://u@h/", Err("userinfo")),
        ("http.request net:*", "file:///etc/passwd", Err("scheme")),
    ] {
        let grants: Vec<_> = grants.split(' ').map(str::to_owned).collect();
        assert_eq!(gate.check_grants(&grants, &bare_catalogue(["http.request"])), Ok(()));
        let call = PreparedCall {
            id: CallId { step: 1, index: 0 },
            tool: "http.request".to_owned(),
            effect: EffectClass::Pure,
            arguments: "{}".to_owned(),
            action: Digest::from_bytes([4; 32]),
            reaches: Some(EgressTarget { method: HttpMethod::Get, url: url.to_owned(), secrets: Vec::new() }),
            network: None,
            contents: None,
        };
        let principal = Principal {
            scope: &scope,
            author: &author,
            grants: &grants,
            context: Label::PUBLIC_FACT,
            endorsed: &[],
            plan: PlanContext::OPEN,
        };
        match (answer_of(gate.evaluate_action(principal, GateAction::Tool(&call))), rule) {
            (GateVerdict::Allow { rule: found, .. }, Ok(rule)) => assert_eq!(found, rule),
            (GateVerdict::Deny { rule: found, .. }, Err(rule)) => assert_eq!(found, rule, "{grants:?} {url}"),
            (verdict, rule) => panic!("{grants:?} {url}: {verdict:?}, expected {rule:?}"),
        }
    }
}

#[test]
fn a_private_allowance_is_parsed_strictly() {
    for right in ["10.0.0.0/8", "127.0.0.1/32", "fd00::/8", "wiki", "*.corp.example", "169.254.169.254/32"] {
        assert_eq!(right.parse::<PrivateAllowance>().expect(right).to_string(), right);
    }
    assert_eq!("10.1.2.3".parse::<PrivateAllowance>().expect("an address").to_string(), "10.1.2.3/32");
    for (wrong, error) in [
        ("10.0.0.1/8", PrivateError::HostBits { bits: 8 }),
        ("fd00::1/8", PrivateError::HostBits { bits: 8 }),
        ("0.0.0.0/0", PrivateError::Everything),
        ("::/0", PrivateError::Everything),
        ("*", PrivateError::Everything),
        ("10.0.0.0/33", PrivateError::Unreadable),
        ("10.0/8", PrivateError::Unreadable),
        ("Wiki", PrivateError::Unreadable),
        ("http://wiki", PrivateError::Unreadable),
        ("", PrivateError::Unreadable),
    ] {
        assert_eq!(wrong.parse::<PrivateAllowance>(), Err(error), "{wrong}");
    }
}

proptest! {
    #[test]
    fn any_accepted_url_is_canonical_and_any_other_is_refused(text in "(http://|https://|//|)[a-z0-9.:@%\\[\\]/?#*_-]{0,40}") {
        if let Ok(target) = RequestTarget::parse_url(&text) {
            prop_assert_eq!(RequestTarget::parse_url(target.as_str()), Ok(target));
        }
    }

    #[test]
    fn a_grant_that_is_read_is_shown_as_it_was(text in "net(\\.[a-z]{1,6})?:[a-z0-9.*:\\[\\]-]{0,20}") {
        if let Ok(grant) = Grant::parse(&text) {
            prop_assert_eq!(grant.to_string(), text);
        }
    }
}

#[test]
fn a_url_has_a_bounded_length_and_no_odd_letters() {
    let longest = format!("http://h/{}", "a".repeat(URL_BYTES_MAX - 9));
    RequestTarget::parse_url(&longest).expect("the longest");
    let denied = |url: &str| RequestTarget::parse_url(url).expect_err(url).rule;
    assert_ne!(denied(&format!("{longest}a")), denied("ftp://h/"));
    let odd = denied("http://h/ a");
    for url in ["http://h/\ta", "http://h/\u{7f}a", "http://h\\@a/", "http://h/\u{a0}"] {
        assert_eq!(denied(url), odd, "{url:?}");
    }
    for url in ["http://:secret@h/", "http://user@h/"] {
        assert_ne!(denied(url), odd, "{url}");
    }
}

#[test]
fn a_grant_covers_what_its_spelling_shows() {
    for (outer, inner, covered) in [
        ("file.*", "file.*", true),
        ("file.*", "file.deep.*", true),
        ("file.*", "files.*", false),
        ("file.deep.*", "file.*", false),
        ("net:*.h", "net:*.h", true),
        ("net:*.h", "net:*.a.h", true),
        ("net:*.a.h", "net:*.h", false),
        ("net:*.h", "net:*.b", false),
        ("net.read:h", "net.get:h", true),
        ("net.read:h", "net.post:h", false),
        ("net.get:h", "net.read:h", false),
    ] {
        let grant = |text| Grant::parse(text).expect("a grant");
        assert_eq!(grant(outer).covers_grant(grant(inner)), covered, "{outer} {inner}");
    }
    let longest = "a".repeat(128);
    assert_eq!(Grant::parse(&longest), Ok(Grant::Tool(&longest)));
    let error = Grant::parse("").expect_err("nothing").to_string();
    assert!(error.contains("it is empty"), "{error}");
    let error = Grant::parse("file read").expect_err("two words").to_string();
    assert!(error.contains("file read"), "{error}");
}
