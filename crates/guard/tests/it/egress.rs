//! The way out on real sockets: what a forbidden server hears is nothing, whatever names, redirects and answers say;
//! and what is allowed goes on as ever.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dromia_contracts::egress::{
    Egress as _, EgressClientConfig, EgressFault, EgressPurpose, EgressRequest, HttpMethod, LineLimits,
    OversizedPart, TimeoutPhase, find_header,
};
use dromia_guard::egress::address::{AddressClass, classify_address};
use dromia_guard::{EgressConfig, GuardedEgress, NameResolver as _};

use crate::server::{Reply, STALL, Server, Told, egress, get, granted, hello, http, limits, read, rule};

const ALLOWED: [u8; 4] = [127, 0, 0, 1];
const FORBIDDEN: [u8; 4] = [127, 0, 0, 2];

/// A server that may be reached and one that may not, on the same port, so that only the address tells them apart.
async fn two(reply: Reply) -> (Server, Server) {
    for _ in 0..16 {
        let allowed = Server::at(ALLOWED, 0, Arc::clone(&reply)).await;
        let probe =
            tokio::net::TcpListener::bind((std::net::Ipv4Addr::from(FORBIDDEN), allowed.port())).await;
        if probe.is_ok() {
            drop(probe);
            let port = allowed.port();
            return (allowed, Server::at(FORBIDDEN, port, hello()).await);
        }
    }
    panic!("no port is free at both addresses")
}

/// Grants for hosts on a port.
fn on_port(port: u16, hosts: &[&str]) -> Vec<String> {
    hosts.iter().map(|host| format!("net:{host}:{port}")).collect()
}

fn redirect(status: &'static str, location: String) -> Reply {
    Arc::new(move |_| http(status, &format!("location: {location}\r\n"), ""))
}

#[tokio::test]
async fn a_name_is_resolved_once_for_a_connection_and_rejudged() {
    let (allowed, forbidden) = two(hello()).await;
    let names = Arc::new(Told::new(&[("rebinding.example", &[&["127.0.0.1"], &["127.0.0.2"]])]));
    let line = granted(&egress(&["127.0.0.1"], &names), limits());
    let url = format!("http://rebinding.example:{}/", allowed.port());
    let grants = on_port(allowed.port(), &["rebinding.example"]);
    let response = line.send_request(get(&url, &grants)).await.expect("the first answer is opened");
    assert_eq!(response.decisions[0].address, Some(ALLOWED.into()));
    assert_eq!(read(response).await.expect("it is whole"), "hello");
    assert_eq!(names.lookups(), 1, "what was judged is what was connected to");
    let error = line.send_request(get(&url, &grants)).await.expect_err("the second answer is not");
    assert_eq!((rule(&error), error.is_sent), ("loopback address", false));
    assert_eq!((names.lookups(), allowed.connections(), forbidden.connections()), (2, 1, 0));
}

/// The planted fault: whoever judges one answer and connects by another is caught by the same servers and names.
#[tokio::test]
async fn a_second_look_at_a_name_is_caught() {
    let (allowed, forbidden) = two(hello()).await;
    let names = Told::new(&[("rebinding.example", &[&["127.0.0.1"], &["127.0.0.2"]])]);
    let judged = names.next("rebinding.example").expect("an answer");
    assert_eq!(judged, [std::net::IpAddr::from(ALLOWED)]);
    let connected = names.next("rebinding.example").expect("another answer")[0];
    let stream = tokio::net::TcpStream::connect((connected, allowed.port())).await;
    assert!(stream.is_ok());
    tokio::time::timeout(Duration::from_secs(10), async {
        while forbidden.connections() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the forbidden server saw it");
}

#[tokio::test]
async fn no_redirect_leads_inside() {
    for location in [
        "http://127.0.0.2:PORT/",
        "//127.0.0.2:PORT/x",
        "http://127.2:PORT/",
        "http://0x7f.0.0.2:PORT/",
        "http://2130706434:PORT/",
        "http://[::ffff:127.0.0.2]:PORT/",
        "http://[::ffff:7f00:2]:PORT/",
        "http://other.example:PORT/",
        "http://user@127.0.0.1:PORT/",
        "http:\\\\127.0.0.2:PORT/",
        "http:/\\127.0.0.2:PORT/",
        "/\\127.0.0.2:PORT/",
        "\\\\127.0.0.2:PORT/",
        "http://169.254.169.254/latest/meta-data/",
        "file:///etc/passwd",
        "ftp://127.0.0.2:PORT/",
        "javascript:alert(1)",
        "http:127.0.0.2:PORT",
    ] {
        let port = Arc::new(std::sync::OnceLock::new());
        let told = Arc::clone(&port);
        let reply: Reply = Arc::new(move |_| {
            let port: &u16 = told.get().expect("the test knows the port by now");
            http("302 Found", &format!("location: {}\r\n", location.replace("PORT", &port.to_string())), "")
        });
        let (allowed, forbidden) = two(reply).await;
        port.set(allowed.port()).expect("it is set once");
        let names = Arc::new(Told::new(&[("other.example", &[&["127.0.0.2"]])]));
        let line = granted(&egress(&["127.0.0.1"], &names), limits());
        let hosts = ["127.0.0.1", "127.0.0.2", "[::ffff:127.0.0.2]", "other.example", "169.254.169.254"];
        let mut grants = on_port(allowed.port(), &hosts);
        grants.push("net:*".to_owned());
        let url = format!("http://127.0.0.1:{}/", allowed.port());
        let error = line.send_request(get(&url, &grants)).await.expect_err(location);
        assert_ne!(
            rule(&error),
            "default deny",
            "{location}: the grant did not cover it, so nothing was shown"
        );
        assert!(error.is_sent, "{location}: the first hop went out");
        let allowed_hops: Vec<_> = error.decisions.iter().map(|decision| decision.allowed).collect();
        assert_eq!(allowed_hops, [true, false], "{location}");
        assert_eq!((allowed.connections(), forbidden.connections()), (1, 0), "{location}");
    }
}

/// The planted fault: a client that follows redirects by itself reaches the forbidden server.
#[tokio::test]
async fn a_redirect_that_is_followed_without_a_look_is_caught() {
    let forbidden = Server::at(FORBIDDEN, 0, hello()).await;
    let location = format!("http://127.0.0.2:{}/", forbidden.port());
    let allowed = Server::at(ALLOWED, 0, redirect("302 Found", location)).await;
    rustls::crypto::ring::default_provider().install_default().ok();
    let careless = reqwest::Client::builder().no_proxy().build().expect("a client");
    careless.get(format!("http://127.0.0.1:{}/", allowed.port())).send().await.expect("it is followed");
    assert_eq!(forbidden.connections(), 1);
}

#[tokio::test]
async fn a_redirect_is_followed_and_each_hop_is_recorded() {
    let reply: Reply = Arc::new(|request| {
        if request.starts_with("GET /new?a=1 ") {
            http("200 OK", "x-shown: yes\r\n", "arrived")
        } else {
            http("301 Moved", "location: /new?a=1#part\r\n", "")
        }
    });
    let server = Server::at(ALLOWED, 0, reply).await;
    let line = granted(&egress(&["127.0.0.0/8"], &Arc::default()), limits());
    let mut request =
        get(&format!("http://127.0.0.1:{}/old", server.port()), &on_port(server.port(), &["127.0.0.1"]));
    request.headers = vec![("authorization".to_owned(), "Bearer k".to_owned())];
    let response = line.send_request(request).await.expect("it arrives");
    assert_eq!(response.url, format!("http://127.0.0.1:{}/new?a=1", server.port()));
    assert_eq!((response.status, find_header(&response.headers, "x-shown")), (200, Some("yes")));
    let told: Vec<_> =
        response.decisions.iter().map(|decision| (decision.allowed, decision.address)).collect();
    let here = Some(std::net::IpAddr::from(ALLOWED));
    assert_eq!(told, [(true, here), (true, here)]);
    let to = format!("http://127.0.0.1:{}", server.port());
    let grant = format!("grant net:127.0.0.1:{}", server.port());
    assert!(response.decisions.iter().all(|decision| decision.to == to && decision.rule == grant));
    assert_eq!(read(response).await.expect("it is whole"), "arrived");
    let heard = server.heard();
    assert!(heard.iter().all(|request| request.contains("authorization: Bearer k")), "one host keeps it");
    assert!(heard[0].contains("user-agent: dromia/") && heard[0].contains("accept-encoding: identity"));
}

#[tokio::test]
async fn a_body_is_sent_whatever_the_method() {
    let server = Server::at(ALLOWED, 0, hello()).await;
    let line = granted(&egress(&["127.0.0.1"], &Arc::default()), limits());
    let url = format!("http://127.0.0.1:{}/", server.port());
    for (method, body, length) in [
        (HttpMethod::Get, "", None),
        (HttpMethod::Head, "", None),
        (HttpMethod::Delete, "", None),
        (HttpMethod::Delete, "abc", Some(3)),
        (HttpMethod::Put, "abc", Some(3)),
    ] {
        let request = get(&url, &on_port(server.port(), &["127.0.0.1"]));
        let request = EgressRequest { method, body: Bytes::from_static(body.as_bytes()), ..request };
        line.send_request(request).await.expect("it answers");
        let heard = server.heard().pop().expect("it is heard");
        let said = heard.lines().find_map(|line| line.strip_prefix("content-length: ")).map(str::to_owned);
        assert_eq!(said, length.map(|length: usize| length.to_string()), "{heard}");
    }
}

#[tokio::test]
async fn a_redirect_to_another_host_gets_no_credential_or_body() {
    let other = Server::at(ALLOWED, 0, hello()).await;
    let location = format!("http://b.example:{}/", other.port());
    let names = Arc::new(Told::new(&[("a.example", &[&["127.0.0.1"]]), ("b.example", &[&["127.0.0.1"]])]));
    let egress = egress(&["*.example"], &names);
    for (status, method, arrives) in [
        ("302 Found", HttpMethod::Get, true),
        ("307 Temporary", HttpMethod::Get, true),
        ("302 Found", HttpMethod::Post, true),
        ("303 See Other", HttpMethod::Put, true),
        ("307 Temporary", HttpMethod::Post, false),
        ("308 Permanent", HttpMethod::Put, false),
        ("302 Found", HttpMethod::Delete, false),
    ] {
        let first = Server::at(ALLOWED, 0, redirect(status, location.clone())).await;
        let mut grants = on_port(first.port(), &["a.example"]);
        grants.extend(on_port(other.port(), &["b.example"]));
        let before = other.connections();
        let headers = [("authorization", "k"), ("cookie", "k"), ("x-api-key", "k"), ("accept", "text/plain")];
        let request = EgressRequest {
            method,
            url: format!("http://a.example:{}/", first.port()),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            body: if method.is_safe() { Bytes::new() } else { Bytes::from_static(b"secret") },
            grants,
            share: String::new(),
            secrets: Vec::new(),
        };
        let answer = granted(&egress, limits()).send_request(request).await;
        assert_eq!(answer.is_ok(), arrives, "{status} {method}: {answer:?}");
        assert_eq!(other.connections() - before, usize::from(arrives), "{status} {method}");
        if let Err(error) = answer {
            assert_eq!(rule(&error), "redirect", "{status} {method}");
        }
    }
    for heard in other.heard() {
        assert!(heard.starts_with("GET / "), "{heard}");
        assert!(heard.contains("accept: text/plain"), "{heard}");
        for secret in ["authorization", "cookie", "x-api-key", "secret"] {
            assert!(!heard.contains(secret), "{heard}");
        }
    }
}

#[tokio::test]
async fn a_host_without_grant_and_opening_is_never_reached() {
    let server = Server::at(ALLOWED, 0, hello()).await;
    let port = server.port();
    let names = Arc::new(Told::new(&[("wiki.example", &[&["127.0.0.1"]])]));
    let literal = format!("http://127.0.0.1:{port}/");
    let named = format!("http://wiki.example:{port}/");
    for (opened, grant, method, url, refused) in [
        ("", format!("net:127.0.0.1:{port}"), HttpMethod::Get, &literal, Some("loopback address")),
        ("127.0.0.1", "net:127.0.0.1".to_owned(), HttpMethod::Get, &literal, Some("default deny")),
        ("127.0.0.1", "net:*".to_owned(), HttpMethod::Get, &literal, Some("default deny")),
        ("127.0.0.1", format!("net.read:127.0.0.1:{port}"), HttpMethod::Post, &literal, Some("default deny")),
        ("127.0.0.1", format!("net.read:127.0.0.1:{port}"), HttpMethod::Get, &literal, None),
        ("wiki.example", format!("net:wiki.example:{port}"), HttpMethod::Get, &named, None),
        ("*.example", format!("net:*.example:{port}"), HttpMethod::Get, &named, None),
        (
            "other.example",
            format!("net:wiki.example:{port}"),
            HttpMethod::Get,
            &named,
            Some("loopback address"),
        ),
        (
            "wiki.example",
            format!("net:127.0.0.1:{port}"),
            HttpMethod::Get,
            &literal,
            Some("loopback address"),
        ),
        ("10.0.0.0/8", format!("net:127.0.0.1:{port}"), HttpMethod::Get, &literal, Some("loopback address")),
    ] {
        let before = server.connections();
        let opened: Vec<_> = opened.split_whitespace().collect();
        let line = granted(&egress(&opened, &names), limits());
        let request = EgressRequest { method, ..get(url, std::slice::from_ref(&grant)) };
        match (line.send_request(request).await, refused) {
            (Ok(response), None) => assert_eq!(read(response).await.expect("it is whole"), "hello"),
            (Err(error), Some(refused)) => {
                assert_eq!((rule(&error), error.is_sent), (refused, false), "{opened:?} {grant}");
                assert_eq!(server.connections(), before, "{opened:?} {grant}");
            }
            (answer, refused) => panic!("{opened:?} {grant}: {answer:?}, expected {refused:?}"),
        }
    }
}

#[tokio::test]
async fn a_grant_for_the_public_network_opens_no_private_address() {
    let names = Arc::new(Told::new(&[("wiki.example", &[&["127.0.0.1"]])]));
    let line = granted(&egress(&["wiki.example", "127.0.0.0/8"], &names), limits());
    for url in ["http://wiki.example/", "http://127.0.0.1/"] {
        let error = line.send_request(get(url, &["net:*".to_owned()])).await.expect_err(url);
        assert_eq!(rule(&error), "loopback address", "{url}");
    }
}

#[tokio::test]
async fn an_address_of_this_server_is_refused_whatever_is_opened() {
    let door = Server::at(ALLOWED, 0, hello()).await;
    let next = Server::at(ALLOWED, 0, hello()).await;
    let names = Arc::new(Told::new(&[("wiki.example", &[&["127.0.0.1"]]), ("localhost", &[&["127.0.0.1"]])]));
    let egress = egress(&["127.0.0.0/8", "wiki.example", "localhost", "::1"], &names);
    let line = granted(&egress, limits());
    let hosts = ["127.0.0.1", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "wiki.example", "localhost"];
    let ask = |host: &str, port: u16| {
        get(
            &format!("http://{host}:{port}/"),
            &on_port(port, &["127.0.0.1", "[::ffff:127.0.0.1]", "[::7f00:1]", host]),
        )
    };
    line.send_request(ask("127.0.0.1", door.port()))
        .await
        .expect("it is open before it is known to be a door");
    for listens in [door.address, format!("0.0.0.0:{}", door.port()).parse().expect("an address")] {
        egress.keep_from(listens);
        let before = door.connections();
        for host in hosts {
            let error = line.send_request(ask(host, door.port())).await.expect_err(host);
            let found = rule(&error);
            assert!(["own door", "loopback address"].contains(&found), "{host}: {found}");
        }
        assert_eq!(door.connections(), before);
    }
    line.send_request(ask("127.0.0.1", next.port())).await.expect("the next port is no door");
    let plan = EgressClientConfig {
        route: EgressPurpose::Named(format!("http://127.0.0.1:{}/v1", door.port())),
        limits: limits(),
    };
    let named = egress.open_client(plan).expect("a line");
    let error = named
        .send_request(get(&format!("http://127.0.0.1:{}/v1", door.port()), &[]))
        .await
        .expect_err("a door");
    assert_eq!(rule(&error), "own door");
}

#[tokio::test]
async fn a_client_for_a_named_server_reaches_only_that_server() {
    let server = Server::at(ALLOWED, 0, redirect("302 Found", "http://127.0.0.2/".to_owned())).await;
    let other = Server::at(ALLOWED, 0, hello()).await;
    let names = Arc::new(Told::new(&[("localhost", &[&["127.0.0.1"]]), ("api.example", &[&["127.0.0.1"]])]));
    let base = format!("http://127.0.0.1:{}/v1", server.port());
    let egress = egress(&[], &names);
    let line = |url: &str, limits: LineLimits| {
        egress
            .open_client(EgressClientConfig { route: EgressPurpose::Named(url.to_owned()), limits })
            .expect("a line")
    };
    let follows_none = LineLimits { redirects_max: 0, ..limits() };
    let response = line(&base, follows_none.clone())
        .send_request(get(&format!("{base}/x"), &[]))
        .await
        .expect("reached");
    assert_eq!(response.status, 302, "a redirect is its answer");
    assert_eq!(response.decisions[0].rule, "named by the configuration");
    let error =
        line(&base, limits()).send_request(get(&format!("{base}/x"), &[])).await.expect_err("not followed");
    assert_eq!(rule(&error), "not the named server");
    let elsewhere = format!("http://127.0.0.1:{}/", other.port());
    let error = line(&base, limits())
        .send_request(get(&elsewhere, &["net:*".to_owned()]))
        .await
        .expect_err("another");
    assert_eq!((rule(&error), other.connections()), ("not the named server", 0));
    // The name for this machine opens itself; any other name is opened by the operator or not at all.
    let local = format!("http://localhost:{}/", other.port());
    line(&local, limits()).send_request(get(&local, &[])).await.expect("it is this machine");
    let api = format!("http://api.example:{}/", other.port());
    let error =
        line(&api, limits()).send_request(get(&api, &[])).await.expect_err("it says that it is elsewhere");
    assert_eq!(rule(&error), "loopback address");
    let config = EgressConfig {
        private_named: vec!["api.example".parse().expect("a name")],
        private_granted: Vec::new(),
    };
    let opened = GuardedEgress::new(config, Arc::clone(&names) as _);
    let plan = EgressClientConfig { route: EgressPurpose::Named(api.clone()), limits: limits() };
    let line = opened.open_client(plan).expect("a line");
    assert_eq!(read(line.send_request(get(&api, &[])).await.expect("opened")).await.expect("whole"), "hello");
    let line = granted(&opened, limits());
    let error = line
        .send_request(get(&api, &on_port(other.port(), &["api.example"])))
        .await
        .expect_err("not for agents");
    assert_eq!(rule(&error), "loopback address");
    assert!(
        egress
            .open_client(EgressClientConfig {
                route: EgressPurpose::Named("http://u:p@h/".to_owned()),
                limits: limits()
            })
            .is_err()
    );
}

#[tokio::test]
async fn every_egress_limit_ends_the_request_that_exceeds_it() {
    let short = Duration::from_millis(150);
    let chunked = |piece: &str| format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{piece}");
    let long = "x".repeat(2_000);
    let table: [(&str, String, LineLimits, EgressFault); 10] = [
        (
            "a told length",
            http("200 OK", "", &long),
            LineLimits { response_bytes_max: 1_000, ..limits() },
            EgressFault::TooLarge { part: OversizedPart::Response, bytes_max: 1_000 },
        ),
        (
            "an untold length",
            chunked(&format!("7d0\r\n{long}\r\n7d0\r\n{long}\r\n{STALL}")),
            LineLimits { response_bytes_max: 3_000, ..limits() },
            EgressFault::TooLarge { part: OversizedPart::Response, bytes_max: 3_000 },
        ),
        (
            "headers",
            http("200 OK", &format!("x-long: {long}\r\n"), ""),
            LineLimits { header_bytes_max: 1_000, ..limits() },
            EgressFault::TooLarge { part: OversizedPart::Headers, bytes_max: 1_000 },
        ),
        ("packed", http("200 OK", "content-encoding: gzip\r\n", "x"), limits(), EgressFault::Packed),
        (
            "packed twice",
            http("200 OK", "content-encoding: identity, br\r\n", "x"),
            limits(),
            EgressFault::Packed,
        ),
        (
            "no head",
            STALL.to_owned(),
            LineLimits { first_byte: short, ..limits() },
            EgressFault::Late(TimeoutPhase::FirstByte),
        ),
        (
            "a pause",
            chunked(&format!("1\r\nx\r\n{STALL}")),
            LineLimits { stall: short, ..limits() },
            EgressFault::Late(TimeoutPhase::Stall),
        ),
        (
            "a pause that is longer than all",
            chunked(&format!("1\r\nx\r\n{STALL}")),
            LineLimits { total: short, ..limits() },
            EgressFault::Late(TimeoutPhase::Total),
        ),
        ("garbage", "SSH-2.0-OpenSSH_9\r\n\r\n".to_owned(), limits(), EgressFault::Broken),
        (
            "half",
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_owned(),
            limits(),
            EgressFault::Broken,
        ),
    ];
    let egress = egress(&["127.0.0.1"], &Arc::default());
    // What is exactly as long as it may be is taken; `connection` and the length are headers, too.
    for (answer, header_bytes_max, fits) in [
        (http("200 OK", "x-a: bcd\r\n", "123456789"), 10 + 19 + 19, true),
        (http("200 OK", "content-encoding: identity\r\n", "123456789"), 30 + 19 + 19, true),
        (http("200 OK", "x-a: bcd\r\n", "123456789"), 10 + 19 + 18, false),
        (chunked("9\r\n123456789\r\n0\r\n\r\n"), 28, true),
    ] {
        let server = Server::at(ALLOWED, 0, Arc::new(move |_| answer.clone())).await;
        let limits = LineLimits { response_bytes_max: 9, header_bytes_max, ..limits() };
        let request =
            get(&format!("http://127.0.0.1:{}/", server.port()), &on_port(server.port(), &["127.0.0.1"]));
        match granted(&egress, limits).send_request(request).await {
            Ok(response) => assert_eq!((read(response).await.as_deref(), fits), (Ok("123456789"), true)),
            Err(error) => assert!(!fits, "{error:?}"),
        }
    }
    for (what, answer, limits, expected) in table {
        let server = Server::at(ALLOWED, 0, Arc::new(move |_| answer.clone())).await;
        let url = format!("http://127.0.0.1:{}/", server.port());
        let request = get(&url, &on_port(server.port(), &["127.0.0.1"]));
        let ended = tokio::time::timeout(Duration::from_secs(20), async {
            match granted(&egress, limits).send_request(request).await {
                Ok(response) => read(response).await.map(drop),
                Err(error) => {
                    assert!(error.is_sent, "{what}: somebody got it");
                    Err(error.failure)
                }
            }
        });
        assert_eq!(ended.await.expect("no wait is without end"), Err(expected), "{what}");
    }
}

#[tokio::test]
async fn a_head_is_seen_though_its_body_is_not_wanted() {
    for head in ["content-encoding: gzip\r\n", "x-none: 1\r\n"] {
        let answer = format!("HTTP/1.1 410 Gone\r\n{head}content-length: 9999999999\r\n\r\nx{STALL}");
        let server = Server::at(ALLOWED, 0, Arc::new(move |_| answer.clone())).await;
        let url = format!("http://127.0.0.1:{}/", server.port());
        let egress = egress(&["127.0.0.1"], &Arc::default());
        let line = granted(&egress, limits());
        let request = get(&url, &on_port(server.port(), &["127.0.0.1"]));
        let response = line.send_request(request.clone()).await.expect("it answers");
        assert_eq!(response.status, 410);
        read(response).await.expect_err("nobody knows how long it would become");
        let looked = line
            .send_request(EgressRequest { method: HttpMethod::Head, ..request })
            .await
            .expect("it answers");
        assert_eq!(read(looked).await.expect("there is no body"), "");
    }
}

#[tokio::test]
async fn an_endless_way_and_a_long_request_end() {
    let reply: Reply = Arc::new(|_| http("302 Found", "location: /again\r\n", ""));
    let server = Server::at(ALLOWED, 0, reply).await;
    let url = format!("http://127.0.0.1:{}/", server.port());
    let grants = on_port(server.port(), &["127.0.0.1"]);
    let egress = egress(&["127.0.0.1"], &Arc::default());
    let error =
        granted(&egress, limits()).send_request(get(&url, &grants)).await.expect_err("it goes on and on");
    assert_eq!((error.failure, error.decisions.len()), (EgressFault::Redirects { max: 3 }, 4));
    assert_eq!(server.connections(), 4);
    let small = LineLimits { request_bytes_max: 3, header_bytes_max: 20, ..limits() };
    let line = granted(&egress, small);
    // As long as it may be: it goes out and is redirected, as everything here.
    let headers = [("x-a", "bcd"), ("x-b", "cde")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let body = Bytes::from_static(b"abc");
    let full =
        EgressRequest { headers: headers.to_vec(), body, method: HttpMethod::Put, ..get(&url, &grants) };
    let error = line.send_request(full).await.expect_err("it goes on and on");
    assert_eq!(error.failure, EgressFault::Redirects { max: 3 });
    let many = |count: usize| vec![("x-a".to_owned(), "b".to_owned()); count];
    for (count, goes_out) in [(100, true), (101, false)] {
        let request = EgressRequest { headers: many(count), ..get(&url, &grants) };
        let error = granted(&egress, limits()).send_request(request).await.expect_err("it goes on and on");
        assert_eq!(matches!(error.failure, EgressFault::Redirects { .. }), goes_out, "{count}: {error:?}");
    }
    let before = server.connections();
    let long =
        EgressRequest { method: HttpMethod::Post, body: Bytes::from_static(b"four"), ..get(&url, &grants) };
    let error = line.send_request(long).await.expect_err("too long");
    assert_eq!(error.failure, EgressFault::TooLarge { part: OversizedPart::Request, bytes_max: 3 });
    let mut wide = get(&url, &grants);
    wide.headers = vec![("x-long".to_owned(), "y".repeat(11))];
    let error = line.send_request(wide).await.expect_err("too long");
    assert_eq!(error.failure, EgressFault::TooLarge { part: OversizedPart::Headers, bytes_max: 20 });
    for (name, value) in [
        ("host", "127.0.0.2"),
        ("Content-Length", "0"),
        ("transfer-encoding", "chunked"),
        ("proxy-authorization", "k"),
        ("bad name", "x"),
        ("x", "a\r\nhost: b"),
    ] {
        let mut odd = get(&url, &grants);
        odd.headers = vec![(name.to_owned(), value.to_owned())];
        let error = granted(&egress, limits()).send_request(odd).await.expect_err(name);
        assert!(
            matches!(error.failure, EgressFault::Malformed { .. }) && !error.is_sent,
            "{name}: {error:?}"
        );
    }
    assert_eq!(server.connections(), before, "nothing of it went out");
}

#[tokio::test]
async fn only_encrypted_connections_are_made_where_that_is_asked_for() {
    let server = Server::at(ALLOWED, 0, hello()).await;
    let egress = egress(&["127.0.0.1"], &Arc::default());
    let line = granted(&egress, LineLimits { https_only: true, ..limits() });
    let grants = on_port(server.port(), &["127.0.0.1"]);
    let url = format!("http://127.0.0.1:{}/", server.port());
    let error = line.send_request(get(&url, &grants)).await.expect_err("in the clear");
    assert_eq!((rule(&error), server.connections()), ("https only", 0));
}

#[tokio::test]
async fn requests_beyond_the_room_wait_their_turn() {
    let server = Server::at(ALLOWED, 0, Arc::new(|_| STALL.to_owned())).await;
    let egress = egress(&["127.0.0.1"], &Arc::default());
    let line = granted(&egress, LineLimits { requests_max: 1, ..limits() });
    let url = format!("http://127.0.0.1:{}/", server.port());
    let grants = on_port(server.port(), &["127.0.0.1"]);
    let ask = || {
        let (line, request) = (Arc::clone(&line), get(&url, &grants));
        tokio::spawn(async move { line.send_request(request).await.map(drop) })
    };
    let reached = |count: usize| {
        let server = &server;
        tokio::time::timeout(Duration::from_mins(1), async move {
            while server.connections() < count {
                tokio::task::yield_now().await;
            }
        })
    };
    let first = ask();
    reached(1).await.expect("the first goes out");
    let second = ask();
    let early = tokio::time::timeout(Duration::from_millis(200), reached(2)).await;
    assert!(early.is_err(), "the second does not wait");
    first.abort();
    reached(2).await.expect("it goes out when there is room");
    second.abort();
}

#[tokio::test]
async fn one_share_does_not_shut_another_out() {
    let silent = Server::at(ALLOWED, 0, Arc::new(|_| STALL.to_owned())).await;
    let quick = Server::at(ALLOWED, 0, hello()).await;
    let egress = egress(&["127.0.0.1"], &Arc::default());
    let short = Duration::from_secs(2);
    let line = granted(&egress, LineLimits { requests_max: 4, total: short, ..limits() });
    let ask = |port: u16, share: &str| EgressRequest {
        share: share.to_owned(),
        ..get(&format!("http://127.0.0.1:{port}/"), &on_port(port, &["127.0.0.1"]))
    };
    let flood = (0..6).map(|_| {
        let (line, request) = (Arc::clone(&line), ask(silent.port(), "flooding"));
        tokio::spawn(async move { line.send_request(request).await.map(drop) })
    });
    let flood: Vec<_> = flood.collect();
    tokio::time::timeout(Duration::from_secs(10), async {
        while silent.connections() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("its share goes out");
    let response = line.send_request(ask(quick.port(), "other")).await.expect("there is room for another");
    assert_eq!(read(response).await.expect("it is whole"), "hello");
    assert_eq!(silent.connections(), 2, "half of the room is all that it gets");
    for asked in flood {
        asked.await.expect("it ends").expect_err("nobody answers");
    }
}

#[tokio::test]
async fn the_systems_names_know_this_machine() {
    let names = dromia_guard::SystemNames;
    let found = names.resolve_name("localhost".to_owned()).await.expect("every system knows it");
    assert!(found.iter().all(|address| classify_address(*address) == AddressClass::Loopback), "{found:?}");
    assert!(names.is_here(ALLOWED.into()));
    assert!(!names.is_here([203, 0, 113, 1].into()), "a documentation address is nobody's");
}

#[tokio::test]
async fn a_door_at_every_address_is_refused_at_each() {
    let door = Server::at(ALLOWED, 0, hello()).await;
    let names = Arc::new(Told::new(&[]));
    for (listens, refused) in [("0.0.0.0", true), ("[::]", true), ("127.0.0.9", false)] {
        let egress = egress(&["127.0.0.0/8"], &names);
        egress.keep_from(format!("{listens}:{}", door.port()).parse().expect("an address"));
        let url = format!("http://127.0.0.1:{}/", door.port());
        let ask = get(&url, &on_port(door.port(), &["127.0.0.1"]));
        let error = granted(&egress, limits()).send_request(ask).await.err();
        assert_eq!(error.as_ref().map(rule), refused.then_some("own door"), "{listens}");
    }
}

#[tokio::test]
async fn a_public_address_of_this_machine_is_refused_however_it_is_spelled() {
    let names = Arc::new(Told::default().here(&["8.8.8.8"]));
    for host in ["8.8.8.8", "[::ffff:8.8.8.8]"] {
        let ask = get(&format!("http://{host}/"), &["net:*".to_owned()]);
        let error = granted(&egress(&[], &names), limits()).send_request(ask).await.expect_err(host);
        assert_eq!(rule(&error), "address of this machine", "{host}");
    }
}

#[tokio::test]
async fn a_replaced_list_of_openings_counts_from_then_on() {
    let server = Server::at(ALLOWED, 0, hello()).await;
    let names = Arc::new(Told::new(&[]));
    let egress = egress(&["127.0.0.0/8"], &names);
    let line = granted(&egress, limits());
    let ask =
        || get(&format!("http://127.0.0.1:{}/", server.port()), &on_port(server.port(), &["127.0.0.1"]));
    line.send_request(ask()).await.expect("it is open");
    egress.replace_opened(EgressConfig::default());
    let error = line.send_request(ask()).await.expect_err("it is open no more");
    assert_eq!(rule(&error), "loopback address");
}
