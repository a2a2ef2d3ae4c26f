//! Reads `prism_crypt.data_key`.
//!
//! Not through SQL: an application's role has no right to the table, and must not need one to encrypt. The table is
//! found by its fixed schema and must belong to the extension. It is read with a fresh snapshot of committed rows (and
//! our own), as system catalogs are, whatever the isolation level.

use super::invalidation;
use crate::error::Error;
use pgrx::prelude::*;
use prism_envelope::KeyVersion;
use std::collections::BTreeMap;
use std::ffi::CStr;

const SCHEMA: &CStr = c"prism_crypt";
const TABLE: &CStr = c"data_key";
const USAGE_TABLE: &CStr = c"data_key_usage";

/// The life of a data key (NIST SP 800-57 part 1, section 7; names as in Tink and Vault).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// Seals new values. One a keyset.
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

/// One row of the table, as far as it matters here.
pub struct KeyRow {
    pub keyset: String,
    pub state: KeyState,
    pub wrapped: Vec<u8>,
    pub master_fingerprint: String,
}

/// All rows, by version.
pub struct KeyTable {
    key_table: pg_sys::Oid,
    usage_table: Option<pg_sys::Oid>,
    rows: BTreeMap<KeyVersion, KeyRow>,
    active: BTreeMap<String, KeyVersion>,
}

impl KeyTable {
    /// Reads the table.
    pub fn read() -> Result<Self, Error> {
        let result = read_table();
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

    /// The row of a version.
    pub fn get(&self, version: KeyVersion) -> Option<&KeyRow> {
        self.rows.get(&version)
    }

    /// The active version of a keyset.
    pub fn active_version(&self, keyset: &str) -> Option<KeyVersion> {
        self.active.get(keyset).copied()
    }

    /// Whether any key, in whatever state, is of this keyset.
    pub fn has_keyset(&self, keyset: &str) -> bool {
        self.rows.values().any(|row| row.keyset == keyset)
    }

    /// Every keyset's active version.
    pub fn active(&self) -> impl Iterator<Item = (&str, KeyVersion)> {
        self.active.iter().map(|(keyset, version)| (keyset.as_str(), *version))
    }

    fn insert(&mut self, version: KeyVersion, row: KeyRow) {
        if row.state == KeyState::Active {
            self.active.insert(row.keyset.clone(), version);
        }
        self.rows.insert(version, row);
    }
}

fn read_table() -> Result<KeyTable, Error> {
    let table =
        find_table(TABLE).ok_or(Error::KeyTable { detail: "The extension does not own such a table." })?;
    // Before the scan: what changes from here on marks this reading as outdated.
    invalidation::listen_for(table);
    // SAFETY: the relation stays open for as long as it is used. On an error PostgreSQL closes it at the end of the
    // transaction.
    unsafe {
        let relation = pg_sys::table_open(table, pg_sys::AccessShareLock as i32);
        let result = match Columns::find(relation) {
            Some(columns) => scan(relation, columns),
            None => Err(Error::KeyTable { detail: "A column is missing." }),
        };
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
        result
    }
}

/// # Safety
/// `relation` is open, and `columns` are its own.
unsafe fn scan(relation: pg_sys::Relation, columns: Columns) -> Result<KeyTable, Error> {
    let mut table = KeyTable {
        // SAFETY: the relation is open.
        key_table: unsafe { (*relation).rd_id },
        usage_table: find_table(USAGE_TABLE),
        rows: BTreeMap::new(),
        active: BTreeMap::new(),
    };
    // SAFETY: the usual catalog scan; each tuple is used before the next is fetched.
    unsafe {
        let no_snapshot = std::ptr::null_mut();
        let scan = pg_sys::systable_beginscan(
            relation,
            pg_sys::InvalidOid,
            false,
            no_snapshot,
            0,
            std::ptr::null_mut(),
        );
        let mut result = Ok(());
        while result.is_ok() {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            match columns.row(tuple, (*relation).rd_att) {
                Some((version, row)) => table.insert(version, row),
                None => {
                    result =
                        Err(Error::KeyTable { detail: "A row has a version or state that is not known." })
                }
            }
        }
        pg_sys::systable_endscan(scan);
        result.map(|()| table)
    }
}

/// The oid of a table, if it is the extension's own.
fn find_table(name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: catalog look-ups inside a transaction, with string constants.
    unsafe {
        let schema = pg_sys::get_namespace_oid(SCHEMA.as_ptr(), true);
        let table = pg_sys::get_relname_relid(name.as_ptr(), schema);
        let extension = pg_sys::get_extension_oid(SCHEMA.as_ptr(), true);
        let is_ours = schema != pg_sys::InvalidOid
            && table != pg_sys::InvalidOid
            && extension != pg_sys::InvalidOid
            && pg_sys::getExtensionOfObject(pg_sys::RelationRelationId, table) == extension;
        is_ours.then_some(table)
    }
}

/// Attribute numbers, looked up by name.
#[derive(Clone, Copy)]
struct Columns {
    version: i32,
    keyset: i32,
    state: i32,
    wrapped: i32,
    master_fingerprint: i32,
}

impl Columns {
    /// # Safety
    /// `relation` is an open relation.
    unsafe fn find(relation: pg_sys::Relation) -> Option<Self> {
        let number = |name: &CStr| {
            // SAFETY: a catalog look-up for a relation that is open.
            let number = unsafe { pg_sys::get_attnum((*relation).rd_id, name.as_ptr()) };
            (number > 0).then_some(i32::from(number))
        };
        Some(Self {
            version: number(c"version")?,
            keyset: number(c"keyset")?,
            state: number(c"state")?,
            wrapped: number(c"wrapped")?,
            master_fingerprint: number(c"master_fingerprint")?,
        })
    }

    /// # Safety
    /// `tuple` is a row of the relation that the columns were found in, and `descriptor` describes it.
    unsafe fn row(
        self,
        tuple: pg_sys::HeapTuple,
        descriptor: pg_sys::TupleDesc,
    ) -> Option<(KeyVersion, KeyRow)> {
        // SAFETY: the columns have the types of the install script: integer, text and bytea.
        unsafe {
            let version: i32 = attribute(tuple, descriptor, self.version)?;
            let state: String = attribute(tuple, descriptor, self.state)?;
            let row = KeyRow {
                keyset: attribute(tuple, descriptor, self.keyset)?,
                state: KeyState::from_name(&state)?,
                wrapped: attribute(tuple, descriptor, self.wrapped)?,
                master_fingerprint: attribute(tuple, descriptor, self.master_fingerprint)?,
            };
            Some((KeyVersion::new(u32::try_from(version).ok()?)?, row))
        }
    }
}

/// # Safety
/// Attribute `number` of the tuple has the SQL type of `T`.
unsafe fn attribute<T: FromDatum>(
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
    number: i32,
) -> Option<T> {
    let mut is_null = false;
    // SAFETY: as promised by the caller.
    unsafe {
        let datum = pg_sys::heap_getattr(tuple, number, descriptor, &mut is_null);
        T::from_datum(datum, is_null)
    }
}
