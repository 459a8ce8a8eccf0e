//! Tunnels on real sockets: judged as requests are, pinned to what was judged, and bounded.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dromia_contracts::egress::{
    EgressClient, EgressError, EgressFault, EgressRequest, EgressTunnel, HttpMethod, LineLimits,
    OversizedPart, TimeoutPhase, TunnelRequest,
};
use dromia_contracts::gate::{Gate as _, rights_word};
use dromia_contracts::id::{AgentId, TenantId};
use dromia_guard::{GrantGate, PolicyEngine};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::server::{Server, Told, egress, get, granted, hello, limits, rule};

const TENANT: TenantId = TenantId::from_bytes([1; 16]);
const AGENT: AgentId = AgentId::from_bytes([2; 16]);

/// A server that says again what it hears, to everybody.
async fn echo() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut heard = [0; 1024];
                while let Ok(count) = stream.read(&mut heard).await {
                    if count == 0 || stream.write_all(&heard[..count]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

async fn dig(line: &Arc<dyn EgressClient>, to: &str, grants: &[String]) -> Result<EgressTunnel, EgressError> {
    let request = TunnelRequest { to: to.to_owned(), grants: grants.to_vec(), share: "one".to_owned() };
    line.request_tunnel(request).await
}

/// All that comes, to the end.
async fn all(tunnel: &mut EgressTunnel) -> Result<Vec<u8>, EgressFault> {
    let mut heard = Vec::new();
    while let Some(piece) = tunnel.down.next_chunk().await? {
        heard.extend_from_slice(&piece);
    }
    Ok(heard)
}

#[tokio::test]
async fn a_tunnel_is_judged_once_pinned_and_carries_both_ways() {
    let port = echo().await;
    // What the name says later would be refused.
    let names = Arc::new(Told::new(&[("wiki.example", &[&["127.0.0.1"], &["169.254.169.254"]])]));
    let line = granted(&egress(&["127.0.0.1"], &names), limits());
    let grants = [format!("net:wiki.example:{port}")];
    let mut tunnel = dig(&line, &format!("wiki.example:{port}"), &grants).await.expect("it is open");
    tunnel.up.write(Bytes::from_static(b"hello")).await.expect("it is sent");
    tunnel.up.finish().await.expect("it is told");
    assert_eq!(all(&mut tunnel).await.expect("it comes back"), b"hello");
    assert_eq!(names.lookups(), 1);
    let [decision] = &tunnel.decisions[..] else { panic!("{:?}", tunnel.decisions) };
    assert_eq!((decision.method, decision.allowed), (HttpMethod::Connect, true));
    assert_eq!(decision.to, format!("https://wiki.example:{port}"));
    assert_eq!(decision.address, Some(Ipv4Addr::LOCALHOST.into()));
    assert_eq!(decision.rule, format!("grant net:wiki.example:{port}"));
    let later = dig(&line, &format!("wiki.example:{port}"), &grants).await.expect_err("it moved");
    assert_eq!(rule(&later), "metadata address");
    assert!(!later.decisions[0].allowed && later.decisions[0].address.is_none());
}

#[tokio::test]
async fn a_tunnel_reaches_nothing_a_request_may_not() {
    let server = Server::at([127, 0, 0, 1], 0, hello()).await;
    let port = server.port();
    let names = Arc::new(Told::new(&[("inside.example", &[&["127.0.0.1"]])]));
    let way_out = egress(&["127.0.0.1"], &names);
    way_out.keep_from(server.address);
    let open = granted(&way_out, limits());
    let closed = granted(&egress(&[], &names), limits());
    let net = |host: &str| vec![format!("net:{host}:{port}")];
    let here = format!("127.0.0.1:{port}");
    for (line, to, grants, says) in [
        (&open, here.clone(), Vec::new(), "default deny"),
        (&open, here.clone(), vec![format!("net.read:127.0.0.1:{port}")], "default deny"),
        (&open, here.clone(), vec![format!("net.post:127.0.0.1:{port}")], "default deny"),
        (&open, here.clone(), net("127.0.0.1"), "own door"),
        (&open, format!("2130706433:{port}"), net("127.0.0.1"), "own door"),
        (&open, format!("[::ffff:127.0.0.1]:{port}"), net("[::ffff:127.0.0.1]"), "own door"),
        (&open, format!("inside.example:{port}"), net("inside.example"), "loopback address"),
        (&closed, here.clone(), net("127.0.0.1"), "loopback address"),
        (&open, format!("169.254.169.254:{port}"), net("169.254.169.254"), "metadata address"),
        (&open, "127.0.0.1".to_owned(), net("127.0.0.1"), "malformed url"),
        (&open, "127.0.0.1:".to_owned(), net("127.0.0.1"), "malformed url"),
        (&open, format!("{here}/x"), net("127.0.0.1"), "malformed url"),
        (&open, format!("u@{here}"), net("127.0.0.1"), "userinfo"),
    ] {
        let refused = dig(line, &to, &grants).await.expect_err("it is refused");
        assert_eq!(rule(&refused), says, "{to}");
        assert!(!refused.is_sent && !refused.decisions[0].allowed, "{to}: {refused:?}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_tunnel_keeps_the_bounds_of_its_line() {
    let port = echo().await;
    let names = Arc::new(Told::default());
    let way_out = egress(&["127.0.0.1"], &names);
    let (to, grants) = (format!("127.0.0.1:{port}"), [format!("net:127.0.0.1:{port}")]);

    let little = granted(&way_out, LineLimits { request_bytes_max: 3, ..limits() });
    let mut tunnel = dig(&little, &to, &grants).await.expect("it is open");
    tunnel.up.write(Bytes::from_static(b"abc")).await.expect("three are few enough");
    let long = tunnel.up.write(Bytes::from_static(b"d")).await;
    assert_eq!(long, Err(EgressFault::TooLarge { part: OversizedPart::Request, bytes_max: 3 }));

    let little = granted(&way_out, LineLimits { response_bytes_max: 3, ..limits() });
    let mut tunnel = dig(&little, &to, &grants).await.expect("it is open");
    tunnel.up.write(Bytes::from_static(b"abc")).await.expect("it is sent");
    assert_eq!(tunnel.down.next_chunk().await, Ok(Some(Bytes::from_static(b"abc"))), "three are few enough");
    tunnel.up.write(Bytes::from_static(b"d")).await.expect("it is sent");
    let long = all(&mut tunnel).await;
    assert_eq!(long, Err(EgressFault::TooLarge { part: OversizedPart::Response, bytes_max: 3 }));

    let short = granted(&way_out, LineLimits { total: Duration::from_millis(100), ..limits() });
    let mut tunnel = dig(&short, &to, &grants).await.expect("it is open");
    assert_eq!(all(&mut tunnel).await, Err(EgressFault::Late(TimeoutPhase::Total)));

    let encrypted = granted(&way_out, LineLimits { https_only: true, ..limits() });
    let mut tunnel = dig(&encrypted, &to, &grants).await.expect("it is open");
    let plain = tunnel.up.write(Bytes::from_static(b"GET / HTTP/1.1\r\n")).await;
    assert!(matches!(plain, Err(EgressFault::Refused { ref rule, .. }) if rule == "https only"), "{plain:?}");
    tunnel.up.write(Bytes::from_static(&[0x16, 3, 1])).await.expect("TLS begins so");

    let one = granted(&way_out, LineLimits { requests_max: 1, ..limits() });
    let first = dig(&one, &to, &grants).await.expect("it is open");
    let second = tokio::time::timeout(Duration::from_millis(50), dig(&one, &to, &grants)).await;
    assert!(second.is_err(), "a tunnel counts as long as it stands");
    drop(first);
    dig(&one, &to, &grants).await.expect("its place is free");
}

#[tokio::test]
async fn a_tunnel_whose_other_end_is_gone_takes_no_more() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let to = format!("127.0.0.1:{}", listener.local_addr().expect("an address").port());
    let line = granted(&egress(&["127.0.0.1"], &Arc::new(Told::default())), limits());
    let mut tunnel = dig(&line, &to, &[format!("net:{to}")]).await.expect("it is open");
    drop(listener.accept().await.expect("it comes"));
    let mut sent = Ok(());
    for _ in 0..1000 {
        sent = tunnel.up.write(Bytes::from_static(b"more")).await;
        if sent.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(sent, Err(EgressFault::Broken));
}

#[tokio::test]
async fn a_request_that_calls_itself_a_tunnel_is_none() {
    let names = Arc::new(Told::default());
    let line = granted(&egress(&["127.0.0.1"], &names), limits());
    let request = EgressRequest { method: HttpMethod::Connect, ..get("http://127.0.0.1:1/", &[]) };
    let refused = line.send_request(request).await.expect_err("it is no request");
    assert!(matches!(refused.failure, EgressFault::Malformed { .. }), "{refused:?}");
}

/// Narrows an agent while a tunnel of it is open, and says what is wrong with what the tunnel carries then.
async fn check_open_tunnel(grants: &[String], to: &str, gate: &GrantGate) -> Result<(), String> {
    let egress = egress(&["127.0.0.1"], &Arc::new(Told::new(&[])));
    egress.ask_rights(gate.current_rights());
    let _hold = gate.note_rights(TENANT, AGENT, 1, grants);
    let mut tunnel =
        dig(&granted(&egress, limits()), to, grants).await.map_err(|error| format!("{error:?}"))?;
    tunnel.up.write(Bytes::from_static(b"hello")).await.map_err(|error| error.to_string())?;
    tunnel.down.next_chunk().await.map_err(|error| error.to_string())?;
    let _other = gate.note_rights(TENANT, AGENT, 2, &[grants, &["net:other.example".to_owned()]].concat());
    if tunnel.up.write(Bytes::from_static(b"more")).await.is_err() {
        return Err("another right's change closes a tunnel".to_owned());
    }
    tunnel.down.next_chunk().await.map_err(|error| error.to_string())?;
    let waits = tunnel.down.next_chunk();
    let _narrowed = gate.note_rights(TENANT, AGENT, 3, &["net:other.example".to_owned()]);
    match tokio::time::timeout(Duration::from_secs(2), waits).await {
        Ok(Err(EgressFault::Refused { .. })) => {}
        other => return Err(format!("a tunnel stays open without its right: {other:?}")),
    }
    match tunnel.up.write(Bytes::from_static(b"late")).await {
        Err(EgressFault::Refused { .. }) => Ok(()),
        other => Err(format!("a tunnel takes more without its right: {other:?}")),
    }
}

fn gate() -> GrantGate {
    GrantGate::new(PolicyEngine::built_in().expect("the shipped policy compiles"))
}

#[tokio::test]
async fn a_narrowing_closes_an_open_tunnel() {
    let to = format!("127.0.0.1:{}", echo().await);
    let grants = [format!("net:{to}"), rights_word(TENANT, AGENT)];
    assert_eq!(check_open_tunnel(&grants, &to, &gate()).await, Ok(()));
}

/// Planted fault: the grants of the tunnel say not whose they are, so no change of an agent reaches them.
#[tokio::test]
async fn a_tunnel_that_outlives_its_right_is_caught() {
    let to = format!("127.0.0.1:{}", echo().await);
    let problem = check_open_tunnel(&[format!("net:{to}")], &to, &gate()).await;
    assert!(problem.as_ref().is_err_and(|text| text.contains("stays open without its right")), "{problem:?}");
}
