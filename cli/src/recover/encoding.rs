//! The encoding of a dump. Opened values are UTF-8, and all of a file must be in one encoding, so a dump in another one is converted.

use crate::error::{Error, Result};
use encoding_rs::{Decoder, DecoderResult};

/// How the bytes of a dump become UTF-8.
#[derive(Default)]
pub enum Encoding {
    /// They are it already, or nobody knows what they are (`SQL_ASCII`).
    #[default]
    AsItIs,
    /// By a table: single bytes below `0xA0` stand for themselves in ISO 8859, where the tables of browsers have other characters.
    Iso8859(&'static encoding_rs::Encoding),
    /// By a decoder, and the name of the encoding.
    Decoded(Box<Decoder>, String),
}

impl Encoding {
    /// The encoding that PostgreSQL calls so.
    ///
    /// # Errors
    /// [`Error::Dump`] if it can't be converted.
    pub fn of(name: &str) -> Result<Self> {
        let label = match name.to_ascii_uppercase().as_str() {
            "UTF8" | "SQL_ASCII" => return Ok(Self::AsItIs),
            "LATIN1" => return Ok(Self::Iso8859(encoding_rs::WINDOWS_1252)),
            "LATIN5" => return Ok(Self::Iso8859(encoding_rs::WINDOWS_1254)),
            "LATIN2" => "iso-8859-2",
            "LATIN3" => "iso-8859-3",
            "LATIN4" => "iso-8859-4",
            "LATIN6" => "iso-8859-10",
            "LATIN7" => "iso-8859-13",
            "LATIN8" => "iso-8859-14",
            "LATIN9" => "iso-8859-15",
            "LATIN10" => "iso-8859-16",
            "ISO_8859_5" => "iso-8859-5",
            "ISO_8859_6" => "iso-8859-6",
            "ISO_8859_7" => "iso-8859-7",
            "ISO_8859_8" => "iso-8859-8",
            "KOI8R" => "koi8-r",
            "KOI8U" => "koi8-u",
            "WIN866" => "ibm866",
            "WIN874" => "windows-874",
            "WIN1250" => "windows-1250",
            "WIN1251" => "windows-1251",
            "WIN1252" => "windows-1252",
            "WIN1253" => "windows-1253",
            "WIN1254" => "windows-1254",
            "WIN1255" => "windows-1255",
            "WIN1256" => "windows-1256",
            "WIN1257" => "windows-1257",
            "WIN1258" => "windows-1258",
            "EUC_JP" => "euc-jp",
            "SJIS" => "shift_jis",
            "EUC_KR" | "UHC" => "euc-kr",
            "EUC_CN" | "GBK" => "gbk",
            "GB18030" => "gb18030",
            "BIG5" => "big5",
            _ => "",
        };
        let encoding = encoding_rs::Encoding::for_label(label.as_bytes()).ok_or_else(|| Error::Dump {
            message: format!("dumps in the encoding {name} can't be read"),
            detail: None,
            hint: Some("Make one with pg_dump --encoding=UTF8."),
        })?;
        Ok(Self::Decoded(Box::new(encoding.new_decoder_without_bom_handling()), name.to_owned()))
    }

    /// Whether it is another one, so that the dump says so no more.
    pub fn is_converted(&self) -> bool {
        !matches!(self, Self::AsItIs)
    }

    /// Decodes more bytes, behind those before.
    ///
    /// # Errors
    /// [`Error::Dump`] if they are not of the encoding.
    pub fn decode(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::AsItIs => out.extend_from_slice(bytes),
            Self::Iso8859(table) => {
                for run in bytes.chunk_by(|a, b| (*a < 0xA0) == (*b < 0xA0)) {
                    match run.first() {
                        Some(0xA0..) => {
                            out.extend_from_slice(table.decode_without_bom_handling(run).0.as_bytes());
                        }
                        _ => out.extend_from_slice(encoding_rs::mem::decode_latin1(run).as_bytes()),
                    }
                }
            }
            Self::Decoded(decoder, name) => decode_all(decoder, name, bytes, out, false)?,
        }
        Ok(())
    }

    /// Says that nothing follows.
    ///
    /// # Errors
    /// [`Error::Dump`] if something is missing.
    pub fn finish(&mut self) -> Result<()> {
        if let Self::Decoded(mut decoder, name) = std::mem::take(self) {
            decode_all(&mut decoder, &name, b"", &mut Vec::new(), true)?;
        }
        Ok(())
    }
}

fn decode_all(decoder: &mut Decoder, name: &str, bytes: &[u8], out: &mut Vec<u8>, last: bool) -> Result<()> {
    let malformed = || Error::Dump {
        message: format!("the dump has bytes that are no {name}"),
        detail: None,
        hint: Some("Make one with pg_dump --encoding=UTF8."),
    };
    let length = decoder.max_utf8_buffer_length_without_replacement(bytes.len()).ok_or_else(malformed)?;
    let start = out.len();
    out.resize(start + length, 0);
    let (result, _, written) = decoder.decode_to_utf8_without_replacement(bytes, &mut out[start..], last);
    out.truncate(start + written);
    match result {
        DecoderResult::InputEmpty => Ok(()),
        DecoderResult::Malformed(..) | DecoderResult::OutputFull => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(name: &str, chunks: &[&[u8]]) -> Option<String> {
        let (mut encoding, mut out) = (Encoding::of(name).ok()?, Vec::new());
        for chunk in chunks {
            encoding.decode(chunk, &mut out).ok()?;
        }
        encoding.finish().ok()?;
        String::from_utf8(out).ok()
    }

    #[test]
    fn encodings() {
        for (name, chunks, expected) in [
            ("UTF8", &["é".as_bytes()][..], Some("é")),
            ("LATIN1", &[b"a\xe9\x85\xa4"], Some("aé\u{85}¤")),
            ("LATIN9", &[b"\xa4"], Some("€")),
            ("LATIN5", &[b"\x80\xfd\xfe"], Some("\u{80}ış")),
            ("WIN1252", &[b"\x80"], Some("€")),
            ("SJIS", &[b"\x83", b"\x5c\\"], Some("ソ\\")),
            ("SJIS", &[b"\x83"], None),
            ("EUC_JP", &[b"\xff"], None),
            ("MULE_INTERNAL", &[], None),
        ] {
            assert_eq!(decoded(name, chunks).as_deref(), expected, "{name}");
        }
    }
}
