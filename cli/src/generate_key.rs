//! `generate-key`: a new master key, or key for a file.

use crate::error::{Error, Result};
use crate::new_file::NewFile;
use crate::output::print;
use clap::Args;
use prism_envelope::{KeyBytes, MasterKey};
use std::io::Write;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const EXAMPLES: &str = "\
Examples:
  A master key for a server, which its user reads:
    prism-crypt generate-key --output master.key
    install -o postgres -g postgres -m 0600 master.key /etc/prism_crypt/master.key
  Into a secret store:
    prism-crypt generate-key --raw | vault kv put secret/prism_crypt key=-

Keep a copy apart from the backups: without the key nobody reads the data again. 'prism-crypt
backup-key' prints one for paper.";

/// Make a new random key of 256 bits, as prism_crypt.generate_key() does
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct GenerateKey {
    /// Print the key only
    #[arg(long, group = "form")]
    raw: bool,
    /// Print an object: key, key_bytes, algorithm, fingerprint
    #[arg(long, group = "form")]
    json: bool,
    /// Write the key to a new file that only you can read (0600), and print its fingerprint
    #[arg(long, value_name = "FILE", group = "form")]
    output: Option<PathBuf>,
}

impl GenerateKey {
    /// # Errors
    /// [`Error::Randomness`], [`Error::FileExists`], [`Error::File`], [`Error::Output`].
    pub fn run(self) -> Result<()> {
        let key = KeyBytes::generate()?;
        let fingerprint = MasterKey::new(&key).fingerprint();
        let text = key.to_hex();
        let shown = Zeroizing::new(if self.raw {
            format!("{}\n", *text)
        } else if self.json {
            // Hexadecimal digits need no escaping.
            format!(
                "{{\"key\": \"{}\", \"key_bytes\": 32, \"algorithm\": \"AES-256-GCM\", \"fingerprint\": \"{fingerprint}\"}}\n",
                *text
            )
        } else if let Some(path) = &self.output {
            write_key(path, &key)?;
            format!("fingerprint: {fingerprint}\n")
        } else {
            format!("key:         {}\nfingerprint: {fingerprint}\nalgorithm:   AES-256-GCM\n", *text)
        });
        print(&shown)
    }
}

/// A new file with the key in hexadecimal digits.
///
/// # Errors
/// [`Error::FileExists`], [`Error::File`].
pub fn write_key(path: &Path, key: &KeyBytes) -> Result<()> {
    let mut file = NewFile::create(path, false)?;
    let text = key.to_hex();
    file.write_all(text.as_bytes())
        .and_then(|()| file.write_all(b"\n"))
        .map_err(|error| Error::file("write", path, error))?;
    file.publish()?;
    Ok(())
}
