//! What encrypted values look like: ours in a place where they are not protected, and those of other systems.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use prism_envelope::{Envelope, armor};

/// Whose ciphertext it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// The text form of `encrypted_text`, in a column that is just text.
    TextForm,
    /// A Fernet token.
    Fernet,
    /// An OpenPGP message, in its text form or in binary.
    Pgp,
    /// Transit of HashiCorp Vault.
    Vault,
    /// An age file in its text form.
    Age,
}

impl Scheme {
    /// Every scheme.
    pub const ALL: [Self; 5] = [Self::TextForm, Self::Fernet, Self::Pgp, Self::Vault, Self::Age];

    /// For people, in the plural.
    pub fn label(self) -> &'static str {
        match self {
            Self::TextForm => "prism_crypt values as text",
            Self::Fernet => "Fernet tokens",
            Self::Pgp => "OpenPGP messages",
            Self::Vault => "Vault Transit values",
            Self::Age => "age files",
        }
    }

    /// The scheme of a text.
    pub fn of_text(text: &str) -> Option<Self> {
        if armor::is_armored(text.as_bytes()) {
            Some(Self::TextForm)
        } else if text.starts_with("gAAAA") {
            is_fernet(text).then_some(Self::Fernet)
        } else if text.starts_with("-----BEGIN PGP MESSAGE-----") {
            Some(Self::Pgp)
        } else if text.starts_with("-----BEGIN AGE ENCRYPTED FILE-----") {
            Some(Self::Age)
        } else {
            is_vault(text).then_some(Self::Vault)
        }
    }

    /// The scheme of bytes that are no text.
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        is_openpgp(bytes).then_some(Self::Pgp)
    }
}

/// Whether bytes are what `encrypt_bytes()` gives.
pub fn is_sealed(bytes: &[u8]) -> bool {
    Envelope::parse(bytes).is_ok()
}

/// <https://github.com/fernet/spec>: version 0x80, time, IV, at least one block, HMAC.
fn is_fernet(text: &str) -> bool {
    const AROUND: usize = 1 + 8 + 16 + 32;
    URL_SAFE.decode(text).is_ok_and(|bytes| bytes.len() > AROUND && (bytes.len() - AROUND).is_multiple_of(16))
}

/// `vault:v1:…`
fn is_vault(text: &str) -> bool {
    text.strip_prefix("vault:v").and_then(|rest| rest.split_once(':')).is_some_and(|(version, body)| {
        !version.is_empty()
            && version.bytes().all(|b| b.is_ascii_digit())
            && STANDARD.decode(body).is_ok_and(|bytes| bytes.len() >= 28)
    })
}

/// Whether bytes begin with the packet of an encrypted session key, and another packet of an encrypted message follows (RFC 9580).
fn is_openpgp(bytes: &[u8]) -> bool {
    /// Encrypted session keys (by a public key, by a password), and what they lead to.
    const KEYS: [u8; 2] = [1, 3];
    const DATA: [u8; 3] = [9, 18, 20];
    let Some((tag, begin, Some(end))) = packet(bytes) else { return false };
    let version = bytes.get(begin).copied().unwrap_or_default();
    let is_key = KEYS.contains(&tag) && matches!(version, 3..=6) && end <= bytes.len();
    is_key && packet(&bytes[end..]).is_some_and(|(tag, ..)| KEYS.contains(&tag) || DATA.contains(&tag))
}

/// The tag of the first packet, where its body begins, and where it ends if that is told.
fn packet(bytes: &[u8]) -> Option<(u8, usize, Option<usize>)> {
    let byte = |n: usize| bytes.get(n).copied().map(usize::from);
    let first = *bytes.first()?;
    if first & 0x80 == 0 {
        return None;
    }
    if first & 0x40 == 0 {
        let (begin, length) = match first & 3 {
            0 => (2, Some(byte(1)?)),
            1 => (3, Some(byte(1)? << 8 | byte(2)?)),
            2 => (5, Some(byte(1)? << 24 | byte(2)? << 16 | byte(3)? << 8 | byte(4)?)),
            _ => (1, None),
        };
        return Some(((first >> 2) & 15, begin, length.map(|length| begin + length)));
    }
    let (begin, length) = match byte(1)? {
        length @ 0..192 => (2, Some(length)),
        high @ 192..224 => (3, Some(((high - 192) << 8) + byte(2)? + 192)),
        255 => (6, Some(byte(2)? << 24 | byte(3)? << 16 | byte(4)? << 8 | byte(5)?)),
        _ => (2, None),
    };
    Some((first & 63, begin, length.map(|length| begin + length)))
}

#[cfg(test)]
mod tests {
    use super::Scheme;

    #[test]
    fn texts() {
        // From the specification of Fernet.
        let fernet = "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==";
        for (text, scheme) in [
            (fernet, Some(Scheme::Fernet)),
            ("-----BEGIN PGP MESSAGE-----\n\nww0E", Some(Scheme::Pgp)),
            ("vault:v1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==", Some(Scheme::Vault)),
            ("prism:v1:AAAA", Some(Scheme::TextForm)),
            ("gAAAAnother word", None),
            ("vault:v1:x", None),
            ("vault:", None),
            ("", None),
        ] {
            assert_eq!(Scheme::of_text(text), scheme, "{text}");
        }
    }

    #[test]
    fn binary_messages() {
        // As pgp_sym_encrypt() begins: a session key by a password, then protected data.
        let mut message = vec![0xc3, 0x0d, 4, 7, 3, 2, 1, 2, 3, 4, 5, 6, 7, 8, 0x60, 0xd2, 0x35, 1];
        message.extend([7; 0x34]);
        assert_eq!(Scheme::of_bytes(&message), Some(Scheme::Pgp));
        for bytes in [
            &b""[..],
            b"\xc3",
            b"\xc3\x0d\x04",
            b"\x89PNG\r\n\x1a\n0000",
            b"\xff\xd8\xff\xe0\x00\x10JFIF",
            b"\x1f\x8b\x08\x00",
            b"\xc3\xff\xff\xff\xff\xff",
        ] {
            assert_eq!(Scheme::of_bytes(bytes), None, "{bytes:?}");
        }
    }
}
