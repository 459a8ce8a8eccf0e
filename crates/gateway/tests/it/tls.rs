//! The encrypted door, with a certificate of the tests.

use std::sync::Arc;
use std::time::Duration;

use dromia_gateway::{BuildError, TlsError, TlsFiles};
use dromia_testkit::tls::{AUTHORITY, CERTIFICATE, KEY, OTHER_KEY};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::{full, request, whole};
use crate::world::World;

const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway whose TCP door is encrypted.
pub(crate) async fn encrypted(change: impl FnOnce(&mut dromia_gateway::GatewayConfig)) -> World {
    // The files are needed for the start alone.
    let directory = tempfile::tempdir().unwrap();
    let files = TlsFiles { cert: "cert.pem".into(), key: "key.pem".into() }.relative_to(directory.path());
    std::fs::write(&files.cert, CERTIFICATE).unwrap();
    std::fs::write(&files.key, KEY).unwrap();
    World::with(|config| {
        config.tls = Some(files);
        change(config);
    })
    .await
}

/// Connects as a client that trusts the authority of the tests.
pub(crate) async fn connect(world: &World, protocols: &[&str]) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(AUTHORITY.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = config.unwrap().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(world.handle.tcp_address().unwrap()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

#[tokio::test]
async fn http_1_works_over_tls_with_and_without_alpn() {
    let world = encrypted(|_| {}).await;
    assert!(world.handle.is_encrypted());
    for protocols in [&[][..], &["http/1.1"][..]] {
        let stream = connect(&world, protocols).await;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let answer = sender.send_request(request("GET", "/health").body(full("")).unwrap()).await.unwrap();
        assert_eq!(whole(answer).await.status, 200, "{protocols:?}");
    }
    let asked = request("GET", "/v1/status").body(full("")).unwrap();
    assert_eq!(world.unix(asked).await.status, 200, "the socket needs no key");
}

#[tokio::test]
async fn a_client_that_does_not_encrypt_gets_nothing() {
    let world = encrypted(|_| {}).await;
    let mut stream = TcpStream::connect(world.handle.tcp_address().unwrap()).await.unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // It ends, by a close or by a reset.
    drop(timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection stays open"));
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
    world.until("the connection is gone", |world| world.handle.connections_open() == 0).await;
}

#[tokio::test]
async fn a_client_that_never_agrees_on_a_key_is_closed() {
    let world = encrypted(|config| config.deadlines.header_ms = 50).await;
    let mut stream = TcpStream::connect(world.handle.tcp_address().unwrap()).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection stays open").unwrap();
    assert!(answer.is_empty());
}

#[tokio::test]
async fn mismatched_tls_files_stop_the_start_before_any_bind() {
    let directory = tempfile::tempdir().unwrap();
    let files = TlsFiles { cert: "cert.pem".into(), key: "key.pem".into() }.relative_to(directory.path());
    std::fs::write(&files.cert, CERTIFICATE).unwrap();
    std::fs::write(&files.key, OTHER_KEY).unwrap();
    let socket = directory.path().join("dromia.sock");
    let config = dromia_gateway::GatewayConfig {
        listen: Some("0.0.0.0:0".parse().unwrap()),
        socket: Some(socket.clone()),
        tls: Some(files),
        ..dromia_gateway::GatewayConfig::default()
    };
    let refused = dromia_gateway::build_gateway(config, crate::doors::ports()).await.err();
    assert!(matches!(refused, Some(BuildError::Tls(TlsError::Mismatch { .. }))), "{refused:?}");
    assert!(!socket.exists());
}
