//! Encrypted connections to the database, with libpq's parameters `sslmode` and `sslrootcert`.

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres_rustls::MakeRustlsConnect;
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};

use crate::cli::terminal::environment::text;
use crate::cli::terminal::failure::Failure;
use crate::database::connection::pool::PoolError;

/// The parameters of an address that this file reads.
pub(crate) const PARAMETERS: [&str; 2] = ["sslmode", "sslrootcert"];

/// When connections are encrypted, and how the server is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tls {
    mode: Mode,
    roots: Roots,
}

/// libpq's modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// Where the certificates are that sign the server's.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Roots {
    /// The ones of the operating system.
    System,
    File(PathBuf),
    /// The file in the home directory, if it exists.
    Default(Option<PathBuf>),
}

impl Tls {
    /// Returns the settings from these parameters of the address, or else from the variables that libpq reads.
    pub(crate) fn find(parameters: &[(String, String)]) -> Result<Self, Failure> {
        let find = |key: &str, variable: &str| match parameters.iter().rfind(|(found, _)| found == key) {
            Some((_, value)) if !value.is_empty() => Ok(Some((value.clone(), "the database address".to_owned()))),
            _ => Ok::<_, Failure>(text(variable)?.map(|value| (value, format!("the environment variable {variable}")))),
        };
        let roots = match find("sslrootcert", "PGSSLROOTCERT")? {
            Some((value, _)) if value == "system" => Roots::System,
            Some((value, _)) => Roots::File(value.into()),
            None => Roots::Default(std::env::var_os("HOME").map(|home| Path::new(&home).join(".postgresql/root.crt"))),
        };
        let mode = match find("sslmode", "PGSSLMODE")? {
            Some((value, place)) => Mode::parse(&value).ok_or_else(|| {
                let rule = "must be disable, allow, prefer, require, verify-ca or verify-full";
                Failure::usage(format!("invalid sslmode in {place}: {rule}"))
            })?,
            None if roots == Roots::System => Mode::VerifyFull,
            None => Mode::Prefer,
        };
        // The system's certificates sign those of anybody who owns a domain.
        if roots == Roots::System && mode != Mode::VerifyFull {
            return Err(Failure::usage("invalid sslmode: must be verify-full with sslrootcert=system"));
        }
        Ok(Self { mode, roots })
    }

    /// Returns the modes to connect with, one after the other.
    pub(crate) fn attempts(&self) -> &'static [SslMode] {
        match self.mode {
            Mode::Disable => &[SslMode::Disable],
            Mode::Allow => &[SslMode::Disable, SslMode::Require],
            Mode::Prefer => &[SslMode::Prefer, SslMode::Disable],
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => &[SslMode::Require],
        }
    }

    /// Reads the certificates, and returns what makes encrypted connections.
    pub(crate) fn connector(&self) -> Result<MakeRustlsConnect, PoolError> {
        let provider = Arc::new(ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let roots = self.read_roots()?;
        let verifier = Verifier { roots, verifies_name: self.mode == Mode::VerifyFull, algorithms };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        // A server requires this name if the connection starts with TLS.
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(MakeRustlsConnect::new(config))
    }

    /// Returns nothing if the server is not verified.
    fn read_roots(&self) -> Result<Option<Trusted>, PoolError> {
        let (certificates, path) = match &self.roots {
            Roots::System => {
                let found = rustls_native_certs::load_native_certs();
                let errors = found.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                if found.certs.is_empty() {
                    return Err(format!("could not find the certificates of the system: {errors}").into());
                }
                (found.certs, Path::new("system"))
            }
            Roots::File(path) => (read_certificates(path)?, path.as_path()),
            Roots::Default(Some(path)) if path.exists() => (read_certificates(path)?, path.as_path()),
            Roots::Default(_) if matches!(self.mode, Mode::VerifyCa | Mode::VerifyFull) => {
                return Err(
                    "no root certificate is set to verify the server; set sslrootcert to the file of your CA, \
                            or to `system` for the certificates of the operating system"
                        .into(),
                );
            }
            Roots::Default(_) => return Ok(None),
        };
        let mut store = RootCertStore::empty();
        let (valid, _) = store.add_parsable_certificates(certificates.iter().cloned());
        if valid == 0 {
            return Err(format!("there is no valid certificate in {}", path.display()).into());
        }
        Ok(Some(Trusted { store, certificates }))
    }

    /// Explains an error of a handshake further than its message does.
    pub(crate) fn explain(&self, error: &(dyn StdError + 'static)) -> Option<String> {
        let rustls::Error::InvalidCertificate(reason) = handshake_error(error)? else { return None };
        match reason {
            // The signature is also wrong if another CA has the same name.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Some(match &self.roots {
                Roots::System => "no certificate of the operating system has signed the server's".to_owned(),
                Roots::File(path) | Roots::Default(Some(path)) => {
                    format!("no certificate in {} has signed the server's", path.display())
                }
                Roots::Default(None) => return None,
            }),
            CertificateError::Other(_) => {
                Some("the server's certificate must be of version 3, and must not be that of a CA".to_owned())
            }
            _ => None,
        }
    }
}

impl Mode {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return None,
        })
    }
}

/// Whether a connection failed for a reason that may not hold with encryption, or without it.
pub(crate) fn is_about_encryption(error: &tokio_postgres::Error) -> bool {
    let is_refused = error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION);
    is_refused || handshake_error(error).is_some()
}

fn handshake_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let error = error.source()?.downcast_ref::<io::Error>()?;
    error.get_ref()?.downcast_ref()
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PoolError> {
    let failed =
        |reason: &dyn fmt::Display| format!("could not read the root certificate {}: {reason}", path.display());
    let text = std::fs::read(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => failed(&"the file does not exist"),
        _ => failed(&error),
    })?;
    let certificates = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| failed(&error))?;
    if certificates.is_empty() {
        Err(failed(&"it contains no certificate in PEM format").into())
    } else {
        Ok(certificates)
    }
}

/// The certificates that may sign the server's.
#[derive(Debug)]
struct Trusted {
    store: RootCertStore,
    certificates: Vec<CertificateDer<'static>>,
}

/// Verifies the server as libpq does: if there are root certificates, they must have signed the server's. Its host name
/// counts only in the mode `verify-full`.
#[derive(Debug)]
struct Verifier {
    roots: Option<Trusted>,
    verifies_name: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(roots) = &self.roots else { return Ok(ServerCertVerified::assertion()) };
        let parsed = ParsedCertificate::try_from(certificate)?;
        let all = self.algorithms.all;
        match verify_server_cert_signed_by_trust_anchor(&parsed, &roots.store, intermediates, now, all) {
            Ok(()) => {}
            // A server's certificate can be its own root. It is usually marked as that of a CA, which is refused here.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(_)))
                if roots.certificates.iter().any(|root| root == certificate) => {}
            Err(error) => return Err(error),
        }
        if self.verifies_name {
            verify_server_name(&parsed, name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if self.roots.is_some() {
            return verify_tls13_signature(message, certificate, signature, &self.algorithms);
        }
        // rustls refuses certificates of version 1. They are common, and only their key matters here.
        let key = Certificate::from_der(certificate)
            .and_then(|certificate| certificate.tbs_certificate.subject_public_key_info.to_der())
            .map_err(|_| CertificateError::BadEncoding)?;
        verify_tls13_signature_with_raw_key(message, &key.into(), signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
