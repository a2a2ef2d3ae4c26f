//! Properties of encrypted files: what is written is read, and nothing else is.
#![allow(clippy::unwrap_used)]

use prism_envelope::file::{Compression, FileError, Header, KeySource, MAGIC, Opener, create, write_whole};
use prism_envelope::{KeyBytes, KeyIdentity, MasterKey, NonceOwner, NoncePool};
use proptest::collection::vec;
use proptest::prelude::*;
use std::io::{Read, Write};
use std::sync::LazyLock;
use zeroize::Zeroizing;

static KEY: LazyLock<KeyBytes> = LazyLock::new(|| KeyBytes::generate().unwrap());

fn header() -> Header {
    Header { key: KeySource::Given {}, content_type: "text/plain".into(), compression: Compression::None }
}

fn chunked(content: &[u8]) -> Vec<u8> {
    let mut writer = create(Vec::new(), &header(), &KEY).unwrap();
    writer.write_all(content).unwrap();
    writer.finish().unwrap()
}

fn whole(content: &[u8]) -> Vec<u8> {
    write_whole(Vec::new(), Zeroizing::new(content.to_vec()), &KEY).unwrap()
}

fn read(file: &[u8], key: &KeyBytes) -> Result<Vec<u8>, FileError> {
    let mut content = Vec::new();
    Opener::new(file)?.content(key)?.read_to_end(&mut content)?;
    Ok(content)
}

#[test]
fn every_byte_counts() {
    for file in [chunked(b"a short content"), whole(b"a short content"), chunked(b""), whole(b"")] {
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut changed = file.clone();
                changed[at] ^= 1 << bit;
                assert!(read(&changed, &KEY).is_err(), "{at} {bit}");
            }
            assert!(read(&file[..at], &KEY).is_err(), "cut at {at}");
        }
        let mut longer = file.clone();
        longer.push(0);
        assert!(read(&longer, &KEY).is_err());
    }
}

#[test]
fn a_header_belongs_to_its_file() {
    let (one, other) = (chunked(b"one"), chunked(b"another"));
    let end = one.len() - b"one".len() - 16 - 56;
    assert!(one[..end] == other[..end]);
    // The same header, and the body of another file: that is the other file.
    assert_eq!(read(&[&one[..end], &other[end..]].concat(), &KEY).unwrap(), b"another");
    let longer = Header { content_type: "text/plain; charset=utf-8".into(), ..header() };
    let mut writer = create(Vec::new(), &longer, &KEY).unwrap();
    writer.write_all(b"one").unwrap();
    let file = writer.finish().unwrap();
    assert!(matches!(
        read(&[&one[..end], &file[file.len() - 75..]].concat(), &KEY),
        Err(FileError::Decryption)
    ));
    // Salt and commitment of one, chunks of the other.
    assert!(read(&[&one[..end + 56], &other[end + 56..]].concat(), &KEY).is_err());
}

#[test]
fn what_is_no_file_is_refused() {
    let header = |json: &str| {
        [&MAGIC, &[2][..], &u32::try_from(json.len()).unwrap().to_be_bytes(), json.as_bytes()].concat()
    };
    assert!(matches!(read(b"", &KEY), Err(FileError::Truncated)));
    assert!(matches!(read(b"PENX\x02....", &KEY), Err(FileError::Magic)));
    assert!(matches!(read(b"PENC\x03....", &KEY), Err(FileError::Version(3))));
    assert!(matches!(read(b"PENC\x02\x00\x01\x00\x01", &KEY), Err(FileError::Header)));
    for json in [
        "",
        "{}",
        "null",
        "[1]",
        "{",
        r#"{"key":{"source":"given"},"content_type":"a/b"}"#,
        r#"{"key":{"source":"given"},"content_type":"a/b","compression":"gzip"}"#,
        r#"{"key":{"source":"given"},"content_type":"a/b","compression":"none","more":1}"#,
        r#"{"key":{"source":"given","more":1},"content_type":"a/b","compression":"none"}"#,
        r#"{"key":{"source":"given"},"key":{"source":"given"},"content_type":"a/b","compression":"none"}"#,
    ] {
        assert!(matches!(read(&header(json), &KEY), Err(FileError::Header)), "{json}");
    }
    let good = header(r#"{"key":{"source":"given"},"content_type":"a/b","compression":"none"}"#);
    assert!(matches!(read(&good, &KEY), Err(FileError::Truncated)));
}

#[test]
fn a_wrapped_key_travels_along() {
    let (master, nonces) = (MasterKey::new(&KeyBytes::generate().unwrap()), &mut NoncePool::new());
    let owner = NonceOwner { process_id: 1, transaction: 1 };
    let wrapped = master.wrap(nonces, owner, KeyIdentity::File, &KEY).unwrap();
    let header = Header { key: KeySource::wrapped(master.fingerprint().to_string(), &wrapped), ..header() };
    let mut writer = create(Vec::new(), &header, &KEY).unwrap();
    writer.write_all(b"content").unwrap();
    let file = writer.finish().unwrap();
    let opener = Opener::new(file.as_slice()).unwrap();
    let found = opener.header().unwrap().key.wrapped_bytes().unwrap();
    let key = master.unwrap(KeyIdentity::File, &found).unwrap();
    assert_eq!(read(&file, &key).unwrap(), b"content");
}

proptest! {
    #[test]
    fn anything_comes_back(content in vec(any::<u8>(), 0..100_000), pieces in 1..50_000usize) {
        let mut writer = create(Vec::new(), &header(), &KEY).unwrap();
        for piece in content.chunks(pieces) {
            writer.write_all(piece).unwrap();
        }
        let file = writer.finish().unwrap();
        prop_assert!(read(&file, &KEY).unwrap() == content);
        prop_assert!(read(&whole(&content), &KEY).unwrap() == content);
        prop_assert!(read(&file, &KeyBytes::generate().unwrap()).is_err());
    }

    #[test]
    fn nothing_panics(bytes in vec(any::<u8>(), 0..2000), version in 0..4u8) {
        prop_assert!(read(&bytes, &KEY).is_err());
        prop_assert!(read(&[&MAGIC, &[version][..], &bytes].concat(), &KEY).is_err());
    }
}
