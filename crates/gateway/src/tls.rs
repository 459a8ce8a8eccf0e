//! TLS of the TCP listener: 1.2 and 1.3 over the ring provider, a certificate and its key from two PEM files.
//!
//! The files are read and checked before the listener is bound. While it is open they are checked from time to time:
//! changed ones are used for later connections, and unusable ones are logged and ignored, so a half-written renewal
//! closes nothing. Clients show no certificates here; they have tokens.

mod validity;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

pub use self::validity::CertificateValidity;
use crate::config::TlsFiles;

/// How often the files are looked at again.
const LOOK: Duration = Duration::from_mins(1);

/// The longest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The protocols that are offered, best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Says why the files of TLS cannot be used, naming the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{path} cannot be read: {problem}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        problem: io::Error,
    },
    /// A file is longer than any such file.
    #[error("{path} is longer than 1 MiB, so it is not a certificate or a key")]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// A file is no PEM.
    #[error("{path} is not a PEM file: {problem}")]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// There is no certificate in the file of certificates.
    #[error("{path} has no `-----BEGIN CERTIFICATE-----` in it")]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// There is no key in the file of the key.
    #[error("{path} has no private key, or only an encrypted one, which the server cannot open")]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The certificate or the key is none that can be used.
    #[error("{path} cannot be used: {problem}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The key belongs to another certificate.
    #[error("the key in {key} does not belong to the certificate in {cert}")]
    Mismatch {
        /// The file of the certificate.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
}

/// Checks the files as a start does, and returns how long the certificate is valid.
pub fn inspect_certificate(files: &TlsFiles) -> Result<CertificateValidity, TlsError> {
    let certified = load_certificate(files)?;
    let first = certified.cert.first().and_then(|certificate| validity::certificate_validity(certificate));
    first.ok_or_else(|| TlsError::Unusable {
        path: files.cert.clone(),
        problem: "the first certificate has no validity period".to_owned(),
    })
}

fn read_tls_file(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |problem| TlsError::Unreadable { path: path.to_owned(), problem };
    if fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(TlsError::TooLong { path: path.to_owned() });
    }
    fs::read(path).map_err(failed)
}

fn load_certificate(files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
    let TlsFiles { cert, key } = files;
    let not_pem = |path: &Path, error: &PemError| TlsError::NotPem {
        path: path.to_owned(),
        problem: pem_problem(error),
    };
    let text = read_tls_file(cert)?;
    let chain = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| not_pem(cert, &error))?;
    let Some(first) = chain.first() else {
        return Err(TlsError::NoCertificate { path: cert.clone() });
    };
    let unusable = |path: &PathBuf, problem: String| TlsError::Unusable { path: path.clone(), problem };
    rustls::server::ParsedCertificate::try_from(first).map_err(|error| unusable(cert, error.to_string()))?;
    let secret = PrivateKeyDer::from_pem_slice(&read_tls_file(key)?).map_err(|error| match error {
        PemError::NoItemsFound => TlsError::NoKey { path: key.clone() },
        other => not_pem(key, &other),
    })?;
    let provider = ring::default_provider();
    let secret = provider.key_provider.load_private_key(secret);
    let certified = CertifiedKey::new(chain, secret.map_err(|error| unusable(key, error.to_string()))?);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(_) => Err(TlsError::Mismatch { cert: cert.clone(), key: key.clone() }),
    }
}

/// Says what is wrong with a PEM file, and nothing that is in it.
fn pem_problem(error: &PemError) -> String {
    match error {
        PemError::MissingSectionEnd { .. } => "a section has no `-----END`".to_owned(),
        PemError::IllegalSectionStart { .. } => "the first line of a section is malformed".to_owned(),
        PemError::Base64Decode(_) => "the content of a section is not base64".to_owned(),
        other => other.to_string(),
    }
}

/// What tells one state of the files from another.
type Stamp = [Option<(SystemTime, u64)>; 2];

fn file_stamp(files: &TlsFiles) -> Stamp {
    [&files.cert, &files.key].map(|path| {
        let found = fs::metadata(path).ok()?;
        Some((found.modified().ok()?, found.len()))
    })
}

/// The certificate that is served, and where it comes from.
pub(crate) struct CertificateReloader {
    files: TlsFiles,
    current: Mutex<LoadedCertificate>,
}

struct LoadedCertificate {
    config: Arc<ServerConfig>,
    stamp: Stamp,
}

impl LoadedCertificate {
    fn read_files(files: &TlsFiles) -> Result<Self, TlsError> {
        // Taken first: what changes while the files are read is found at the next look.
        let stamp = file_stamp(files);
        let certified = SingleCertAndKey::from(load_certificate(files)?);
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Unusable { path: files.key.clone(), problem: error.to_string() })?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(certified));
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        Ok(Self { config: Arc::new(config), stamp })
    }
}

impl CertificateReloader {
    pub(crate) fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let current = Mutex::new(LoadedCertificate::read_files(&files)?);
        Ok(Self { files, current })
    }

    /// What the next connection is encrypted with.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.lock().config.clone())
    }

    /// Reads the files again if they changed, and tells whether they did. What cannot be used is left for another look.
    fn reload_if_changed(&self) -> Result<bool, TlsError> {
        if file_stamp(&self.files) == self.lock().stamp {
            return Ok(false);
        }
        let read = LoadedCertificate::read_files(&self.files)?;
        *self.lock() = read;
        Ok(true)
    }

    // A panic under the lock cannot leave a configuration half-written, so a poisoned lock is as good as another.
    fn lock(&self) -> MutexGuard<'_, LoadedCertificate> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for CertificateReloader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

/// Looks at the files again and again; without TLS there is nothing to look at.
pub(crate) async fn keep_fresh(tls: Option<Arc<CertificateReloader>>) {
    let Some(tls) = tls else { return std::future::pending().await };
    loop {
        sleep(LOOK).await;
        let looked = tls.clone();
        match spawn_blocking(move || looked.reload_if_changed()).await {
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => tracing::info!("loaded the renewed certificate"),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the changed TLS files cannot be used; the server keeps the previous \
                                        ones");
            }
            Err(error) => tracing::warn!(%error, "failed to check the TLS files for changes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use dromia_testkit::tls::{AUTHORITY, CERTIFICATE, EXPIRED, KEY, OTHER_KEY};

    use super::*;

    struct Planted {
        directory: tempfile::TempDir,
    }

    impl Planted {
        fn new(cert: &str, key: &str) -> Self {
            let planted = Self { directory: tempfile::tempdir().expect("a directory") };
            planted.write("cert.pem", cert);
            planted.write("key.pem", key);
            planted
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.directory.path().join(name), text).expect("is written");
        }

        fn files(&self) -> TlsFiles {
            TlsFiles { cert: "cert.pem".into(), key: "key.pem".into() }.relative_to(self.directory.path())
        }
    }

    #[test]
    fn good_files_say_how_long_they_are_valid() {
        let chain = format!("{CERTIFICATE}{AUTHORITY}");
        let validity = inspect_certificate(&Planted::new(&chain, KEY).files()).unwrap();
        assert_eq!(validity.not_before.to_string(), "2025-01-01T00:00:00Z");
        assert_eq!(validity.not_after.to_string(), "2124-01-01T00:00:00Z");
        let validity = inspect_certificate(&Planted::new(EXPIRED, KEY).files()).unwrap();
        assert_eq!(validity.not_after.to_string(), "2026-02-01T12:00:00Z");
    }

    #[test]
    fn the_error_names_the_bad_tls_file_and_its_fault() {
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (cert, key, says) in [
            ("", KEY, "cert.pem has no `-----BEGIN CERTIFICATE-----`"),
            (KEY, KEY, "cert.pem has no `-----BEGIN CERTIFICATE-----`"),
            ("-----BEGIN CERTIFICATE-----\n", KEY, "cert.pem is not a PEM file"),
            (garbage, KEY, "cert.pem cannot be used"),
            (CERTIFICATE, "", "key.pem has no private key"),
            (CERTIFICATE, CERTIFICATE, "key.pem has no private key"),
            (CERTIFICATE, OTHER_KEY, "does not belong to the certificate"),
        ] {
            let planted = Planted::new(cert, key);
            let told = inspect_certificate(&planted.files()).unwrap_err().to_string();
            assert!(told.contains(says), "{told}\n{says}");
            assert!(CertificateReloader::open(planted.files()).is_err(), "{says}");
        }
        let planted = Planted::new(CERTIFICATE, KEY);
        fs::remove_file(planted.files().key).unwrap();
        assert!(
            matches!(inspect_certificate(&planted.files()), Err(TlsError::Unreadable { path, .. }) if path.ends_with("key.pem"))
        );
        planted.write("key.pem", &"x".repeat(2 << 20));
        assert!(matches!(inspect_certificate(&planted.files()), Err(TlsError::TooLong { .. })));
    }

    #[test]
    fn changed_files_are_taken_and_bad_ones_are_left() {
        let planted = Planted::new(CERTIFICATE, KEY);
        let tls = CertificateReloader::open(planted.files()).unwrap();
        assert!(!tls.reload_if_changed().unwrap(), "nothing changed");
        let before = tls.lock().config.clone();
        planted.write("cert.pem", &format!("{CERTIFICATE}{AUTHORITY}"));
        assert!(tls.reload_if_changed().unwrap());
        let after = tls.lock().config.clone();
        assert!(!Arc::ptr_eq(&before, &after));
        planted.write("cert.pem", "half of a renewal");
        assert!(tls.reload_if_changed().is_err());
        assert!(tls.reload_if_changed().is_err(), "it is looked at again");
        assert!(Arc::ptr_eq(&after, &tls.lock().config));
        planted.write("cert.pem", EXPIRED);
        assert!(tls.reload_if_changed().unwrap());
    }
}
