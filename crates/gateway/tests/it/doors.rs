//! The doors themselves: hosts, slow clients, sockets left behind and sockets in use.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use dromia_contracts::ScopeAuthority;
use dromia_contracts::compute::ComputeHere;
use dromia_contracts::lease::NodeLife;
use dromia_contracts::runtime::Runtime;
use dromia_contracts::store::StoreDamage;
use dromia_contracts::tool_policy::ToolTerms;
use dromia_gateway::{BuildError, ConfigError, GatewayConfig, GatewayPorts, build_gateway};
use hyper::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{full, request};
use crate::fake::audit::Ledger;
use crate::fake::capabilities::Cabinet;
use crate::fake::line::Line;
use crate::fake::tools::FakeToolHost;
use crate::fake::vault::Locker;
use crate::fake::{Rooms, StoppedClock, Tasks, outgoing};
use crate::world::World;

pub(crate) fn ports() -> GatewayPorts {
    let rooms = Arc::new(Rooms::default());
    let runtime = Runtime {
        clock: Arc::new(StoppedClock),
        ids: rooms.clone(),
        spawn: Arc::new(Tasks),
        compute: Arc::new(ComputeHere),
        life: Arc::new(NodeLife::new("test", [1; 32])),
    };
    let outbox = outgoing::outbox(rooms.clone(), runtime.clone(), Arc::default());
    let shelf = Arc::new(FakeToolHost::default());
    let audit = Arc::new(Ledger(rooms.clone()));
    GatewayPorts {
        store: rooms.clone(),
        runs: rooms,
        outbox,
        tools: shelf.clone(),
        files: shelf.clone(),
        gate: shelf,
        reach: Arc::new(Line::default()),
        terms: Arc::new(ToolTerms::default()),
        vault: Arc::new(Locker::default()),
        audit: audit.clone(),
        notary: audit,
        capabilities: Arc::new(Cabinet::default()),
        runtime,
        authority: ScopeAuthority::claim(),
    }
}

#[tokio::test]
async fn a_host_of_another_name_gets_nothing_over_tcp() {
    let world = World::new().await;
    for (host, status) in
        [("localhost", 200), ("127.0.0.1:1", 200), ("evil.example", 403), ("localhost.evil.example", 403)]
    {
        let asked = Request::builder().uri("/health").header("host", host).body(full("")).unwrap();
        assert_eq!(world.tcp(asked).await.status, status, "{host}");
    }
    let asked = Request::builder().uri("/health").header("host", "any").body(full("")).unwrap();
    assert_eq!(world.unix(asked).await.status, 200, "a socket has no name to rebind");
}

#[tokio::test]
async fn another_address_than_loopback_is_refused_before_anything_is_bound() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("dromia.sock");
    let config = GatewayConfig {
        listen: Some("0.0.0.0:0".parse().unwrap()),
        socket: Some(socket.clone()),
        ..GatewayConfig::default()
    };
    let refused = build_gateway(config, ports()).await.err();
    assert!(matches!(refused, Some(BuildError::Config(ConfigError::Unencrypted { .. }))), "{refused:?}");
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_stale_socket_is_replaced_unlike_one_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("dromia.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(socket.exists(), "the dead server's socket");
    let config = GatewayConfig { socket: Some(socket.clone()), ..GatewayConfig::default() };
    let (_gateway, handle) = build_gateway(config.clone(), ports()).await.unwrap();
    assert_eq!(handle.socket_path(), Some(socket.as_path()));
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let refused = build_gateway(config, ports()).await.err();
    assert!(matches!(refused, Some(BuildError::SocketInUse { .. })), "{refused:?}");
    let file = directory.path().join("a-file");
    std::fs::write(&file, "mine").unwrap();
    let config = GatewayConfig { socket: Some(file.clone()), ..GatewayConfig::default() };
    assert!(matches!(build_gateway(config, ports()).await.err(), Some(BuildError::Bind { .. })));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine", "what is no socket is left alone");
}

#[tokio::test]
async fn a_client_with_slow_headers_is_disconnected() {
    let world = World::with(|config| config.deadlines.header_ms = 50).await;
    let mut stream = TcpStream::connect(world.handle.tcp_address().unwrap()).await.unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: local").await.unwrap();
    let mut rest = Vec::new();
    let closed = timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "the connection stays open");
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
}

#[tokio::test]
async fn readiness_follows_the_store_and_metrics_count_by_route() {
    let world = World::new().await;
    let get = |path: &'static str| world.tcp(request("GET", path).body(full("")).unwrap());
    assert_eq!(get("/ready").await.status, 200);
    world.rooms.lock().read_only = Some("disk /dev/secret is full".into());
    let refused = get("/ready").await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (503, "store_read_only"));
    assert!(!String::from_utf8_lossy(&refused.body).contains("secret"));
    let health = get("/health").await;
    assert_eq!((health.status.as_u16(), &health.json()["store"]), (200, &"read_only".into()));
    assert_eq!(health.json().get("damaged"), None);
    world.rooms.lock().read_only = None;
    let problem = "entry 3 of run_secret: its body is missing".to_owned();
    world.rooms.lock().damaged = Some(StoreDamage { problem, ago: Duration::from_secs(5), met: 2 });
    assert_eq!(get("/ready").await.status, 200, "who does not need what is damaged is served");
    let damaged = get("/health").await;
    assert_eq!((&damaged.json()["store"], &damaged.json()["damaged"]), (&"writable".into(), &true.into()));
    assert!(!String::from_utf8_lossy(&damaged.body).contains("secret"));
    world.rooms.lock().read_only = Some("disk /dev/secret is full".into());
    world.ask("GET", &format!("/v1/runs/{}", world.ours.run), "").await;
    world.ask("GET", "/v1/moon", "").await;
    assert_eq!(get("/metrics").await.status, 401, "the meters are nobody's who has no token");
    let text =
        String::from_utf8(world.unix(request("GET", "/metrics").body(full("")).unwrap()).await.body.to_vec())
            .unwrap();
    for line in [
        r#"dromia_http_requests_total{method="GET",route="/v1/runs/{run}",class="2xx"} 1"#,
        r#"dromia_http_requests_total{method="any",route="none",class="4xx"} 1"#,
        r#"dromia_http_requests_total{method="GET",route="/ready",class="5xx"} 1"#,
        r#"dromia_http_request_seconds_count{method="GET",route="/v1/runs/{run}"} 1"#,
        "dromia_store_writable 0",
        "dromia_store_damage_total 2",
        "dromia_store_commits_total 7",
        "dromia_runs_ready 2",
        "dromia_answered_tokens_total{direction=\"input\"} 8",
        "dromia_answered_tokens_total{direction=\"output\"} 9",
        r#"dromia_tasks_total{state="pending"} 5"#,
        r#"dromia_tasks_total{state="running"} 4"#,
        r#"dromia_tasks_total{state="paused"} 3"#,
        r#"dromia_tasks_total{state="completed"} 2"#,
        r#"dromia_tasks_total{state="failed"} 1"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(text.contains(r#"dromia_model_calls_total{tenant="default""#), "{text}");
    assert!(!text.contains(&world.ours.run.to_string()), "an id became a label");
}
