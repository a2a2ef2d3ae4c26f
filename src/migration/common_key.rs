//! Whether applications have the master key of the session that migrates.

use crate::settings;
use pgrx::prelude::*;

/// `prism_crypt._has_common_key() → boolean`: whether this session's master key comes from where every session of the database has it.
/// Applications seal, too, from the moment at which a migration begins.
#[pg_extern(sql = false)]
fn _has_common_key() -> bool {
    settings::master_key_is_common()
}
