//! Wycheproof's test vectors, through the reader of files.
#![allow(clippy::unwrap_used)]

use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use flate2::read::ZlibDecoder;
use prism_envelope::KeyBytes;
use prism_envelope::file::{FileError, MAGIC, Opener, cobblestone};
use sha2::{Digest, Sha512};
use std::io::Read;
use wycheproof::{TestResult, aead, chunked_encryption};

fn key(bytes: &[u8]) -> Option<KeyBytes> {
    KeyBytes::parse(&hex::encode(bytes)).ok()
}

fn all(mut from: impl Read) -> Result<Vec<u8>, FileError> {
    let mut content = Vec::new();
    from.read_to_end(&mut content)?;
    Ok(content)
}

#[test]
fn cobblestone_256() {
    let set = chunked_encryption::TestSet::load(chunked_encryption::TestName::Cobblestone256).unwrap();
    let mut tried = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let bytes = all(ZlibDecoder::new(test.ct.as_ref())).unwrap();
        let opened = key(&test.key)
            .map(|key| cobblestone::Decryptor::new(bytes.as_slice(), &key, &test.ctx).and_then(all));
        tried += 1;
        match opened {
            Some(Ok(content)) => {
                assert_eq!(test.result, TestResult::Valid, "{}: {}", test.tc_id, test.comment);
                assert_eq!(Some(content.len()), test.msg_length);
                assert_eq!(
                    Some(Sha512::digest(&content).as_slice()),
                    test.msg_sha512.as_ref().map(AsRef::as_ref)
                );
                assert_eq!(bytes.len() as u64, cobblestone::encrypted_len(content.len() as u64));
            }
            _ => assert_eq!(test.result, TestResult::Invalid, "{}: {}", test.tc_id, test.comment),
        }
    }
    assert_eq!(tried, set.number_of_tests);
}

#[test]
fn aes_256_gcm() {
    let set = aead::TestSet::load(aead::TestName::AesGcm).unwrap();
    let (mut good, mut bad) = (0, 0);
    for group in set.test_groups.iter().filter(|group| (group.key_size, group.nonce_size) == (256, 96)) {
        for test in group.tests.iter().filter(|test| test.aad.is_empty()) {
            let file = [&MAGIC, &[1][..], &test.nonce, &test.ct, &test.tag].concat();
            let opened =
                Opener::new(file.as_slice()).unwrap().content(&key(&test.key).unwrap()).and_then(all);
            match opened {
                Ok(content) => {
                    assert_eq!(test.result, TestResult::Valid, "{}: {}", test.tc_id, test.comment);
                    assert_eq!(content, test.pt.as_ref());
                    good += 1;
                }
                Err(error) => {
                    assert_eq!(test.result, TestResult::Invalid, "{}: {error}", test.tc_id);
                    bad += 1;
                }
            }
        }
    }
    assert!(good > 20 && bad > 20, "{good} {bad}");
}

/// Values and wrapped keys have associated data, which nobody can choose, so that these are for the cipher that they are sealed with.
#[test]
fn aes_256_gcm_with_associated_data() {
    let set = aead::TestSet::load(aead::TestName::AesGcm).unwrap();
    let mut good = 0;
    for group in set.test_groups.iter().filter(|group| (group.key_size, group.nonce_size) == (256, 96)) {
        for test in group.tests.iter().filter(|test| !test.aad.is_empty()) {
            let cipher = Aes256Gcm::new_from_slice(&test.key).unwrap();
            let mut content = test.ct.to_vec();
            let (nonce, tag) =
                (test.nonce.as_ref().try_into().unwrap(), test.tag.as_ref().try_into().unwrap());
            let opened = cipher.decrypt_inout_detached(nonce, &test.aad, content.as_mut_slice().into(), tag);
            assert_eq!(opened.is_ok(), test.result == TestResult::Valid, "{}: {}", test.tc_id, test.comment);
            if opened.is_ok() {
                assert_eq!(content, test.pt.as_ref());
                good += 1;
            }
        }
    }
    assert!(good > 10, "{good}");
}
