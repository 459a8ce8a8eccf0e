//! Random trees of capabilities, compared with a reference that knows no token and no row: it compares components of paths and
//! names by itself. Random rights and tokens are read or refused.
//!
//! `DROMIA_CAPABILITY_TREES` says how many trees are compared, by default 200.

use std::time::Duration;

use dromia_contracts::CapabilityId;
use dromia_guard::capability::{ROOT_ID, Resource, RootKey, RootKeys};
use proptest::prelude::*;

use super::{RightsFixture, call, write};

/// A right as the reference knows it: of a tool, or of a file below a directory.
#[derive(Debug, Clone, PartialEq)]
enum Known {
    Tool(Vec<&'static str>),
    Family(Vec<&'static str>),
    Write(Vec<&'static str>),
}

impl Known {
    fn text(&self) -> String {
        match self {
            Self::Tool(words) => format!("tool:{}", words.join(".")),
            Self::Family(words) => format!("tool:{}.*", words.join(".")),
            Self::Write(names) => format!("file:write:{}", names.join("/")),
        }
    }

    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tool(mine), Self::Tool(words)) => mine == words,
            (Self::Family(mine), Self::Tool(words)) => words.len() > mine.len() && words.starts_with(mine),
            (Self::Family(mine), Self::Family(words)) => words.starts_with(mine),
            (Self::Write(mine), Self::Write(names)) => names.starts_with(mine),
            _ => false,
        }
    }
}

/// A capability of the tree: made from an earlier one or from the root, for an agent, for so many seconds or for ever.
#[derive(Debug, Clone)]
struct Node {
    from: Option<usize>,
    holder: usize,
    rights: Vec<Known>,
    seconds: Option<i64>,
    revoked: bool,
}

fn place() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "ab"]), 0..3)
}

fn right() -> impl Strategy<Value = Known> {
    prop_oneof![
        4 => place().prop_map(Known::Write),
        1 => Just(Known::Tool(vec!["file", "write"])),
        1 => Just(Known::Family(vec!["file"])),
        1 => Just(Known::Tool(vec!["time", "now"])),
    ]
}

fn node() -> impl Strategy<Value = Node> {
    let from = prop::option::weighted(0.7, any::<usize>());
    let rights = prop::collection::vec(right(), 1..4);
    (from, 0..3_usize, rights, prop::option::of(1..4_i64), prop::bool::weighted(0.15))
        .prop_map(|(from, holder, rights, seconds, revoked)| Node { from, holder, rights, seconds, revoked })
}

fn trees() -> u32 {
    std::env::var("DROMIA_CAPABILITY_TREES").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

/// Those of the gate are signed and stored one by one, so there are fewer of them.
fn stored_trees() -> u32 {
    (trees() / 10).max(100)
}

/// What the reference says of a tree: for each node the chain that leads to it, or nothing if it cannot be made.
fn chains(nodes: &[Node]) -> Vec<Option<Vec<usize>>> {
    let mut chains: Vec<Option<Vec<usize>>> = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        let parent = match node.from {
            Some(from) if index > 0 => match &chains[from % index] {
                // What could not be made cannot be handed on: this one is left out as well.
                None => {
                    chains.push(None);
                    continue;
                }
                Some(chain) => chain.clone(),
            },
            Some(_) | None => Vec::new(),
        };
        let is_within = node
            .rights
            .iter()
            .all(|right| parent.iter().all(|&at| nodes[at].rights.iter().any(|known| known.covers(right))));
        chains.push(is_within.then(|| [parent, vec![index]].concat()));
    }
    chains
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(stored_trees()))]

    #[test]
    fn the_gate_allows_what_the_reference_allows(
        nodes in prop::collection::vec(node(), 1..7),
        questions in prop::collection::vec((0..3_usize, place(), any::<bool>()), 6),
        waits in 0..4_u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let fixture = RightsFixture::new().await;
            let chains = chains(&nodes);
            let mut made: Vec<Option<CapabilityId>> = Vec::new();
            for (index, node) in nodes.iter().enumerate() {
                let from = node.from.filter(|_| index > 0).map(|from| made[from % index]);
                if from == Some(None) {
                    made.push(None);
                    continue;
                }
                let rights: Vec<_> = node.rights.iter().map(Known::text).collect();
                let rights: Vec<_> = rights.iter().map(String::as_str).collect();
                let answer = fixture.make(from.flatten(), node.holder, &rights, node.seconds).await;
                let found = answer.as_ref().map(|made| made.id).map_err(|fault| fault.code);
                assert_eq!(found.is_ok(), chains[index].is_some(), "{index} of {nodes:?}: {found:?}");
                made.push(found.ok());
            }
            for (node, id) in nodes.iter().zip(&made) {
                if let Some(id) = id.filter(|_| node.revoked) {
                    fixture.revoke(id).await;
                }
            }
            fixture.clock.advance(Duration::from_secs(waits));
            for (agent, place, is_write) in &questions {
                let (call, sought) = if *is_write && !place.is_empty() {
                    let tool = Known::Tool(vec!["file", "write"]);
                    (write(&place.join("/")), vec![tool, Known::Write(place.clone())])
                } else {
                    (call("time.now", "{}"), vec![Known::Tool(vec!["time", "now"])])
                };
                let stands = |at: usize| {
                    let seconds = nodes[at].seconds.map(i64::unsigned_abs);
                    !nodes[at].revoked && seconds.is_none_or(|seconds| waits < seconds)
                };
                let covers = |chain: &Vec<usize>| sought.iter().any(|sought| {
                    chain.iter().all(|&at| nodes[at].rights.iter().any(|right| right.covers(sought)))
                });
                let expected = chains.iter().flatten().any(|chain| {
                    let holder = chain.last().map(|&at| nodes[at].holder);
                    holder == Some(*agent) && chain.iter().all(|&at| stands(at)) && covers(chain)
                });
                let found = fixture.judged(*agent, &call).await;
                assert_eq!(found.is_ok(), expected, "{agent} {} in {nodes:?}: {found:?}", call.arguments);
            }
        });
    }
}

proptest! {
    #[test]
    fn any_text_is_one_canonical_right_or_is_refused(
        text in prop_oneof![
            "\\PC{0,24}",
            "(file:(read|write)(:[a-z./ ]{0,12})?|net:http:[a-z.*-]{0,12}|tool:[a-z.*_-]{0,12})",
        ],
    ) {
        if let Ok(right) = Resource::parse(&text) {
            prop_assert_eq!(Resource::parse(&right.to_string()), Ok(right.clone()), "{}", text);
            prop_assert!(right.covers(&right), "{}", text);
        }
    }

    #[test]
    fn any_bytes_are_no_token(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let roots = RootKey::new(ROOT_ID, &[7; 32]).and_then(|root| RootKeys::new(vec![root.public_root()]));
        prop_assert!(roots.expect("a key").open_token(&bytes).is_err());
    }
}
