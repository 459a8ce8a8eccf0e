//! A server on another machine: its address, and encrypted connections to it.
//!
//! Certificates are checked against the roots of the system, or against one file alone where a file is named; they are read at
//! the first connection and never for a command that uses the socket. An address without encryption is refused unless it is a
//! loopback address, because the token would travel in the open. The token is in no text that is printed.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use hyper::Uri;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;

use crate::context::ReadRoots;
use crate::error::{Error, Outcome};

/// The longest file of certificates that is read; the bundle of a system has a few hundred KiB.
const CA_BYTES_MAX: u64 = 4 << 20;

/// A connection over which HTTP is spoken.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Where a server on the network is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl {
    host: String,
    port: u16,
    is_encrypted: bool,
}

impl ServerUrl {
    /// Host and port, as the header of a request names them.
    pub(crate) fn authority(&self) -> String {
        match (self.is_encrypted, self.port) {
            (true, 443) | (false, 80) => self.host.clone(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }

    /// The host without the brackets of an IPv6 address.
    fn bare_host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.is_encrypted { "https" } else { "http" }, self.authority())
    }
}

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || {
            // The text may hold a password, so it is not repeated.
            "a server is named as https://HOST or https://HOST:PORT, without a user, a path or a query"
                .to_owned()
        };
        let url: Uri = text.parse().map_err(|_| form())?;
        let (Some(scheme), Some(authority)) = (url.scheme_str(), url.authority()) else { return Err(form()) };
        let is_encrypted = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(form()),
        };
        if authority.as_str().contains('@') || !matches!(url.path(), "" | "/") || url.query().is_some() {
            return Err(form());
        }
        if authority.host().is_empty()
            || (authority.port().is_none() && authority.as_str() != authority.host())
        {
            return Err(form());
        }
        let port = authority.port_u16().unwrap_or(if is_encrypted { 443 } else { 80 });
        let url = Self { host: authority.host().to_owned(), port, is_encrypted };
        let address = url.bare_host().parse::<IpAddr>();
        if !is_encrypted && !address.map_or(url.host == "localhost", |address| address.is_loopback()) {
            return Err(format!(
                "{url} is not encrypted, and the token would travel in the open; use https, http serves loopback only"
            ));
        }
        Ok(url)
    }
}

/// A server on the network and how it is spoken to.
#[derive(Clone)]
pub(crate) struct RemoteServer {
    pub(crate) url: ServerUrl,
    token: String,
    ca: Option<PathBuf>,
    roots: Option<ReadRoots>,
    tls: Arc<OnceCell<TlsConnector>>,
}

impl fmt::Debug for RemoteServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteServer").field("url", &self.url).field("ca", &self.ca).finish_non_exhaustive()
    }
}

impl RemoteServer {
    pub(crate) fn new(url: ServerUrl, token: String, ca: Option<PathBuf>, roots: Option<ReadRoots>) -> Self {
        Self { url, token, ca, roots, tls: Arc::default() }
    }

    /// The header that says who asks.
    pub(crate) fn authorization(&self) -> String {
        format!("Bearer {}", self.token)
    }

    /// Connects, and agrees on the encryption where there is one.
    pub(crate) async fn connect(&self) -> Outcome<Box<dyn ByteStream>> {
        let host = self.url.bare_host();
        let stream =
            TcpStream::connect((host, self.url.port)).await.map_err(|error| self.away_error(&error))?;
        // Requests are short and waited for.
        let _slower = stream.set_nodelay(true);
        if !self.url.is_encrypted {
            return Ok(Box::new(stream));
        }
        let tls = self.tls.get_or_try_init(|| async { self.read_certificates() }).await?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| Error::Usage(format!("{host} is not a name that a certificate can have")))?;
        let stream = tls.connect(name, stream).await.map_err(|error| self.handshake_error(&error))?;
        Ok(Box::new(stream))
    }

    fn read_certificates(&self) -> Outcome<TlsConnector> {
        let mut store = RootCertStore::empty();
        if let Some(path) = &self.ca {
            for certificate in read_ca_file(path)? {
                store.add(certificate).map_err(|error| {
                    Error::Usage(format!("{}: a certificate cannot be used: {error}", path.display()))
                })?;
            }
        } else {
            let found = self.roots.as_ref().map(|read| read()).transpose();
            let found = found.map_err(Error::io_error("read the certificates of the system"))?;
            let found = found.unwrap_or_default().into_iter().map(CertificateDer::from);
            // Some systems have roots that no library takes; the others count.
            let (added, _) = store.add_parsable_certificates(found);
            if added == 0 {
                let text = "this machine has no certificates of authorities; name a file of them with --ca";
                return Err(Error::Usage(text.to_owned()));
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Broken(error.to_string()))?
            .with_root_certificates(store)
            .with_no_client_auth();
        Ok(TlsConnector::from(Arc::new(config)))
    }

    fn away_error(&self, error: &std::io::Error) -> Error {
        Error::Away { server: self.url.to_string(), cause: plain_cause(error) }
    }

    /// Says why no encrypted connection came about.
    fn handshake_error(&self, error: &std::io::Error) -> Error {
        let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
            return self.away_error(error);
        };
        let (cause, next) = match tls {
            rustls::Error::InvalidCertificate(problem) => certificate_problem(problem, self.url.bare_host()),
            rustls::Error::InvalidMessage(_) => (
                "it does not speak TLS on this port".to_owned(),
                "check the port, and that `http.tls` is set in the server's dromia.yaml".to_owned(),
            ),
            other => (
                format!("no encrypted connection came about: {other}"),
                "check what listens there".to_owned(),
            ),
        };
        Error::Untrusted { server: self.url.to_string(), cause, next }
    }
}

/// Says what is wrong with a certificate, and what to do.
fn certificate_problem(problem: &CertificateError, host: &str) -> (String, String) {
    let (cause, next) = match problem {
        CertificateError::UnknownIssuer => (
            "this machine does not trust the authority that issued its certificate".to_owned(),
            "name the authority's certificate with --ca FILE, if you trust it",
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            format!("its certificate is for another name than {host}"),
            "use the name for which the certificate was issued, or have the server's certificate issued for this one",
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
            "its certificate has expired".to_owned(),
            "renew the server's certificate, or set this machine's clock",
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
            "its certificate is not valid yet".to_owned(),
            "check the clocks of this machine and of the server",
        ),
        CertificateError::Revoked => {
            ("its certificate was revoked".to_owned(), "renew the server's certificate")
        }
        other => (format!("its certificate cannot be used: {other}"), "replace the server's certificate"),
    };
    (cause, next.to_owned())
}

/// Says in a few words why no connection came about.
fn plain_cause(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
        std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset => {
            "the connection was closed".to_owned()
        }
        _ => error.to_string(),
    }
}

fn read_ca_file(path: &Path) -> Outcome<Vec<CertificateDer<'static>>> {
    let place = path.display();
    let failed = |error| Error::Usage(format!("{place}: {error}"));
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > CA_BYTES_MAX {
        return Err(Error::Usage(format!("{place} is longer than 4 MiB, so it is no file of certificates")));
    }
    let text = std::fs::read(path).map_err(failed)?;
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(found) if found.is_empty() => {
            Err(Error::Usage(format!("{place} has no `-----BEGIN CERTIFICATE-----` in it")))
        }
        Ok(found) => Ok(found),
        Err(_) => Err(Error::Usage(format!("{place} is not a PEM file of certificates"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_an_encrypted_address_or_a_loopback_one() {
        for (text, url, authority) in [
            ("https://agents.example", "https://agents.example", "agents.example"),
            ("https://agents.example:443/", "https://agents.example", "agents.example"),
            ("https://10.0.0.7:7741", "https://10.0.0.7:7741", "10.0.0.7:7741"),
            ("http://127.0.0.1:7741", "http://127.0.0.1:7741", "127.0.0.1:7741"),
            ("http://localhost:7741", "http://localhost:7741", "localhost:7741"),
            ("http://[::1]:7741", "http://[::1]:7741", "[::1]:7741"),
        ] {
            let read: ServerUrl = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((read.to_string().as_str(), read.authority().as_str()), (url, authority));
        }
    }

    #[test]
    fn an_address_that_would_show_the_token_is_refused() {
        for text in
            ["http://agents.example", "http://10.0.0.7:7741", "http://localhost.example", "http://0.0.0.0"]
        {
            let refused = text.parse::<ServerUrl>().expect_err(text);
            assert!(refused.contains("in the open"), "{refused}");
        }
        for text in [
            "agents.example",
            "https://",
            "ftp://agents.example",
            "https://ada:drm_x@agents.example",
            "https://agents.example/v1",
            "https://agents.example?token=drm_x",
            "https://agents.example:",
            "https://agents.example:99999",
        ] {
            let refused = text.parse::<ServerUrl>().expect_err(text);
            assert!(
                refused.starts_with("a server is named as") && !refused.contains("drm_"),
                "{text}: {refused}"
            );
        }
    }

    #[test]
    fn the_token_is_in_no_debug_text() {
        let url = "https://agents.example".parse().expect("an address");
        let server = RemoteServer::new(url, "drm_secret".into(), None, None);
        assert!(!format!("{server:?}").contains("drm_"));
    }
}
