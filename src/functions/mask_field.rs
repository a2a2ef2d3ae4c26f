//! `mask_field`.

use super::encrypt::context_hash;
use crate::datatype::reading::open_masked;
use crate::datum::{Encrypted, Text, TextResult};
use crate::error::SqlResult;
use crate::privilege::require_execute;
use pgrx::prelude::*;

/// `mask_field(value encrypted_text, context text) → text`. A null value gives null.
#[pg_extern(sql = false)]
fn mask_field(
    value: Option<Encrypted<'_>>,
    context: Option<Text<'_>>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> SqlResult<Option<TextResult>> {
    let Some(value) = value else { return Ok(None) };
    require_execute(fcinfo)?;
    let context = context_hash(context)?;
    Ok(Some(TextResult(open_masked(value.envelope()?, context.as_ref())?)))
}
