//! The rows of `prism_crypt.data_key` and `prism_crypt.index_key`.

use super::invalidation;
use super::own_table::{self, Row};
use super::replaced::{self, NewOrder};
use crate::error::Error;
use pgrx::pg_sys;
use prism_envelope::{KeyVersion, SearchTag};
use std::collections::BTreeMap;
use std::ffi::CStr;

const INDEX_KEY_TABLE: &CStr = c"index_key";
const CARRIED_TABLE: &CStr = c"carried_key";
const USAGE_TABLE: &CStr = c"data_key_usage";

/// The columns that are read of data keys and of index keys. Carried keys have both sets.
const DATA_KEY: [&CStr; 5] = [c"version", c"keyset", c"state", c"wrapped", c"master_fingerprint"];
const INDEX_KEY: [&CStr; 5] = [c"keyset", c"generation", c"state", c"wrapped", c"master_fingerprint"];

/// The life of a data key (NIST SP 800-57 part 1, section 7; names as in Tink and Vault).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// Seals new values. One per keyset.
    Active,
    /// Reads old values.
    DecryptOnly,
    /// Reads nothing until it is enabled again.
    Disabled,
    /// Gone.
    Destroyed,
}

impl KeyState {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "active" => Self::Active,
            "decrypt_only" => Self::DecryptOnly,
            "disabled" => Self::Disabled,
            "destroyed" => Self::Destroyed,
            _ => return None,
        })
    }
}

/// One data key, as far as it matters here.
pub struct KeyRow {
    pub keyset: String,
    pub state: KeyState,
    pub wrapped: Vec<u8>,
    pub master_fingerprint: String,
    /// The generation of the keyset's index key; `None` if it has none, or if this key is destroyed, so that no tag can be made.
    pub index_generation: Option<u8>,
    /// The transaction that set `index_generation`.
    generation_set_by: pg_sys::TransactionId,
}

impl KeyRow {
    /// Whether a tag was made with an index key that has been replaced; never for a destroyed key.
    pub fn is_outdated(&self, tag: SearchTag) -> bool {
        self.index_generation.is_some_and(|last| last != tag.generation())
    }
}

/// The latest index key of a keyset. Earlier ones are destroyed.
pub struct IndexKeyRow {
    pub generation: u8,
    pub state: KeyState,
    pub wrapped: Vec<u8>,
    pub master_fingerprint: String,
    written_by: pg_sys::TransactionId,
}

/// All rows.
pub struct KeyTable {
    key_table: pg_sys::Oid,
    usage_table: Option<pg_sys::Oid>,
    rows: BTreeMap<KeyVersion, KeyRow>,
    active: BTreeMap<String, KeyVersion>,
    index_keys: BTreeMap<String, IndexKeyRow>,
}

impl KeyTable {
    /// Reads the tables.
    pub fn read() -> Result<Self, Error> {
        let result = read_tables();
        if result.is_err() {
            invalidation::mark_stale();
        }
        result
    }

    /// The oid of `prism_crypt.data_key`, from which this was read.
    pub fn key_table(&self) -> pg_sys::Oid {
        self.key_table
    }

    /// The oid of `prism_crypt.data_key_usage`, if the extension has it.
    pub fn usage_table(&self) -> Option<pg_sys::Oid> {
        self.usage_table
    }

    /// Whether these rows give values another index key than the rows that were read before.
    ///
    /// Rows that the running transaction wrote are its own change. Whoever writes a row locks it, and has read the
    /// table since others could last change it; or rebuilds the indexes.
    pub fn order_after(&self, before: &Self) -> NewOrder {
        let mut order = NewOrder::Unchanged;
        for (version, row) in &before.rows {
            let Some(now) = self.rows.get(version) else { continue };
            // Only a rollback brings a destroyed key back.
            if now.index_generation == row.index_generation || row.state == KeyState::Destroyed {
                continue;
            }
            // SAFETY: reads the state of this session's transaction.
            if !unsafe { pg_sys::TransactionIdIsCurrentTransactionId(now.generation_set_by) } {
                return NewOrder::Theirs;
            }
            let replaced = row.index_generation.is_some() && now.index_generation.is_some();
            match (replaced, &order) {
                (true, _) => order = NewOrder::Ours(Some(now.generation_set_by)),
                (false, NewOrder::Unchanged) => order = NewOrder::Ours(None),
                (false, _) => {}
            }
        }
        order
    }

    /// The row of a version.
    pub fn get(&self, version: KeyVersion) -> Option<&KeyRow> {
        self.rows.get(&version)
    }

    /// The active version of a keyset.
    pub fn active_version(&self, keyset: &str) -> Option<KeyVersion> {
        self.active.get(keyset).copied()
    }

    /// `error` for a keyset that has no key of that kind, or the error for an unknown keyset.
    pub fn want_of_key(&self, keyset: &str, error: fn(String) -> Error) -> Error {
        let is_known = keyset == "default" || self.rows.values().any(|row| row.keyset == keyset);
        if is_known { error(keyset.to_owned()) } else { Error::NoKeyset(keyset.to_owned()) }
    }

    /// Whether the master key with this fingerprint wraps any key that is not destroyed.
    pub fn has_master(&self, fingerprint: &str) -> bool {
        let data_keys = self.rows.values().map(|row| (row.state, &row.master_fingerprint));
        let index_keys = self.index_keys.values().map(|row| (row.state, &row.master_fingerprint));
        data_keys.chain(index_keys).any(|(state, known)| state != KeyState::Destroyed && known == fingerprint)
    }

    /// Every keyset's active version.
    pub fn active(&self) -> impl Iterator<Item = (&str, KeyVersion)> {
        self.active.iter().map(|(keyset, version)| (keyset.as_str(), *version))
    }

    /// The latest index key of a keyset.
    pub fn index_key(&self, keyset: &str) -> Option<&IndexKeyRow> {
        self.index_keys.get(keyset)
    }

    fn insert(&mut self, row: &Row<'_>) -> Option<()> {
        let written_by = row.written_by();
        // SAFETY: the columns have the types of the install script: integer, text and bytea.
        let (version, row) = unsafe {
            let version: i32 = row.get(0)?;
            let keyset: String = row.get(1)?;
            let state = KeyState::from_name(&row.get::<String>(2)?)?;
            // A value whose key is destroyed keeps its tag: nobody can make a new one, and indexes must stay in order.
            let is_destroyed = state == KeyState::Destroyed;
            let index_key = self.index_keys.get(&keyset).filter(|_| !is_destroyed);
            let index_generation = index_key.map(|key| key.generation);
            let generation_set_by = match index_key {
                Some(key) => key.written_by,
                None if is_destroyed => written_by,
                None => pg_sys::InvalidTransactionId,
            };
            let row = KeyRow {
                keyset,
                state,
                wrapped: row.get(3)?,
                master_fingerprint: row.get(4)?,
                index_generation,
                generation_set_by,
            };
            (KeyVersion::new(u32::try_from(version).ok()?)?, row)
        };
        if row.state == KeyState::Active {
            self.active.insert(row.keyset.clone(), version);
        }
        self.rows.insert(version, row);
        Some(())
    }

    fn insert_index_key(&mut self, row: &Row<'_>) -> Option<()> {
        let written_by = row.written_by();
        // SAFETY: the columns have the types of the install script: text, integer and bytea.
        let (keyset, row) = unsafe {
            let keyset: String = row.get(0)?;
            let row = IndexKeyRow {
                generation: u8::try_from(row.get::<i32>(1)?).ok()?,
                state: KeyState::from_name(&row.get::<String>(2)?)?,
                wrapped: row.get(3)?,
                master_fingerprint: row.get(4)?,
                written_by,
            };
            (keyset, row)
        };
        if self.index_keys.get(&keyset).is_none_or(|known| known.generation < row.generation) {
            self.index_keys.insert(keyset, row);
        }
        Some(())
    }
}

fn read_tables() -> Result<KeyTable, Error> {
    let key_table = own_table::key_table()
        .ok_or(Error::KeyTable { table: "data_key", detail: "The extension does not own such a table." })?;
    // Before the scans, so that any later change marks these rows as outdated.
    invalidation::listen_for(key_table);
    replaced::listen();
    let mut table = KeyTable {
        key_table,
        usage_table: own_table::find(USAGE_TABLE),
        rows: BTreeMap::new(),
        active: BTreeMap::new(),
        index_keys: BTreeMap::new(),
    };
    if let Some(index_key_table) = own_table::find(INDEX_KEY_TABLE) {
        own_table::scan(index_key_table, "index_key", INDEX_KEY, &mut |row| table.insert_index_key(row))?;
    }
    let carried_table = own_table::find(CARRIED_TABLE);
    if let Some(carried_table) = carried_table {
        let mut known = std::mem::take(&mut table.index_keys);
        own_table::scan(carried_table, "carried_key", INDEX_KEY, &mut |row| {
            if row.is_null(1) { Some(()) } else { table.insert_index_key(row) }
        })?;
        table.index_keys.append(&mut known);
    }
    own_table::scan(key_table, "data_key", DATA_KEY, &mut |row| table.insert(row))?;
    if let Some(carried_table) = carried_table {
        let known = std::mem::take(&mut table.rows);
        let active = std::mem::take(&mut table.active);
        own_table::scan(carried_table, "carried_key", DATA_KEY, &mut |row| {
            if row.is_null(0) { Some(()) } else { table.insert(row) }
        })?;
        table.rows.extend(known);
        // A key may seal only once its own row is there.
        table.active = active;
    }
    Ok(table)
}
