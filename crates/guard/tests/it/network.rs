//! The way out in a network where every address there is answers: what is heard is measured at the sockets.
//!
//! The tests run in network namespaces of their own, with the client's own resolver and a server of names. They need
//! root, or user namespaces for everybody; without them they fail and say what is missing.

mod world;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use dromia_guard::{EgressConfig, GuardedEgress, SystemNames};

use crate::server::{get, granted, limits, read, rule};
use crate::spellings::{covering, spellings};

/// A public address, at which redirects are told.
const PUBLIC: &str = "93.184.216.34";

/// What may be reached: a URL, and the address that then hears it.
const BENIGN: &[(&str, &str)] = &[
    ("http://93.184.216.34/", PUBLIC),
    ("http://0x5db8d822/", PUBLIC),
    ("http://public.example/", PUBLIC),
    ("http://PUBLIC.example.:80/a?b=http://127.0.0.1/", PUBLIC),
    ("http://8.8.8.8/", "8.8.8.8"),
    ("http://172.32.0.1/", "172.32.0.1"),
    ("http://100.128.0.1/", "100.128.0.1"),
    ("http://[2606:2800:220:1::1]/", "2606:2800:220:1::1"),
    ("http://[::ffff:8.8.8.8]/", "8.8.8.8"),
];

/// Redirects to every spelling that a header can hold.
fn locations() -> Vec<String> {
    let is_header = |url: &String| !url.is_empty() && url.bytes().all(|byte| byte.is_ascii_graphic());
    spellings().into_iter().filter(is_header).collect()
}

fn redirecting(number: usize) -> String {
    format!("http://{PUBLIC}/to/{number}")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    rustls::crypto::ring::default_provider().install_default().ok();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

#[test]
fn nothing_inside_hears_anything_where_every_address_answers() {
    world::play(
        "network::nothing_inside_hears_anything_where_every_address_answers",
        &locations(),
        |world| {
            block_on(async {
                let egress = GuardedEgress::new(EgressConfig::default(), Arc::new(SystemNames));
                let line = granted(&egress, limits());
                for (url, address) in BENIGN {
                    let [_, grants] = covering(url);
                    let response = line.send_request(get(url, &grants)).await.expect(url);
                    assert_eq!(read(response).await.expect("it is whole"), "hello", "{url}");
                    assert_eq!(world.take_heard(), [(ip(address), 80)], "{url}");
                }

                let spellings = spellings();
                for url in &spellings {
                    for grants in covering(url) {
                        let error = line.send_request(get(url, &grants)).await.expect_err(url);
                        assert!(!error.is_sent, "{url:?}: {error:?}");
                    }
                }
                let heard = world.take_heard();
                assert!(heard.is_empty(), "{heard:?} of {} spellings", spellings.len());

                let (mut followed, mut refused) = (0, 0);
                for (number, location) in locations().iter().enumerate() {
                    let [mut grants, named] = covering(location);
                    grants.extend(named);
                    match line.send_request(get(&redirecting(number), &grants)).await {
                        // What names no host stays at its own.
                        Ok(response) => {
                            assert!(response.url.starts_with(&format!("http://{PUBLIC}/")), "{location}");
                            followed += 1;
                        }
                        Err(error) => {
                            assert!(error.is_sent, "{location}: the first hop went out");
                            refused += 1;
                        }
                    }
                }
                assert!(refused >= 200 && followed <= 8, "{refused} refused, {followed} followed");
                let heard: BTreeSet<_> = world.take_heard().into_iter().collect();
                assert_eq!(heard, BTreeSet::from([(ip(PUBLIC), 80)]));

                // The name's second answer leads inside.
                let url = "http://rebinding.example/";
                let [_, grants] = covering(url);
                line.send_request(get(url, &grants)).await.expect("its first answer is public");
                let error = line.send_request(get(url, &grants)).await.expect_err("its second is not");
                assert_eq!(rule(&error), "metadata address");
                assert_eq!(world.take_heard(), [(ip(PUBLIC), 80)]);
            });
        },
    );
}

/// The planted fault: the same network, the same spellings and redirects, and a client that nobody guards.
#[test]
fn a_way_out_without_a_guard_is_caught() {
    world::play("network::a_way_out_without_a_guard_is_caught", &locations(), |world| {
        block_on(async {
            let careless = reqwest::Client::builder()
                .no_proxy()
                .timeout(Duration::from_secs(5))
                .pool_max_idle_per_host(0)
                .build()
                .expect("a client");
            let reaches = async |url: &str| {
                // What is no answer to the client was heard all the same.
                drop(careless.get(url).send().await);
                world.take_heard().into_iter().map(|(address, _)| address).collect::<BTreeSet<_>>()
            };
            let (mut inside, mut through) = (BTreeSet::new(), 0);
            for url in spellings() {
                let reached = reaches(&url).await;
                through += usize::from(!reached.is_empty());
                inside.extend(reached);
            }
            assert!(through >= 150, "only {through} spellings lead anywhere");
            assert!(inside.len() >= 40, "only {} addresses: {inside:?}", inside.len());
            for address in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "fd00:ec2::254", "fd00::1", "::1"] {
                assert!(inside.contains(&ip(address)), "{address} is not among {inside:?}");
            }
            let mut redirected = 0;
            for number in 0..locations().len() {
                redirected += usize::from(reaches(&redirecting(number)).await.len() > 1);
            }
            assert!(redirected >= 100, "only {redirected} redirects lead on");
            let first = reaches("http://rebinding.example/").await;
            let second = reaches("http://rebinding.example/").await;
            assert_eq!(
                (first, second),
                (BTreeSet::from([ip(PUBLIC)]), BTreeSet::from([ip("169.254.169.254")]))
            );
        });
    });
}
