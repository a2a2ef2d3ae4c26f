//! Code that handles keys leaves none of them on the stack. A thread does one thing with a known key and then searches its own
//! dead stack for pieces of that key and of what is derived from it. It reads /proc/self/mem, so that no `unsafe` is needed.
//!
//! Optimised builds have different stack frames: `make test` runs this on an optimised build.
#![cfg(all(target_os = "linux", target_arch = "x86_64", not(miri)))]
#![allow(clippy::unwrap_used)]

use hkdf::Hkdf;
use prism_envelope::{
    Attributes, DataKey, Envelope, IndexKey, KeyBytes, KeyIdentity, KeyVersion, MasterKey, NonceOwner,
    NoncePool, parse_keys,
};
use sha2::Sha256;
use std::collections::{BTreeMap, HashMap};
use std::fs::{File, read_to_string};
use std::hint::black_box;
use std::os::unix::fs::FileExt;

/// FIPS 197, appendix A.3: a key, then words 28 to 31 and 56 to 59 of its schedule.
const KEY: &str = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4";
const SCHEDULE: [&str; 2] = ["b75d5b9a07c5d1d4e3b9da1f7e9ea5bf", "fe4890d1e6188d0b046df344706c631e"];
/// The same key in base64.
const BASE64: &str = "YD3rEBXKcb4rc67whX13gR81LAc7YQjXLZgQowkU3/Q=";

const OWNER: NonceOwner = NonceOwner { process_id: 1, transaction: 1 };

/// How much of the stack is searched, and how far down in it the work runs, in bytes.
const SEARCHED: usize = 256 << 10;
const DISTANCE: usize = 32 << 10;

/// Pieces of eight bytes that would reveal a key, and what each is.
type Needles = HashMap<Vec<u8>, String>;

/// Pairs of words, in memory order and swapped: SHA-256 instructions want them in their own order.
fn pairs(name: &str, words: &[[u8; 4]]) -> Needles {
    words
        .windows(2)
        .flat_map(|pair| [[pair[0], pair[1]].concat(), [pair[1], pair[0]].concat()])
        .map(|needle| (needle, name.to_owned()))
        .collect()
}

fn words(bytes: &[u8]) -> Vec<[u8; 4]> {
    bytes.chunks(4).map(|word| word.try_into().unwrap()).collect()
}

/// The key itself, the padded key of HMAC and the state after it.
fn needles_of(name: &str, key: &[u8]) -> Needles {
    let mut found = pairs(&format!("{name}: key"), &words(key));
    for (pad, what) in [(0x36, "inner"), (0x5c, "outer")] {
        let mut block = [pad; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        let mut state =
            [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];
        sha2::block_api::compress256(&mut state, &[block]);
        found.extend(pairs(&format!("{name}: {what} block"), &words(&block[..32])));
        found.extend(pairs(&format!("{name}: {what} state"), &state.map(u32::to_ne_bytes)));
    }
    found
}

fn needles() -> Needles {
    let key = hex::decode(KEY).unwrap();
    let mut found = needles_of("key", &key);
    for words_of_it in SCHEDULE {
        found.extend(pairs("key: schedule", &words(&hex::decode(words_of_it).unwrap())));
    }
    for label in ["prism_crypt search tag v1", "prism_crypt blind index v1"] {
        let mut derived = [0; 32];
        Hkdf::<Sha256>::from_prk(&key).unwrap().expand(label.as_bytes(), &mut derived).unwrap();
        found.extend(needles_of(label, &derived));
    }
    found
}

/// The stack below a frame of this thread.
#[inline(never)]
fn dead_stack() -> Vec<u8> {
    let here = 0u8;
    let here = &raw const here as usize;
    let maps = read_to_string("/proc/self/maps").unwrap();
    let start = maps
        .lines()
        .filter_map(|line| line.split_once(' ')?.0.split_once('-'))
        .map(|(start, end)| [start, end].map(|at| usize::from_str_radix(at, 16).unwrap()))
        .find(|[start, end]| (*start..*end).contains(&here))
        .map(|[start, _]| start)
        .unwrap();
    let mut bytes = vec![0; here - start];
    File::open("/proc/self/mem").unwrap().read_exact_at(&mut bytes, start as u64).unwrap();
    bytes
}

/// Runs `work` so far down that the search itself, which also uses the stack, does not overwrite what is left there.
#[inline(never)]
fn run<T>(work: impl FnOnce() -> T) -> T {
    #[inline(never)]
    fn further_down<T>(work: impl FnOnce() -> T) -> T {
        work()
    }
    let room = [0u8; DISTANCE];
    black_box(&room);
    let result = further_down(work);
    black_box(&room);
    result
}

/// The names of what `work` left on the stack, each with its depth in bytes.
fn left_by<T: Send>(work: impl FnOnce() -> T + Send) -> BTreeMap<String, isize> {
    let needles = needles();
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            // The stack may have been used by another thread before.
            zeroize::zeroize_stack::<SEARCHED>();
            // The result is in a box and dropped only after the search, so it is not on the dead stack.
            let kept = Box::new(run(work));
            let stack = dead_stack();
            drop(kept);
            let from = stack.len().saturating_sub(SEARCHED);
            let at = |(place, bytes)| {
                Some((needles.get(bytes)?.clone(), (stack.len() - from - place) as isize - DISTANCE as isize))
            };
            stack[from..].windows(8).enumerate().filter_map(at).collect()
        });
        worker.join().unwrap()
    })
}

fn key() -> KeyBytes {
    KeyBytes::parse(KEY).unwrap()
}

fn data_key(key: &KeyBytes) -> DataKey {
    DataKey::new(KeyVersion::new(1).unwrap(), key)
}

const IDENTITY: KeyIdentity<'_> = KeyIdentity::Index(1, "default");

fn wrapped() -> (MasterKey, Vec<u8>) {
    let master = MasterKey::new(&KeyBytes::generate().unwrap());
    let wrapped = master.wrap(&mut NoncePool::new(), OWNER, IDENTITY, &key()).unwrap();
    (master, wrapped.to_vec())
}

#[test]
fn the_search_finds_what_is_there() {
    let key = hex::decode(KEY).unwrap();
    let left = left_by(|| {
        let mut copy = [0u8; 32];
        copy.copy_from_slice(&key);
        black_box(&copy);
    });
    assert!(!left.is_empty());
}

#[test]
fn parsing_a_key() {
    for text in [KEY, BASE64, BASE64.trim_end_matches('=')] {
        assert_eq!(left_by(|| KeyBytes::parse(text).unwrap()), BTreeMap::new());
        assert_eq!(left_by(|| parse_keys(text).unwrap()), BTreeMap::new());
    }
}

#[test]
fn writing_a_key() {
    let key = key();
    assert_eq!(left_by(|| key.to_hex()), BTreeMap::new());
}

#[test]
fn expanding_a_data_key() {
    let key = key();
    assert_eq!(left_by(|| data_key(&key)), BTreeMap::new());
    assert_eq!(left_by(|| vec![data_key(&key)]), BTreeMap::new());
}

#[test]
fn expanding_a_master_key() {
    let key = key();
    assert_eq!(left_by(|| MasterKey::new(&key)), BTreeMap::new());
}

#[test]
fn deriving_an_index_key() {
    let key = key();
    assert_eq!(left_by(|| IndexKey::new(1, &key).unwrap()), BTreeMap::new());
}

#[test]
fn wrapping_a_key() {
    let (master, key) = (MasterKey::new(&KeyBytes::generate().unwrap()), key());
    assert_eq!(
        left_by(|| master.wrap(&mut NoncePool::new(), OWNER, IDENTITY, &key).unwrap()),
        BTreeMap::new()
    );
}

#[test]
fn unwrapping_a_key() {
    let (master, wrapped) = wrapped();
    assert_eq!(left_by(|| master.unwrap(IDENTITY, &wrapped).unwrap()), BTreeMap::new());
}

#[test]
fn using_a_master_key() {
    let (key, other) = (key(), KeyBytes::generate().unwrap());
    let master = MasterKey::new(&key);
    let wrap = || master.wrap(&mut NoncePool::new(), OWNER, IDENTITY, &other).unwrap();
    let wrapped = wrap();
    assert_eq!(left_by(wrap), BTreeMap::new());
    assert_eq!(left_by(|| master.unwrap(IDENTITY, &wrapped).unwrap()), BTreeMap::new());
}

#[test]
fn dropping_keys() {
    let key = key();
    let all = (data_key(&key), MasterKey::new(&key), IndexKey::new(1, &key).unwrap(), self::key());
    assert_eq!(left_by(move || drop(all)), BTreeMap::new());
}

#[test]
fn sealing_and_opening() {
    let attributes = Attributes::default();
    for length in [0, 20, 1000] {
        let plaintext = vec![b'x'; length];
        let left = left_by(|| {
            let key = data_key(&key());
            let mut sealed = vec![0; attributes.envelope_len(length)];
            key.seal_into(&mut NoncePool::new(), OWNER, &attributes, &plaintext, &mut sealed).unwrap();
            let envelope = Envelope::parse(&sealed).unwrap();
            key.open_into(&envelope, None, &mut vec![0; length]).unwrap();
            // What AES left for each value is wiped only with the key.
            drop(key);
        });
        assert_eq!(left, BTreeMap::new(), "{length} bytes");
    }
}

#[test]
fn searching() {
    for length in [0, 20, 1000] {
        let plaintext = vec![b'x'; length];
        let left = left_by(|| {
            let key = IndexKey::new(1, &key()).unwrap();
            let made = (key.search_tag(&plaintext), key.blind_index(&plaintext, Some(b"context"), 64));
            drop(key);
            made
        });
        assert_eq!(left, BTreeMap::new(), "{length} bytes");
    }
}
