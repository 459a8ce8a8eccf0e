//! A client without manners: it says exactly what the test says, and gives back exactly what came.

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};

use crate::world::World;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// Checks that it is a problem with everything a problem has, and returns its code.
    pub(crate) fn code(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{:?}", self.body);
        let problem = self.json();
        assert_eq!(problem["type"], format!("/docs#ErrorCode-{}", problem["code"].as_str().unwrap()));
        assert_eq!(problem["status"], self.status.as_u16());
        assert_eq!(problem["request_id"], self.headers["x-request-id"].to_str().unwrap());
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
        problem["code"].as_str().unwrap().to_owned()
    }

    /// Checks that it is an error of another API and returns its code.
    pub(crate) fn foreign_code(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/json", "{:?}", self.body);
        let error = &self.json()["error"];
        assert!(error["message"].is_string() && error["type"].is_string(), "{error}");
        error["code"].as_str().unwrap().to_owned()
    }

    /// The body without what differs from request to request.
    pub(crate) fn lasting(&self) -> Value {
        let mut json = self.json();
        if let Some(fields) = json.as_object_mut() {
            fields.remove("request_id");
        }
        json
    }
}

/// Begins a request with a loopback host.
pub(crate) fn request(method: &str, path: &str) -> hyper::http::request::Builder {
    Request::builder().method(method).uri(path).header("host", "localhost")
}

impl World {
    pub(crate) async fn open_tcp(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let stream = TcpStream::connect(self.handle.tcp_address().unwrap()).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    }

    pub(crate) async fn open_unix(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    }

    pub(crate) async fn tcp(&self, request: Request<Full<Bytes>>) -> Answer {
        whole(self.open_tcp(request).await).await
    }

    pub(crate) async fn unix(&self, request: Request<Full<Bytes>>) -> Answer {
        whole(self.open_unix(request).await).await
    }

    /// Asks over TCP with our token.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        self.tcp(authorized(request(method, path), &self.ours.token).body(full(body)).unwrap()).await
    }
}

pub(crate) fn authorized(
    builder: hyper::http::request::Builder,
    token: &str,
) -> hyper::http::request::Builder {
    builder.header("authorization", format!("Bearer {token}"))
}

pub(crate) fn full(body: &str) -> Full<Bytes> {
    Full::new(Bytes::from(body.to_owned()))
}

pub(crate) async fn whole(response: Response<Incoming>) -> Answer {
    let (parts, mut body) = response.into_parts();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.unwrap().into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Answer { status: parts.status, headers: parts.headers, body: bytes.freeze() }
}
