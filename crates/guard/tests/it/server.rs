//! Servers on the loopback that count who comes, names that say what a test tells them, and lines to both.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use dromia_contracts::BoxFuture;
use dromia_contracts::egress::{
    Egress as _, EgressClient, EgressClientConfig, EgressError, EgressFault, EgressPurpose, EgressRequest,
    EgressResponse, HttpMethod, LineLimits,
};
use dromia_guard::{EgressConfig, GuardedEgress, NameResolver};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// What a server does with the head of a request.
pub(crate) type Reply = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// A server that hears one request per connection and may leave its answer unfinished.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

/// Stands at the end of an answer behind which nothing more comes and the connection stays.
pub(crate) const STALL: &str = "\u{0}stall";

impl Server {
    /// Listens at a loopback address.
    pub(crate) async fn at(ip: [u8; 4], port: u16, reply: Reply) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::from(ip), port)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let (all, count) = (Arc::clone(&heard), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (all, reply) = (Arc::clone(&all), Arc::clone(&reply));
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while !is_whole(&request) {
                        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    let request = String::from_utf8_lossy(&request).into_owned();
                    let answer = reply(&request);
                    all.lock().unwrap_or_else(PoisonError::into_inner).push(request);
                    let stalls = answer.ends_with(STALL);
                    let answer = answer.trim_end_matches(STALL);
                    let _written = stream.write_all(answer.as_bytes()).await;
                    if stalls {
                        let mut rest = [0; 64];
                        while stream.read(&mut rest).await.is_ok_and(|count| count > 0) {}
                    }
                });
            }
        });
        Self { address, heard, connections }
    }

    /// The requests that came, head and body.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many connections were made to it: what a socket sees.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
    length.is_none_or(|length| body.len() >= length.parse().expect("a length"))
}

/// A whole answer with a status, more head lines and a body; the connection ends behind it.
pub(crate) fn http(status: &str, head: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{head}connection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// A server that says hello to everybody.
pub(crate) fn hello() -> Reply {
    Arc::new(|_| http("200 OK", "content-type: text/plain\r\n", "hello"))
}

/// The names of a test: each has its answers in order, and the last one stays.
#[derive(Debug, Default)]
pub(crate) struct Told {
    answers: Mutex<BTreeMap<String, VecDeque<Vec<IpAddr>>>>,
    here: Vec<IpAddr>,
    lookups: AtomicUsize,
}

impl Told {
    pub(crate) fn new(answers: &[(&str, &[&[&str]])]) -> Self {
        let answers = answers.iter().map(|(name, answers)| {
            let answers: VecDeque<_> = answers.iter().map(|texts| addresses(texts)).collect();
            ((*name).to_owned(), answers)
        });
        Self { answers: Mutex::new(answers.collect()), ..Self::default() }
    }

    /// Tells that addresses are this machine's.
    pub(crate) fn here(mut self, texts: &[&str]) -> Self {
        self.here = addresses(texts);
        self
    }

    pub(crate) fn lookups(&self) -> usize {
        self.lookups.load(Ordering::SeqCst)
    }

    pub(crate) fn next(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.lookups.fetch_add(1, Ordering::SeqCst);
        let mut all = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let answers = all.get_mut(name).ok_or(io::ErrorKind::NotFound)?;
        let next = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        Ok(next.unwrap_or_default())
    }
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

impl NameResolver for Told {
    fn resolve_name(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        Box::pin(std::future::ready(self.next(&name)))
    }

    fn is_here(&self, address: IpAddr) -> bool {
        self.here.contains(&address)
    }
}

/// Bounds that no test of something else meets.
pub(crate) fn limits() -> LineLimits {
    let long = Duration::from_mins(1);
    LineLimits {
        connect: long,
        first_byte: long,
        stall: long,
        total: long,
        request_bytes_max: 1 << 20,
        header_bytes_max: 16 << 10,
        response_bytes_max: 1 << 20,
        redirects_max: 3,
        https_only: false,
        requests_max: 8,
        idle_connections_max: 4,
    }
}

/// A way out with what an operator opens to agents.
pub(crate) fn egress(opened: &[&str], names: &Arc<Told>) -> GuardedEgress {
    // A client builds its TLS side even if it never needs it.
    rustls::crypto::ring::default_provider().install_default().ok();
    let private_granted = opened.iter().map(|text| text.parse().expect("it can be opened")).collect();
    let config = EgressConfig { private_granted, private_named: Vec::new() };
    GuardedEgress::new(config, Arc::clone(names) as _)
}

/// A line for agents.
pub(crate) fn granted(egress: &GuardedEgress, limits: LineLimits) -> Arc<dyn EgressClient> {
    egress.open_client(EgressClientConfig { route: EgressPurpose::Granted, limits }).expect("a line")
}

/// A request that looks.
pub(crate) fn get(url: &str, grants: &[String]) -> EgressRequest {
    EgressRequest {
        method: HttpMethod::Get,
        url: url.to_owned(),
        headers: Vec::new(),
        body: Bytes::new(),
        grants: grants.to_vec(),
        share: "one".to_owned(),
        secrets: Vec::new(),
    }
}

/// Reads an answer to its end.
pub(crate) async fn read(mut response: EgressResponse) -> Result<String, EgressFault> {
    let mut body = Vec::new();
    while let Some(chunk) = response.body.next_chunk().await? {
        body.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8(body).expect("text"))
}

/// The rule of a refusal.
pub(crate) fn rule(error: &EgressError) -> &str {
    match &error.failure {
        EgressFault::Refused { rule, .. } => rule,
        other => panic!("it was not refused: {other:?}"),
    }
}
