//! The proxy on real sockets, before a line that says what a test tells it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;

use bytes::Bytes;
use dromia_contracts::BoxFuture;
use dromia_contracts::egress::{
    EgressBody, EgressDecision, EgressError, EgressFault, EgressRequest, EgressResponse, EgressTunnel,
    HttpMethod, TunnelRequest, TunnelUpload,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::*;

/// A line that says hello to everybody but `refused`, never answers `slow`, breaks off at `torn`, and gives back what is
/// said into a tunnel.
#[derive(Debug, Default)]
pub(super) struct Told {
    sent: Mutex<Vec<EgressRequest>>,
}

fn decision(method: HttpMethod, to: &str, allowed: bool) -> EgressDecision {
    let rule = if allowed { "grant net:*" } else { "default deny" };
    EgressDecision { method, to: to.to_owned(), address: None, allowed, rule: rule.to_owned() }
}

fn refused(method: HttpMethod, to: &str) -> EgressError {
    let failure =
        EgressFault::Refused { rule: "default deny".to_owned(), reason: "it is not granted".to_owned() };
    EgressError { failure, is_sent: false, decisions: vec![decision(method, to, false)] }
}

impl EgressClient for Told {
    fn send_request(&self, request: EgressRequest) -> BoxFuture<'_, Result<EgressResponse, EgressError>> {
        self.sent.lock().expect("nobody panicked").push(request.clone());
        Box::pin(async move {
            let EgressRequest { method, url, .. } = request;
            if url.contains("refused") {
                return Err(refused(method, "http://refused:80"));
            }
            if url.contains("slow") {
                std::future::pending::<()>().await;
            }
            let mut pieces = vec![Ok(Bytes::from_static(b"lo")), Ok(Bytes::from_static(b"hel"))];
            if url.contains("torn") {
                pieces.insert(0, Err(EgressFault::Broken));
            }
            let headers = [("x-a", "1"), ("connection", "keep-alive"), ("transfer-encoding", "chunked")];
            let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            let decisions = vec![decision(method, "http://h:80", true)];
            Ok(EgressResponse { status: 200, headers, url, decisions, body: Box::new(Pieces(pieces)) })
        })
    }

    fn request_tunnel(&self, request: TunnelRequest) -> BoxFuture<'_, Result<EgressTunnel, EgressError>> {
        Box::pin(async move {
            if request.to.contains("refused") {
                return Err(refused(HttpMethod::Connect, "https://refused:443"));
            }
            let (up, down) = mpsc::channel(4);
            let decisions = vec![decision(HttpMethod::Connect, "https://h:443", true)];
            Ok(EgressTunnel { decisions, down: Box::new(Back(down)), up: Box::new(There(Some(up))) })
        })
    }
}

/// The pieces of a body, the last one first.
struct Pieces(Vec<Result<Bytes, EgressFault>>);

impl EgressBody for Pieces {
    fn next_chunk(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, EgressFault>> {
        Box::pin(std::future::ready(self.0.pop().transpose()))
    }
}

struct Back(mpsc::Receiver<Bytes>);

impl EgressBody for Back {
    fn next_chunk(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, EgressFault>> {
        Box::pin(async move { Ok(self.0.recv().await) })
    }
}

struct There(Option<mpsc::Sender<Bytes>>);

impl TunnelUpload for There {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), EgressFault>> {
        Box::pin(async move {
            let Some(up) = self.0.as_ref() else { return Err(EgressFault::Broken) };
            up.send(bytes).await.map_err(|_| EgressFault::Broken)
        })
    }

    fn finish(&mut self) -> BoxFuture<'_, Result<(), EgressFault>> {
        self.0 = None;
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A proxy for an agent, and where its program finds it.
fn open(line: &Arc<Told>) -> (EgressProxy, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.set_nonblocking(true).expect("a socket");
    let address = listener.local_addr().expect("an address");
    let way = ProxyUpstream {
        line: Arc::clone(line) as _,
        grants: vec!["net:h".to_owned()],
        share: "tenant".to_owned(),
    };
    (EgressProxy::start_listening(listener, way).expect("it is open"), address)
}

/// Says something to the proxy and hears all that comes back.
async fn ask(proxy: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(proxy).await.expect("it is there");
    stream.write_all(text.as_bytes()).await.expect("it is sent");
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await.expect("it answers");
    heard
}

#[tokio::test]
async fn a_proxied_answer_comes_back_whole_or_visibly_torn() {
    let line = Arc::new(Told::default());
    let (proxy, address) = open(&line);
    let text = "POST http://h/p HTTP/1.1\r\nhost: other\r\nx-b: 2\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\nhiGET";
    let heard = ask(address, text).await;
    assert_eq!(
        heard,
        "HTTP/1.1 200 \r\nconnection: close\r\nx-a: 1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
    );
    let heard = ask(address, "GET http://torn/ HTTP/1.1\r\n\r\n").await;
    assert!(heard.ends_with("2\r\nlo\r\n"), "without its end: {heard}");
    let sent = line.sent.lock().expect("nobody panicked").clone();
    let first = &sent[0];
    assert_eq!(
        (first.method, first.url.as_str(), &first.body[..]),
        (HttpMethod::Post, "http://h/p", &b"hi"[..])
    );
    assert_eq!(first.headers, [("x-b".to_owned(), "2".to_owned())]);
    assert_eq!((&first.grants[..], first.share.as_str()), (&["net:h".to_owned()][..], "tenant"));
    let judged = proxy.close_and_report().await;
    assert_eq!((judged.let_out, judged.refused, judged.decisions.len()), (2, 0, 2));
}

#[tokio::test]
async fn a_tunnel_carries_both_ways_what_came_early_too() {
    let line = Arc::new(Told::default());
    let (proxy, address) = open(&line);
    let mut stream = TcpStream::connect(address).await.expect("it is there");
    stream.write_all(b"CONNECT h:443 HTTP/1.1\r\n\r\nearly").await.expect("it is sent");
    let mut heard = vec![0; "HTTP/1.1 200 Connection established\r\n\r\nearly".len()];
    stream.read_exact(&mut heard).await.expect("it answers");
    assert!(heard.ends_with(b"\r\n\r\nearly"), "{heard:?}");
    stream.write_all(b" late").await.expect("it is sent");
    stream.shutdown().await.expect("that is all");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.expect("it comes back");
    assert_eq!(rest, " late");
    let judged = proxy.close_and_report().await;
    assert_eq!(judged.decisions, [decision(HttpMethod::Connect, "https://h:443", true)]);
}

#[tokio::test]
async fn a_refused_proxy_request_gets_its_reason_and_a_record() {
    let line = Arc::new(Told::default());
    let (proxy, address) = open(&line);
    for (text, status) in [
        ("CONNECT refused:443 HTTP/1.1\r\n\r\n", "HTTP/1.1 403 "),
        ("GET http://refused/secret HTTP/1.1\r\n\r\n", "HTTP/1.1 403 "),
    ] {
        let heard = ask(address, text).await;
        assert!(heard.starts_with(status) && heard.ends_with("\r\n\r\nit is not granted\n"), "{heard}");
    }
    let heard = ask(address, "GET / HTTP/1.1\r\n\r\n").await;
    assert!(heard.starts_with("HTTP/1.1 400 ") && heard.contains("this is a proxy"), "{heard}");
    let judged = proxy.close_and_report().await;
    assert_eq!((judged.let_out, judged.refused), (0, 2), "what is no request was not judged");
    let told: Vec<_> = judged.decisions.iter().map(|decision| decision.to.as_str()).collect();
    assert_eq!(told, ["https://refused:443", "http://refused:80"]);
}

#[tokio::test]
async fn an_unanswered_request_is_recorded_when_its_program_ends() {
    let line = Arc::new(Told::default());
    let (proxy, address) = open(&line);
    let mut stream = TcpStream::connect(address).await.expect("it is there");
    stream.write_all(b"GET http://slow:81/secret HTTP/1.1\r\n\r\n").await.expect("it is sent");
    while line.sent.lock().expect("nobody panicked").is_empty() {
        tokio::task::yield_now().await;
    }
    let judged = proxy.close_and_report().await;
    let [decision] = &judged.decisions[..] else { panic!("{judged:?}") };
    assert_eq!((decision.to.as_str(), decision.allowed), ("http://slow:81", true));
    assert!(decision.rule.starts_with("sent; the program ended"), "{decision:?}");
}
