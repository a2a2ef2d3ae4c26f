//! The data keys of a database, and what they open.

use super::bytea;
use prism_envelope::armor::{self, ArmorError};
use prism_envelope::{DataKey, Envelope, FormatError, KeyIdentity, KeyVersion, MasterKey};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// A row of `prism_crypt.data_key`.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// The key version.
    pub version: KeyVersion,
    /// The keyset that it belongs to.
    pub keyset: String,
    /// `active`, `decrypt_only`, `disabled` or `destroyed`.
    pub state: String,
    /// The wrapped key; empty once it is destroyed.
    pub wrapped: Vec<u8>,
    /// The fingerprint of the master key that wrapped it.
    pub master_fingerprint: String,
}

impl KeyRow {
    /// The row with these texts, by the names of their columns; `None` if it is not the row of a data key.
    pub fn read<'a>(column: impl Fn(&str) -> Option<&'a [u8]>) -> Option<Self> {
        let text = |name| column(name).and_then(|bytes| std::str::from_utf8(bytes).ok()).map(str::to_owned);
        Some(Self {
            version: KeyVersion::new(text("version")?.parse().ok()?)?,
            keyset: text("keyset")?,
            state: text("state")?,
            wrapped: bytea::read(column("wrapped")?)?,
            master_fingerprint: text("master_fingerprint")?,
        })
    }
}

/// Why a value is not opened. Never holds any of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Reason {
    /// No row has its version.
    #[error("key version {0} does not exist")]
    UnknownVersion(u32),
    /// The key is gone.
    #[error("key version {0} is destroyed")]
    Destroyed(u32),
    /// The master key is another one.
    #[error(
        "encryption key mismatch: key version {version} of keyset \"{keyset}\" is wrapped by the master key {wrapped_by}"
    )]
    Mismatch { version: u32, keyset: String, wrapped_by: String },
    /// The wrapped key was changed.
    #[error("data key version {0} is damaged")]
    DamagedKey(u32),
    /// Wrong key or changed bytes.
    #[error("Decryption failed (wrong key or corrupted data)")]
    Authentication,
    /// It begins like ciphertext and is none.
    #[error("the text form is malformed: {0}")]
    Malformed(String),
    /// Bytes where a text is expected.
    #[error("the value holds bytes, not text")]
    NotText,
    /// A ciphertext that is a part of another text.
    #[error("ciphertext inside other text")]
    InsideText,
}

/// The data keys of a database. They are unwrapped when they are needed.
#[derive(Default)]
pub struct Keyring {
    rows: BTreeMap<KeyVersion, Vec<KeyRow>>,
    unwrapped: HashMap<KeyVersion, Result<Rc<DataKey>, Reason>>,
    plaintext: Vec<u8>,
}

impl Keyring {
    /// Adds a row. The same version may come twice: as a row, and in the view that carries keys.
    pub fn add(&mut self, row: KeyRow) {
        let rows = self.rows.entry(row.version).or_default();
        if !rows.contains(&row) {
            rows.push(row);
        }
    }

    /// Whether there is any key.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether there is a row of this version.
    pub fn knows(&self, version: KeyVersion) -> bool {
        self.rows.contains_key(&version)
    }

    /// The versions that are disabled.
    pub fn disabled(&self) -> Vec<KeyVersion> {
        let is_disabled = |rows: &Vec<KeyRow>| rows.iter().any(|row| row.state == "disabled");
        self.rows.iter().filter(|(_, rows)| is_disabled(rows)).map(|(version, _)| *version).collect()
    }

    /// The first key that a master key is missing for, if these unwrap none of them although there are some.
    pub fn unusable(&mut self, master_keys: &[MasterKey]) -> Option<KeyRow> {
        let versions: Vec<_> = self.rows.keys().copied().collect();
        let mut first = None;
        for version in versions {
            match self.key(version, master_keys) {
                Ok(_) => return None,
                Err(Reason::Mismatch { .. } | Reason::DamagedKey(_)) => {
                    first = first.or_else(|| self.rows.get(&version)?.first().cloned());
                }
                Err(_) => {}
            }
        }
        first
    }

    /// The plaintext of a value in text form.
    ///
    /// # Errors
    /// [`Reason`].
    pub fn open_text(
        &mut self,
        text: &[u8],
        master_keys: &[MasterKey],
    ) -> Result<(KeyVersion, &[u8]), Reason> {
        let envelope = decode(text).map_err(|error| Reason::Malformed(error.to_string()))?;
        let version = self.open(&envelope, master_keys)?;
        // Text in a value is text, whatever was sealed with the flag of bytes.
        if std::str::from_utf8(&self.plaintext).is_err() || self.plaintext.contains(&0) {
            return Err(Reason::NotText);
        }
        Ok((version, &self.plaintext))
    }

    /// The plaintext of an envelope. Its context, if it has one, need not be known.
    ///
    /// # Errors
    /// [`Reason`].
    pub fn open_bytes(
        &mut self,
        envelope: &[u8],
        master_keys: &[MasterKey],
    ) -> Result<(KeyVersion, &[u8]), Reason> {
        let version = self.open(envelope, master_keys)?;
        Ok((version, &self.plaintext))
    }

    fn open(&mut self, envelope: &[u8], master_keys: &[MasterKey]) -> Result<KeyVersion, Reason> {
        let envelope =
            Envelope::parse(envelope).map_err(|error: FormatError| Reason::Malformed(error.to_string()))?;
        let key = self.key(envelope.key_version(), master_keys)?;
        self.plaintext.resize(envelope.plaintext_len(), 0);
        // The header, and so the hash of the context, is authenticated with the rest.
        key.open_into(&envelope, envelope.context().as_ref(), &mut self.plaintext)
            .map_err(|_| Reason::Authentication)?;
        Ok(envelope.key_version())
    }

    fn key(&mut self, version: KeyVersion, master_keys: &[MasterKey]) -> Result<Rc<DataKey>, Reason> {
        if let Some(known) = self.unwrapped.get(&version) {
            return known.clone();
        }
        let number = version.get();
        let mut result = Err(Reason::UnknownVersion(number));
        for row in self.rows.get(&version).into_iter().flatten() {
            let fits = |key: &&MasterKey| key.fingerprint().to_string() == row.master_fingerprint;
            let unwrap =
                |key: &MasterKey| key.unwrap(KeyIdentity::Data(version, &row.keyset), &row.wrapped).ok();
            let named = master_keys.iter().find(fits);
            // A damaged fingerprint is in nobody's way.
            if let Some(key) = named.and_then(unwrap).or_else(|| master_keys.iter().find_map(unwrap)) {
                result = Ok(Rc::new(DataKey::new(version, &key)));
                break;
            }
            result = Err(match named {
                _ if row.wrapped.is_empty() => Reason::Destroyed(number),
                Some(_) => Reason::DamagedKey(number),
                None => Reason::Mismatch {
                    version: number,
                    keyset: row.keyset.clone(),
                    wrapped_by: row.master_fingerprint.clone(),
                },
            });
        }
        self.unwrapped.insert(version, result.clone());
        result
    }
}

/// The envelope of a text form.
///
/// # Errors
/// [`ArmorError`].
pub fn decode(text: &[u8]) -> Result<Vec<u8>, ArmorError> {
    let mut envelope = vec![0; armor::decoded_len_estimate(text.len())];
    let length = armor::decode_into(text, &mut envelope)?;
    envelope.truncate(length);
    Ok(envelope)
}
