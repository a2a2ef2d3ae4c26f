//! Conversion between the server's encoding and UTF-8, the encoding of every sealed text.

use crate::error::Error;
use crate::varlena::{MAX_ENVELOPE_LEN, Varlena};
use pgrx::pg_sys;
use prism_envelope::KeyVersion;
use std::ffi::{c_char, c_int};
use std::sync::OnceLock;

const UTF8: c_int = pg_sys::pg_enc::PG_UTF8 as c_int;

static SERVER_IS_UTF8: OnceLock<bool> = OnceLock::new();

/// Whether the database's encoding is UTF-8, so that no conversion is needed.
#[inline]
pub fn server_is_utf8() -> bool {
    // SAFETY: reads a variable that is fixed once the backend is connected to its database.
    *SERVER_IS_UTF8.get_or_init(|| unsafe { pg_sys::GetDatabaseEncoding() } == UTF8)
}

/// Calls `use_text` with the UTF-8 of a text in the server's encoding.
pub fn with_utf8<T>(text: &[u8], use_text: impl FnOnce(&[u8]) -> Result<T, Error>) -> Result<T, Error> {
    if server_is_utf8() || text.is_ascii() {
        return use_text(text);
    }
    // SAFETY: the text is valid in the server's encoding; null or the same pointer means that there was nothing to convert.
    unsafe {
        let converted = pg_sys::pg_server_to_any(text.as_ptr().cast::<c_char>(), text.len() as c_int, UTF8);
        with_converted(text, converted, use_text)
    }
}

/// Loads the conversion that [`with_utf8`] uses, for calls that can't load anything: see [`crate::interrupts`].
pub fn prepare() {
    if server_is_utf8() {
        return;
    }
    let (text, mut converted) = (*b"a", [0_u8; 16]);
    // SAFETY: a catalog look-up, and a conversion that writes at most `room` bytes, terminator included.
    unsafe {
        let encoding = pg_sys::GetDatabaseEncoding();
        let procedure = pg_sys::FindDefaultConversionProc(encoding, UTF8);
        if procedure != pg_sys::InvalidOid {
            let (source, room) = (text.as_ptr().cast_mut(), converted.len() as c_int);
            let target = converted.as_mut_ptr();
            pg_sys::pg_do_encoding_conversion_buf(procedure, encoding, UTF8, source, 1, target, room, true);
        }
    }
}

/// Whether these bytes are a text in UTF-8. PostgreSQL's have no zeros.
#[inline]
pub fn is_utf8(bytes: &[u8]) -> bool {
    is_ascii(bytes) || (memchr::memchr(0, bytes).is_none() && std::str::from_utf8(bytes).is_ok())
}

/// Whether these bytes are a text in ASCII. One pass, without a branch for each byte, so that it takes many at once.
#[inline]
fn is_ascii(bytes: &[u8]) -> bool {
    const BLOCK: usize = 1024;
    // The highest bit of the second is set for a zero.
    let high = |block: &[u8]| block.iter().fold(0, |all, byte| all | byte | byte.wrapping_sub(1));
    bytes.chunks(BLOCK).all(|block| high(block) < 0x80)
}

/// The text of a decrypted value in the server's encoding. `version` is for the error message.
pub fn text_from_utf8(opened: Varlena, version: KeyVersion) -> Result<Varlena, Error> {
    if !is_utf8(opened.bytes()) {
        return Err(Error::InvalidText(version));
    }
    if server_is_utf8() || opened.bytes().is_ascii() {
        return Ok(opened);
    }
    // SAFETY: reads the encoding of the database. SQL_ASCII takes any bytes.
    let encoding = unsafe { pg_sys::GetDatabaseEncoding() };
    if encoding == pg_sys::pg_enc::PG_SQL_ASCII as c_int {
        return Ok(opened);
    }
    convert(opened.bytes(), encoding).ok_or_else(|| {
        // SAFETY: the name of an encoding is a string constant.
        let name = unsafe { std::ffi::CStr::from_ptr(pg_sys::GetDatabaseEncodingName()) };
        Error::NotInEncoding { version, encoding: name.to_string_lossy().into_owned() }
    })?
}

/// Converts a text in UTF-8 to another encoding; `None` if a character has no equivalent there. PostgreSQL's simpler functions
/// would raise an error.
fn convert(text: &[u8], encoding: c_int) -> Option<Result<Varlena, Error>> {
    /// `MAX_CONVERSION_GROWTH` of `pg_wchar.h`.
    const MAX_GROWTH: usize = 4;
    let mut converted = match Varlena::new((text.len() * MAX_GROWTH + 1).min(MAX_ENVELOPE_LEN)) {
        Ok(converted) => converted,
        Err(error) => return Some(Err(error)),
    };
    // SAFETY: a catalog look-up, and a conversion that writes at most `room` bytes, terminator included.
    unsafe {
        let procedure = pg_sys::FindDefaultConversionProc(UTF8, encoding);
        if procedure == pg_sys::InvalidOid {
            return None;
        }
        let room = converted.bytes().len() as c_int;
        let read = pg_sys::pg_do_encoding_conversion_buf(
            procedure,
            UTF8,
            encoding,
            text.as_ptr().cast_mut(),
            text.len() as c_int,
            converted.bytes_mut().as_mut_ptr(),
            room,
            true,
        );
        if usize::try_from(read) != Ok(text.len()) {
            return None;
        }
    }
    let length = converted.bytes().iter().position(|byte| *byte == 0).unwrap_or_default();
    converted.truncate(length);
    Some(Ok(converted))
}

/// Calls `use_text` with a client's bytes, converted to the server's encoding.
pub fn with_client_text<T>(
    text: &[u8],
    use_text: impl FnOnce(&[u8]) -> Result<T, Error>,
) -> Result<T, Error> {
    // SAFETY: the conversion checks the bytes, and raises PostgreSQL's own error (22021) if they are invalid.
    unsafe {
        let converted = pg_sys::pg_client_to_server(text.as_ptr().cast::<c_char>(), text.len() as c_int);
        with_converted(text, converted, use_text)
    }
}

/// A text in the server's encoding, converted to the client's.
pub fn client_bytes(text: &Varlena) -> Result<Varlena, Error> {
    let text = text.bytes();
    // SAFETY: as in `with_utf8`.
    unsafe {
        let converted = pg_sys::pg_server_to_client(text.as_ptr().cast::<c_char>(), text.len() as c_int);
        with_converted(text, converted, Varlena::copy_of)
    }
}

/// # Safety
/// `converted` is what one of PostgreSQL's conversion functions returned for `text`: null, the same pointer, or a palloc'd,
/// terminated string.
unsafe fn with_converted<T>(
    text: &[u8],
    converted: *mut c_char,
    use_text: impl FnOnce(&[u8]) -> Result<T, Error>,
) -> Result<T, Error> {
    if converted.is_null() || converted.cast_const().cast::<u8>() == text.as_ptr() {
        return use_text(text);
    }
    // SAFETY: as promised by the caller.
    unsafe {
        let result = use_text(std::ffi::CStr::from_ptr(converted).to_bytes());
        pg_sys::pfree(converted.cast());
        result
    }
}
