//! TLS as libpq has it, with OpenSSL, as libpq has that too: `PGSSLMODE`, `PGSSLROOTCERT`, `PGSSLCERT`, `PGSSLKEY`.

use crate::error::{Error, Result};
use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslFiletype, SslMethod, SslVerifyMode};
use postgres::config::SslMode;
use postgres_openssl::MakeTlsConnector;
use std::path::PathBuf;

/// What `sslmode` asks for (PostgreSQL's manual, "SSL Support").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    Disable,
    /// `allow` too: both promise nothing.
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl Mode {
    /// That of the connection string, or else of `PGSSLMODE`.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub fn choose(named: SslMode) -> Result<Self> {
        match named {
            SslMode::Disable => return Ok(Self::Disable),
            SslMode::Require => return Ok(Self::Require.max(Self::of_environment()?)),
            // Whether it was named can't be known: it is what there is without.
            _ => {}
        }
        Self::of_environment()
    }

    fn of_environment() -> Result<Self> {
        let Some(name) = std::env::var("PGSSLMODE").ok().filter(|name| !name.is_empty()) else {
            return Ok(Self::Prefer);
        };
        Ok(match name.as_str() {
            "disable" => Self::Disable,
            "allow" | "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return Err(Error::Usage(format!("PGSSLMODE {name:?} is not known"))),
        })
    }

    /// For the handshake before TLS.
    pub fn wire_mode(self) -> SslMode {
        match self {
            Self::Disable => SslMode::Disable,
            Self::Prefer => SslMode::Prefer,
            Self::Require | Self::VerifyCa | Self::VerifyFull => SslMode::Require,
        }
    }
}

/// What connects.
///
/// # Errors
/// [`Error::Connection`] if a certificate can't be read or there is none to verify with.
pub fn connector(mode: Mode) -> Result<MakeTlsConnector> {
    let of_file = |name: &str, default: &str| -> Option<PathBuf> {
        let named = std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        named.or_else(|| {
            Some(std::env::home_dir()?.join(".postgresql").join(default)).filter(|path| path.exists())
        })
    };
    let root = of_file("PGSSLROOTCERT", "root.crt");
    if root.is_none() && matches!(mode, Mode::VerifyCa | Mode::VerifyFull) {
        return Err(Error::Connection {
            detail: "There is no root certificate to verify the server with: PGSSLROOTCERT, ~/.postgresql/root.crt."
                .to_owned(),
        });
    }
    // Anybody has certificates of public authorities: libpq takes them with the server's name only.
    if root.as_ref().is_some_and(|root| root.as_os_str() == "system") && mode != Mode::VerifyFull {
        return Err(Error::Usage("PGSSLROOTCERT=system is for PGSSLMODE=verify-full".to_owned()));
    }
    let failed = |error: ErrorStack| Error::Connection { detail: format!("TLS: {error}.") };
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(failed)?;
    // "if a root CA file exists, the behavior of sslmode=require will be the same as that of verify-ca"
    match root.filter(|_| mode != Mode::Prefer) {
        Some(root) if root.as_os_str() == "system" => builder.set_verify(SslVerifyMode::PEER),
        Some(root) => {
            builder.set_ca_file(root).map_err(failed)?;
            builder.set_verify(SslVerifyMode::PEER);
        }
        None => builder.set_verify(SslVerifyMode::NONE),
    }
    if let (Some(certificate), Some(key)) =
        (of_file("PGSSLCERT", "postgresql.crt"), of_file("PGSSLKEY", "postgresql.key"))
    {
        builder.set_certificate_chain_file(certificate).map_err(failed)?;
        builder.set_private_key_file(key, SslFiletype::PEM).map_err(failed)?;
    }
    let mut connector = MakeTlsConnector::new(builder.build());
    connector.set_callback(move |connection, _| {
        connection.set_verify_hostname(mode == Mode::VerifyFull);
        Ok(())
    });
    Ok(connector)
}
