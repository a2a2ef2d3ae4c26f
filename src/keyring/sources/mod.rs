//! Where master keys come from: the first source that is set wins, and its keys keep their order.
//!
//! [`load`] reads the source: the setting itself, the output of a command (`command`), a file (`file`), or a variable
//! of the server's environment. The text is parsed into keys; unless it is the setting itself, it is wiped. A backend
//! reads only a limited amount from a command or a file, whatever they give. The settings decide who may choose the source.

mod command;
mod file;

use crate::error::Error;
use crate::settings;
use prism_envelope::{MasterKey, parse_keys};
use std::ffi::{CStr, OsStr};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use zeroize::Zeroizing;

/// The largest file or output, in bytes: far more keys than anybody rotates at once.
const MAX_SOURCE_LEN: usize = 64 * 1024;

/// Reads the master keys; the first one wraps. Never empty.
pub fn load() -> Result<Vec<MasterKey>, Error> {
    let (setting, value) = settings::master_key_source().ok_or(Error::NoMasterKey)?;
    match setting {
        settings::MASTER_KEY => parse(setting, text(setting, value.to_bytes())?),
        settings::MASTER_KEY_COMMAND => parse(setting, text(setting, &command::output(value)?)?),
        settings::MASTER_KEY_FILE => parse(setting, text(setting, &file::contents(path(value))?)?),
        _ => {
            let value = std::env::var_os(path(value)).ok_or(Error::KeyEnvironment)?;
            let value = Zeroizing::new(value.into_encoded_bytes());
            parse(setting, text(setting, &value)?)
        }
    }
}

fn parse(setting: &'static str, text: &str) -> Result<Vec<MasterKey>, Error> {
    let keys = parse_keys(text).map_err(|(line, error)| Error::MasterKey {
        source_name: setting,
        line: Some(line),
        error,
    })?;
    if keys.is_empty() {
        return Err(Error::EmptyKeySource { setting });
    }
    Ok(keys.iter().map(MasterKey::new).collect())
}

fn text<'a>(setting: &'static str, bytes: &'a [u8]) -> Result<&'a str, Error> {
    let error = prism_envelope::KeyError::Encoding;
    std::str::from_utf8(bytes).map_err(|_| Error::MasterKey { source_name: setting, line: None, error })
}

fn path(value: &CStr) -> &OsStr {
    OsStr::from_bytes(value.to_bytes())
}

/// A buffer that is wiped when dropped, and never moves its bytes while it is filled.
fn buffer() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(Vec::with_capacity(MAX_SOURCE_LEN + 1))
}

/// Reads what there is, up to one byte over the limit.
fn read_limited(reader: impl Read, buffer: &mut Vec<u8>) -> std::io::Result<usize> {
    let room = MAX_SOURCE_LEN + 1 - buffer.len();
    reader.take(room as u64).read_to_end(buffer)
}
