//! Wrapped keys: nothing panics, and nothing unwraps but what was wrapped.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prism_envelope::{KeyBytes, KeyIdentity, KeyVersion, MasterKey, NonceOwner, NoncePool};
use std::sync::LazyLock;

static MASTER: LazyLock<MasterKey> = LazyLock::new(|| MasterKey::new(&KeyBytes::parse(&"07".repeat(32)).unwrap()));

fuzz_target!(|data: &[u8]| {
    let version = KeyVersion::new(7).unwrap();
    let identities = [KeyIdentity::Data(version, "default"), KeyIdentity::Index(1, "default"), KeyIdentity::File];
    for identity in identities {
        assert!(MASTER.unwrap(identity, data).is_err());
    }
    let key = KeyBytes::parse(&"08".repeat(32)).unwrap();
    let owner = NonceOwner { process_id: 1, transaction: 1 };
    for identity in identities {
        let wrapped = MASTER.wrap(&mut NoncePool::new(), owner, identity, &key).unwrap();
        let mut changed = wrapped.to_vec();
        for change in data.chunks_exact(2) {
            let at = usize::from(change[0]) % changed.len();
            changed[at] ^= change[1];
        }
        assert_eq!(MASTER.unwrap(identity, &changed).is_ok(), changed == wrapped);
    }
});
