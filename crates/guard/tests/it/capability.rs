//! Tokens: what a chain of blocks allows is what every one of them allows, and nothing else.
//!
//! The reference below knows no token: it compares paths, hosts and names by itself. `DROMIA_CAPABILITY_TREES` says how many
//! random trees of delegations are compared, by default 200.

use std::collections::BTreeSet;

use biscuit_auth::{Algorithm, Biscuit, BlockBuilder, KeyPair, PrivateKey};
use dromia_contracts::id::AgentId;
use dromia_guard::capability::{
    AccessRequest, BLOCKS_MAX, CapabilityToken, FileAccessMode, RIGHTS_MAX, Resource, Right, RootKey,
    RootKeys, TOKEN_BYTES_MAX, TokenDenied, TokenError,
};
use jiff::Timestamp;
use proptest::prelude::*;

fn agent(number: u8) -> AgentId {
    AgentId::from_bytes([number; 16])
}

fn root(number: u8) -> RootKey {
    RootKey::new(u32::from(number), &[number; 32]).expect("32 bytes are a key")
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("it is in range")
}

fn write(path: &str) -> Resource {
    Resource::file(FileAccessMode::Write, path).expect(path)
}

fn ask(presenter: AgentId, resource: &Resource) -> AccessRequest<'_> {
    AccessRequest { presenter, resource, wall_ms: 10, at: second(100) }
}

fn none() -> BTreeSet<dromia_guard::capability::RevocationId> {
    BTreeSet::new()
}

fn whole() -> CapabilityToken {
    CapabilityToken::grant_rights(&root(1), agent(1), &[Right::unlimited(write(""))], &[11; 32])
        .expect("it is granted")
}

#[test]
fn a_right_covers_what_lies_within_it_only() {
    let host = |host: &str| Resource::host(host).expect(host);
    let tool = |tool: &str| Resource::tool(tool).expect(tool);
    let read = |path: &str| Resource::file(FileAccessMode::Read, path).expect(path);
    for (right, asked, covers) in [
        (write("docs"), write("docs/a/b"), true),
        (write("docs"), write("docs"), true),
        (write("docs"), write("docs2/a"), false),
        (write("docs"), read("docs/a"), false),
        (write("docs/a"), write("docs"), false),
        (write(""), write("any/where"), true),
        (host("api.example.com"), host("api.example.com"), true),
        (host("*.example.com"), host("a.b.example.com"), true),
        (host("*.example.com"), host("example.com"), false),
        (host("*.example.com"), host("badexample.com"), false),
        (host("*.1-a.example"), host("b-2.1-a.example"), true),
        (tool("shell.execute"), tool("shell.execute"), true),
        (tool("shell.*"), tool("shell.execute"), true),
        (tool("shell.*"), tool("shell"), false),
        (tool("a_1-b.*"), tool("a_1-b.run"), true),
        (tool("shell.*"), tool("shells.execute"), false),
        (tool("shell.*"), tool("shell.*"), false),
    ] {
        let token =
            CapabilityToken::grant_rights(&root(1), agent(1), &[Right::unlimited(right.clone())], &[2; 32])
                .expect("granted");
        let found = token.check_access(&ask(agent(1), &asked), &none());
        assert_eq!(found.is_ok(), covers, "{right} and {asked}: {found:?}");
    }
}

#[test]
fn an_ambiguous_spelling_is_no_resource() {
    for path in ["/a", "a/", "a//b", "./a", "a/../b", "..", "a\nb"] {
        assert!(Resource::file(FileAccessMode::Read, path).is_err(), "{path:?}");
    }
    for host in ["", "Example.com", "*.com", "*", "a..b", "a b.com", "*.*.com", "a.*.com"] {
        assert!(Resource::host(host).is_err(), "{host:?}");
    }
    for (host, says) in [
        ("x.example:8443", "without scheme, port or path, in lower case"),
        ("https://x.example/", "without scheme, port or path, in lower case"),
        ("*.com", "two labels behind *."),
    ] {
        let told = Resource::host(host).expect_err("it is no host").to_string();
        assert!(told.contains(says), "{host:?}: {told}");
    }
    for tool in ["", "*", "a.", "a.*.b", "A", "a b", ".*"] {
        assert!(Resource::tool(tool).is_err(), "{tool:?}");
    }
    assert!(Resource::file(FileAccessMode::Read, &["a"; 65].join("/")).is_err());
    for (text, read) in [
        ("file:read", Some("file:read:")),
        ("file:write:a/b", Some("file:write:a/b")),
        ("net:http:a.h", Some("net:http:a.h")),
        ("tool:a.*", Some("tool:a.*")),
        ("file:readable", None),
        ("file", None),
    ] {
        assert_eq!(Resource::parse(text).ok().map(|one| one.to_string()).as_deref(), read, "{text}");
    }
}

#[test]
fn time_and_limits_are_looked_at_in_every_block() {
    let (first, later) = (write("docs"), Right { until: Some(second(50)), ..Right::unlimited(write("")) });
    let slow = Right { wall_ms_max: Some(5), ..Right::unlimited(write("")) };
    let asked = ask(agent(1), &first);
    assert_eq!(whole().check_access(&asked, &none()), Ok(()));
    for right in [later, slow] {
        let narrowed = whole().narrow_rights(None, std::slice::from_ref(&right), &[3; 32]).expect("narrowed");
        assert!(
            matches!(narrowed.check_access(&asked, &none()), Err(TokenDenied::Uncovered { .. })),
            "{right:?}"
        );
        let granted = CapabilityToken::grant_rights(&root(1), agent(1), &[right], &[3; 32]).expect("granted");
        assert!(granted.check_access(&asked, &none()).is_err());
        let early = AccessRequest { wall_ms: 5, at: second(49), ..asked };
        assert_eq!(
            (narrowed.check_access(&early, &none()), granted.check_access(&early, &none())),
            (Ok(()), Ok(()))
        );
    }
    let end = Right { until: Some(second(100)), ..Right::unlimited(write("")) };
    let ended = CapabilityToken::grant_rights(&root(1), agent(1), &[end], &[3; 32]).expect("granted");
    assert!(ended.check_access(&asked, &none()).is_err(), "its last second is not in it");
}

#[test]
fn only_its_holder_presents_a_token_until_a_maker_revokes() {
    let (asked, docs) = (write("docs/a"), [Right::unlimited(write("docs"))]);
    let handed = whole().narrow_rights(Some(agent(2)), &docs, &[4; 32]).expect("handed on");
    assert_eq!(handed.holders(), [agent(1), agent(2)]);
    assert_eq!(handed.check_access(&ask(agent(2), &asked), &none()), Ok(()));
    let stranger = handed.check_access(&ask(agent(1), &asked), &none());
    assert_eq!(stranger, Err(TokenDenied::NotHolder { presenter: agent(1) }));
    for (block, id) in handed.revocation_ids().into_iter().enumerate() {
        let revoked = BTreeSet::from([id]);
        assert_eq!(
            handed.check_access(&ask(agent(2), &asked), &revoked),
            Err(TokenDenied::Revoked { block })
        );
        assert_eq!(whole().check_access(&ask(agent(1), &asked), &revoked).is_ok(), block == 1);
    }
    let twin = whole().narrow_rights(Some(agent(2)), &docs, &[5; 32]).expect("handed on");
    assert_ne!(twin.revocation_ids()[1], handed.revocation_ids()[1], "each block is revoked by itself");
}

#[test]
fn a_foreign_torn_or_rotated_root_is_recognized() {
    let bytes = whole().to_bytes().expect("bytes");
    let roots = |keys: &[u8]| RootKeys::new(keys.iter().map(|&n| root(n).public_root()).collect());
    let open = |keys: &[u8], bytes: &[u8]| roots(keys).and_then(|roots| roots.open_token(bytes)).map(drop);
    assert_eq!(open(&[1], &bytes), Ok(()));
    assert_eq!(open(&[2, 1], &bytes), Ok(()), "two keys count while they are changed");
    assert_eq!(open(&[2], &bytes), Err(TokenError::UnknownRoot));
    assert_eq!(open(&[], &bytes), Err(TokenError::UnknownRoot));
    assert_eq!(open(&[1, 2, 3], &bytes), Err(TokenError::TooManyRoots { found: 3 }));
    let namesake = RootKey::new(1, &[9; 32]).expect("a key").public_root();
    let foreign = RootKeys::new(vec![namesake]).and_then(|roots| roots.open_token(&bytes)).map(drop);
    assert_eq!(foreign, Err(TokenError::Forged));
    for at in 0..bytes.len() {
        let mut torn = bytes.clone();
        torn[at] ^= 1;
        assert!(open(&[1], &torn).is_err(), "byte {at} may be changed");
    }
    assert_eq!(open(&[1], &vec![0; 65 << 10]), Err(TokenError::TooLong));
    assert_eq!(open(&[1], b""), Err(TokenError::Forged));
}

#[test]
fn bounds_hold_and_a_sealed_token_stays_as_it_is() {
    let granted = |rights: &[Right]| CapabilityToken::grant_rights(&root(1), agent(1), rights, &[2; 32]);
    let many = vec![Right::unlimited(write("")); RIGHTS_MAX + 1];
    assert_eq!(granted(&many).map(drop), Err(TokenError::TooManyRights { found: RIGHTS_MAX + 1 }));
    assert!(granted(&many[1..]).is_ok());
    // Many long places, and one that makes the token as long as it may be.
    let sized = |width: usize, last: usize| {
        let places = (1..RIGHTS_MAX).map(|number| format!("{number:width$}").replace(' ', "a"));
        let places = places.chain(["b".repeat(last)]).map(|place| Right::unlimited(write(&place)));
        granted(&places.collect::<Vec<_>>()).and_then(|token| token.to_bytes())
    };
    let fits = |width| sized(width, 200).ok().map(|bytes| (width, 200 + TOKEN_BYTES_MAX - bytes.len()));
    let (width, last) = (512..=1024).rev().find_map(fits).expect("shorter ones fit");
    let longest = sized(width, last).expect("it is as long as it may be");
    assert_eq!((longest.len(), sized(width, last + 1)), (TOKEN_BYTES_MAX, Err(TokenError::TooLong)));
    let roots = RootKeys::new(vec![root(1).public_root()]).expect("one key");
    assert!(roots.open_token(&longest).is_ok());
    let mut token = whole();
    for block in 1..BLOCKS_MAX {
        let fresh = [u8::try_from(block).expect("few"); 32];
        token = token.narrow_rights(None, &[Right::unlimited(write(""))], &fresh).expect("within its bound");
    }
    assert_eq!(token.check_access(&ask(agent(1), &write("a")), &none()), Ok(()));
    let deeper = token.narrow_rights(None, &[Right::unlimited(write(""))], &[99; 32]).map(drop);
    assert_eq!(deeper, Err(TokenError::TooDeep));
    // A holder can seal its token without a key.
    let bytes = whole().to_bytes().expect("bytes");
    let key = KeyPair::from(&PrivateKey::from_bytes(&[1; 32], Algorithm::Ed25519).expect("a key"));
    let sealed = Biscuit::from(&bytes, key.public()).and_then(|token| token.seal()).expect("sealed");
    let sealed = roots.open_token(&sealed.to_vec().expect("bytes")).expect("it is good");
    assert_eq!(sealed.check_access(&ask(agent(1), &write("a")), &none()), Ok(()));
    let appended = sealed.narrow_rights(None, &[Right::unlimited(write(""))], &[7; 32]).map(drop);
    assert_eq!(appended, Err(TokenError::Sealed));
}

#[test]
fn a_block_that_a_stranger_appended_is_refused() {
    let key = KeyPair::from(&PrivateKey::from_bytes(&[1; 32], Algorithm::Ed25519).expect("a key"));
    let bytes = whole().to_bytes().expect("bytes");
    let roots = RootKeys::new(vec![root(1).public_root()]).expect("one key");
    let check = "check if narrow($k, $p, $u, $m), asks($k), within($p), now($t), wall($w), $t < $u, $w <= $m";
    let own = format!("narrow(\"file:write\", \"docs\", 999, 999); {check}");
    for (code, is_own) in [
        (own.as_str(), true),
        (check, true),
        ("check if true", false),
        ("narrow(\"file:write\", \"\", 999, 999)", false),
        ("right(\"file:write\", \"\", 999, 999)", false),
        ("check if within($a), within($b), within($c), within($d), within($e), $a == \"no\"", false),
        (format!("check if true; {check}").as_str(), false),
        (format!("{check}; {check}").as_str(), false),
        (format!("narrow($k, $p, 1, 1) <- asks($k), within($p); {check}").as_str(), false),
        (format!("narrow(\"file:write\", \"a(b\", 999, 999); {check}").as_str(), false),
        (check.replace("check if", "reject if").as_str(), false),
    ] {
        let token = Biscuit::from(&bytes, key.public()).expect("it is good");
        let code = if code.ends_with(';') { code.to_owned() } else { format!("{code};") };
        let Ok(block) = BlockBuilder::new().code(&code) else { panic!("{code} is no Datalog") };
        let appended = token.append(block).and_then(|token| token.to_vec()).expect(&code);
        let found = roots.open_token(&appended).map(drop);
        assert_eq!(found, if is_own { Ok(()) } else { Err(TokenError::Strange) }, "{code}");
    }
}

#[test]
fn a_secret_key_is_not_printed() {
    assert_eq!(format!("{:?}", root(1)), "RootKey { id: 1, .. }");
}

/// A right as the reference knows it.
#[derive(Debug, Clone)]
enum Known {
    Write(Vec<&'static str>),
    Host { labels: Vec<&'static str>, below: bool },
    Tool { words: Vec<&'static str>, family: bool },
}

impl Known {
    fn resource(&self) -> Resource {
        match self {
            Self::Write(names) => write(&names.join("/")),
            Self::Host { labels, below } => {
                let host = labels.join(".");
                let host = if *below { format!("*.{host}") } else { host };
                Resource::host(&host).expect("it is a host")
            }
            Self::Tool { words, family } => {
                let tool = words.join(".");
                let tool = if *family { format!("{tool}.*") } else { tool };
                Resource::tool(&tool).expect("it is a tool")
            }
        }
    }

    /// Whether this right covers that resource, told without any text.
    fn covers(&self, asked: &Self) -> bool {
        match (self, asked) {
            (Self::Write(right), Self::Write(asked)) => asked.starts_with(right),
            (Self::Host { labels: right, below }, Self::Host { labels: asked, .. }) => {
                if *below {
                    asked.len() > right.len() && asked.ends_with(right)
                } else {
                    asked == right
                }
            }
            (Self::Tool { words: right, family }, Self::Tool { words: asked, .. }) => {
                if *family {
                    asked.len() > right.len() && asked.starts_with(right)
                } else {
                    asked == right
                }
            }
            _ => false,
        }
    }
}

#[derive(Debug, Clone)]
struct Line {
    known: Known,
    until: Option<i64>,
    wall: Option<u32>,
}

/// A token of the tree: made from an earlier one, for an agent or not, revoked or not.
#[derive(Debug, Clone)]
struct Node {
    from: usize,
    holder: Option<u8>,
    lines: Vec<Line>,
    revoked: bool,
}

#[derive(Debug, Clone)]
struct Question {
    node: usize,
    presenter: u8,
    known: Known,
    wall: u32,
    at: i64,
}

fn names() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "ab"]), 0..4)
}

fn known(is_pattern: bool) -> impl Strategy<Value = Known> {
    let some = || prop::collection::vec(prop::sample::select(vec!["a", "b", "ab"]), 2..4);
    prop_oneof![
        names().prop_map(Known::Write),
        (some(), any::<bool>())
            .prop_map(move |(labels, below)| Known::Host { labels, below: below && is_pattern }),
        (some(), 1..3_usize, any::<bool>()).prop_map(move |(words, keep, family)| {
            let family = family && is_pattern;
            let words = if family { words[..keep.min(words.len())].to_vec() } else { words };
            Known::Tool { words, family }
        }),
    ]
}

fn line() -> impl Strategy<Value = Line> {
    (known(true), prop::option::of(90..110_i64), prop::option::of(0..20_u32))
        .prop_map(|(known, until, wall)| Line { known, until, wall })
}

fn node() -> impl Strategy<Value = Node> {
    let lines = prop_oneof![
        3 => prop::collection::vec(line(), 0..6),
        // Enough that what a block before it allows often stands.
        2 => Just(["write", "host", "tool"].map(|kind| Line { known: everything(kind), until: None, wall: None }).to_vec()),
    ];
    (any::<usize>(), prop::option::of(1..4_u8), lines, prop::bool::weighted(0.1))
        .prop_map(|(from, holder, lines, revoked)| Node { from, holder, lines, revoked })
}

fn everything(kind: &str) -> Known {
    match kind {
        "write" => Known::Write(Vec::new()),
        "host" => Known::Host { labels: vec!["a", "b"], below: true },
        _ => Known::Tool { words: vec!["a"], family: true },
    }
}

fn question() -> impl Strategy<Value = Question> {
    (any::<usize>(), 1..4_u8, known(false), 0..20_u32, 90..110_i64)
        .prop_map(|(node, presenter, known, wall, at)| Question { node, presenter, known, wall, at })
}

fn trees() -> u32 {
    std::env::var("DROMIA_CAPABILITY_TREES").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

/// The nodes from the first one to this one.
fn chain(nodes: &[Node], node: usize) -> Vec<usize> {
    let mut chain = vec![node];
    let mut at = node;
    while at > 0 {
        at = nodes[at].from % at;
        chain.push(at);
    }
    chain.reverse();
    chain
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(trees()))]

    #[test]
    fn a_token_allows_what_the_reference_allows(
        nodes in prop::collection::vec(node(), 1..8),
        questions in prop::collection::vec(question(), 8),
    ) {
        let mut tokens: Vec<CapabilityToken> = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            let rights: Vec<_> = node.lines.iter().map(|line| Right {
                resource: line.known.resource(),
                until: line.until.map(second),
                wall_ms_max: line.wall,
            }).collect();
            let fresh = [u8::try_from(index + 1).expect("few nodes"); 32];
            let token = if index == 0 {
                CapabilityToken::grant_rights(&root(1), agent(node.holder.unwrap_or(1)), &rights, &fresh)
            } else {
                tokens[node.from % index].narrow_rights(node.holder.map(agent), &rights, &fresh)
            };
            tokens.push(token.expect("within every bound"));
        }
        let revoked: BTreeSet<_> = nodes.iter().zip(&tokens)
            .filter(|(node, _)| node.revoked)
            .filter_map(|(_, token)| token.revocation_ids().last().copied())
            .collect();
        let roots = RootKeys::new(vec![root(1).public_root()]).expect("one key");
        for question in &questions {
            let node = question.node % nodes.len();
            let chain = chain(&nodes, node);
            let holder = chain.iter().rev().find_map(|&at| nodes[at].holder).unwrap_or(1);
            let covers = |at: usize| nodes[at].lines.iter().any(|line| {
                line.known.covers(&question.known)
                    && line.until.is_none_or(|until| question.at < until)
                    && line.wall.is_none_or(|wall| question.wall <= wall)
            });
            let expected = holder == question.presenter
                && chain.iter().all(|&at| !nodes[at].revoked && covers(at));
            let resource = question.known.resource();
            let asked = AccessRequest {
                presenter: agent(question.presenter),
                resource: &resource,
                wall_ms: question.wall,
                at: second(question.at),
            };
            let bytes = tokens[node].to_bytes().expect("bytes");
            let found = roots.open_token(&bytes).expect("it is good").check_access(&asked, &revoked);
            prop_assert_eq!(found.is_ok(), expected, "{:?} of {:?}: {:?}", question, nodes, found);
        }
    }
}
