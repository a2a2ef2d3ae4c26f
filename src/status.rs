//! `prism_crypt.status()`: one row per check. A problem is a row, never an error.

use crate::error::Error;
use crate::hooks;
use crate::keyring;
use crate::processor;
use crate::settings;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

type Check = (&'static str, String, bool);

/// `prism_crypt.status() → table(name text, setting text, ok boolean)`
#[pg_extern(sql = false)]
fn status() -> Result<
    TableIterator<'static, (name!(name, &'static str), name!(setting, String), name!(ok, bool))>,
    ErrorReport,
> {
    let mut checks = vec![
        ("algorithm", "AES-256-GCM".to_owned(), true),
        ("key_source", key_source(), settings::master_key_source().is_some()),
        check("master_fingerprint", keyring::master_fingerprints().map(|all| all.join(", "))),
        check("active_versions", active_versions()),
    ];
    checks.extend(keys());
    checks.push(seals());
    checks.extend(finding("invalid_indexes", INVALID_INDEXES)?);
    checks.extend(finding("unexpected_grants", UNEXPECTED_GRANTS)?);
    checks.extend(finding("namesakes", NAMESAKES)?);
    checks.push(hardware());
    checks.push(("built_for", processor::BUILT_FOR.to_owned(), true));
    checks.push(preload());
    checks.push(sees_statements_first());
    checks.push(("library_version", LIBRARY_VERSION.to_owned(), true));
    checks.push(extension_version()?);
    checks.push(("postgresql_version", postgresql_version(), true));
    let enabled = checks.iter().all(|(name, _, ok)| {
        *ok || matches!(
            *name,
            "seals"
                | "invalid_indexes"
                | "unexpected_grants"
                | "namesakes"
                | "hardware_aes"
                | "preloaded"
                | "sees_statements_first"
                | "extension_version"
        )
    });
    checks.insert(0, ("enabled", if enabled { "yes" } else { "no" }.to_owned(), enabled));
    Ok(TableIterator::new(checks))
}

fn check(name: &'static str, result: Result<String, Error>) -> Check {
    match result {
        Ok(setting) => (name, setting, true),
        Err(error) => (name, explained(&error), false),
    }
}

/// Its message and its detail, as there is no other place for it here.
fn explained(error: &Error) -> String {
    error.detail().map_or_else(|| error.to_string(), |detail| format!("{error}. {detail}"))
}

fn key_source() -> String {
    settings::master_key_source().map_or_else(|| "none".to_owned(), |(setting, _)| setting.to_owned())
}

/// For example `default: 3, tenant_42: 7`. Having none is a problem.
fn active_versions() -> Result<String, Error> {
    let active = keyring::active_versions()?;
    if active.is_empty() {
        return Err(Error::NoDataKey("default".to_owned()));
    }
    let shown: Vec<_> = active.iter().map(|(keyset, version)| format!("{keyset}: {version}")).collect();
    Ok(shown.join(", "))
}

/// Whether the session's master keys unlock the active keys. Checked only if there are both.
fn keys() -> Option<Check> {
    let active = keyring::active_versions().ok().filter(|active| !active.is_empty())?;
    keyring::master_fingerprints().ok()?;
    let locked = active.iter().find_map(|(_, version)| keyring::can_unlock(*version).err());
    Some(match locked {
        Some(error) => ("active_keys_unlock", explained(&error), false),
        None => ("active_keys_unlock", "yes".to_owned(), true),
    })
}

/// Upper bounds of how many values the active keys have sealed: `default: 12345 of 4294967296, tenant_42: not counted`.
fn seals() -> Check {
    let counts = match keyring::seal_counts() {
        Ok(counts) => counts,
        Err(error) => return ("seals", explained(&error), false),
    };
    let ok = counts.iter().all(|(_, count)| count.is_some_and(|count| count < keyring::SEAL_WARNING));
    let shown: Vec<_> = counts
        .iter()
        .map(|(keyset, count)| match count {
            Some(count) => format!("{keyset}: {count} of {}", keyring::SEAL_LIMIT),
            None => format!("{keyset}: not counted"),
        })
        .collect();
    ("seals", shown.join(", "), ok)
}

/// The problem that a catalog query finds; `None` if it finds none.
fn finding(name: &'static str, query: &str) -> Result<Option<Check>, ErrorReport> {
    Ok(text_of(query)?.map(|found| (name, found, false)))
}

/// The text that a catalog query gives.
fn text_of(query: &str) -> Result<Option<String>, Error> {
    Spi::connect(|client| client.select(query, Some(1), &[])?.first().get_one::<String>())
        .map_err(|_| Error::Internal("the catalogs can't be looked through"))
}

/// Invalid indexes, with the command that fixes each: those built before their index key arrived, and leftovers of failed
/// builds.
const INVALID_INDEXES: &str = "SELECT prism_crypt._invalid_search_indexes()";
/// Grants that were not made by `grant_access()`.
const UNEXPECTED_GRANTS: &str = "SELECT prism_crypt._unexpected_grants()";
/// Objects from outside the extension that may be mistaken for its own.
const NAMESAKES: &str = "SELECT prism_crypt._namesakes()";

/// The CPU instructions that the cipher uses if available.
fn hardware() -> Check {
    #[cfg(target_arch = "x86_64")]
    let (name, present) = (
        "AES-NI, PCLMULQDQ",
        std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq"),
    );
    #[cfg(target_arch = "aarch64")]
    let (name, present) = (
        "ARMv8 AES, PMULL",
        std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull"),
    );
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let (name, present) = ("none", false);
    ("hardware_aes", if present { name } else { "no" }.to_owned(), present)
}

/// Without preloading, a key that is set before the first use stays an unprotected placeholder until then.
fn preload() -> Check {
    let preloaded = hooks::were_preloaded();
    ("preloaded", if preloaded { "yes" } else { "no" }.to_owned(), preloaded)
}

/// A library that was loaded later sees statements before this one, and keeps the text of those that set a key.
fn sees_statements_first() -> Check {
    let first = hooks::is_outermost();
    let setting = if first { "yes" } else { "no: list prism_crypt last in shared_preload_libraries" };
    ("sees_statements_first", setting.to_owned(), first)
}

const LIBRARY_VERSION: &str = env!("CARGO_PKG_VERSION");
const EXTENSION_VERSION: &str =
    "SELECT extversion FROM pg_catalog.pg_extension WHERE extname OPERATOR(pg_catalog.=) 'prism_crypt'";

/// The version of the SQL objects. A library works with those of earlier versions, but need not have what later ones call: then
/// the server still runs the library from before an update, or is a standby that was not updated.
fn extension_version() -> Result<Check, ErrorReport> {
    let version = text_of(EXTENSION_VERSION)?.unwrap_or_else(|| "none".to_owned());
    let ok = is_known(&version, LIBRARY_VERSION);
    let setting = if ok {
        version
    } else {
        format!("{version}: newer than the library; install that of this version and restart")
    };
    Ok(("extension_version", setting, ok))
}

/// Whether a library of this version knows the SQL of that version. A version that is no three numbers is none of ours.
fn is_known(sql: &str, library: &str) -> bool {
    fn numbers(version: &str) -> Option<Vec<u32>> {
        version.split('.').map(|number| number.parse().ok()).collect()
    }
    matches!((numbers(sql), numbers(library)), (Some(sql), Some(library)) if sql <= library)
}

fn postgresql_version() -> String {
    pg_sys::PG_VERSION.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::is_known;

    #[test]
    fn libraries_know_what_is_not_newer() {
        for (sql, library, known) in [
            ("0.3.0", "0.3.0", true),
            ("0.2.0", "0.3.0", true),
            ("0.9.12", "0.10.0", true),
            ("0.10.0", "0.9.12", false),
            ("0.3.1", "0.3.0", false),
            ("1.0.0", "0.3.0", false),
            ("unpackaged", "0.3.0", false),
            ("", "0.3.0", false),
        ] {
            assert_eq!(is_known(sql, library), known, "{sql} by {library}");
        }
    }
}
