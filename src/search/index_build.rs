//! Rebuilds indexes for functions that change keys.

use crate::error::{Error, SqlResult};
use crate::privilege::Exemption;
use pgrx::prelude::*;

/// `prism_crypt._rebuild_index(index text, without_right boolean)`: REINDEX INDEX, optionally without requiring that the
/// table's owner has the right to search. The name is qualified and quoted.
#[pg_extern(sql = false)]
fn _rebuild_index(index: &str, without_right: bool) -> SqlResult<()> {
    let _exemption = without_right.then(Exemption::begin);
    Ok(Spi::run(&format!("REINDEX INDEX {index}")).map_err(|_| Error::Internal("an index can't be built"))?)
}
