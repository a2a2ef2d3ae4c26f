//! The reader of files: nothing panics, and what is changed is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prism_envelope::KeyBytes;
use prism_envelope::file::{Compression, FileError, Header, KeySource, Opener, create};
use std::io::{Read, Write};
use std::sync::LazyLock;

static KEY: LazyLock<KeyBytes> = LazyLock::new(|| KeyBytes::parse(&"07".repeat(32)).unwrap());

fn read(file: &[u8]) -> Result<Vec<u8>, FileError> {
    let mut content = Vec::new();
    Opener::new(file)?.content(&KEY)?.read_to_end(&mut content)?;
    Ok(content)
}

fuzz_target!(|data: &[u8]| {
    assert!(read(data).is_err());
    // A good file, with what the data say changed in it: two bytes of place, and one of what.
    let (changes, content) = data.split_at(data.len() / 2);
    let header = Header { key: KeySource::Given {}, content_type: "a/b".into(), compression: Compression::None };
    let mut writer = create(Vec::new(), &header, &KEY).unwrap();
    writer.write_all(content).unwrap();
    let file = writer.finish().unwrap();
    let mut changed = file.clone();
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([change[0], change[1]])) % changed.len();
        changed[at] ^= change[2];
    }
    match read(&changed) {
        Ok(read) => assert!(changed == file && read == content),
        Err(_) => assert!(changed != file),
    }
});
