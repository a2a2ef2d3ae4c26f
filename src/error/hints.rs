//! Detail and hint of each error. None holds plaintext, a key or a nonce.

use super::Error;

impl Error {
    /// Its detail.
    pub fn detail(&self) -> Option<String> {
        Some(match self {
            Self::MasterKey { source_name, line: Some(line), .. } => format!("Key {line} of {source_name}."),
            Self::MasterKey { source_name, line: None, .. } => format!("Set by {source_name}."),
            Self::KeyFile { detail } | Self::KeyCommand { detail } => detail.clone(),
            Self::KeyMismatch { key, keyset, expected, loaded } => {
                let of =
                    keyset.as_ref().map_or_else(String::new, |keyset| format!(" of keyset \"{keyset}\""));
                format!("{key}{of} is wrapped by the master key {expected}, loaded: {}.", loaded.join(", "))
            }
            Self::KeyTable { detail, .. } => (*detail).to_owned(),
            // The operating system's words, as COPY has them.
            Self::File { error, .. } => format!("{error}."),
            Self::KeysNotReady { cause } => match cause {
                Some(cause) => format!("It could not be fetched before: {cause}."),
                None => "No key is fetched while a page of an index is locked.".to_owned(),
            },
            Self::KeyCommandTimeout { limit } => format!("The limit is {} ms.", limit.as_millis()),
            Self::Authentication(version) => {
                format!("Key version {version}: authentication failed.")
            }
            Self::TextForm(error) => format!("The text form is malformed: {error}."),
            Self::BinaryForm(error) | Self::NotAnEnvelope(error) | Self::StoredValue(error) => {
                format!("It is malformed: {error}.")
            }
            Self::DamagedNested(_) => "Its layout does not match its header and its type.".to_owned(),
            Self::LoadDenied => "The input is encrypted already.".to_owned(),
            Self::SampleDenied => {
                "It needs SELECT on the table, and no row-level security that is active for this role."
                    .to_owned()
            }
            Self::IndexKeyReplaced => {
                "What it looked up or built so far used the old key; from now on it would use the new one."
                    .to_owned()
            }
            Self::PreparedBuild => {
                "No index key could be replaced until it ends, because its indexes may use the old one."
                    .to_owned()
            }
            Self::NotText(version)
            | Self::InvalidText(version)
            | Self::BoundToContext(version)
            | Self::NotInEncoding { version, .. } => format!("It is of key version {version}."),
            Self::TypeChange { .. } => "Every value would be decrypted and stored in plaintext.".to_owned(),
            Self::TooLong { limit, .. } => format!("The limit is {limit} bytes."),
            Self::SealLimit { limit, .. } => format!("The limit is {limit} values."),
            _ => return None,
        })
    }

    /// Its hint.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::MasterKey { .. } => "A master key is 64 hexadecimal digits or the base64 of 32 bytes.",
            Self::NoMasterKey => {
                "Set prism_crypt.master_key, or have a superuser set prism_crypt.master_key_command, \
                 prism_crypt.master_key_file or prism_crypt.master_key_env."
            }
            Self::KeyFile { .. } => {
                "Superusers see its path in prism_crypt.master_key_file. Sessions that could read it keep the key until they end or the configuration is reloaded."
            }
            Self::KeyEnvironment => "It has to be in the environment that the server was started with.",
            Self::KeyMismatch { .. } => "Set the master key that wrapped it, or add it after the new one.",
            Self::DataKeyDamaged(_) => "Restore its row in prism_crypt.data_key from a backup.",
            Self::IndexKeyDamaged(_) => "Restore its row in prism_crypt.index_key from a backup.",
            Self::NoDataKey(_) => "Call prism_crypt.rotate_key() to make one.",
            Self::NoIndexKey(_) => {
                "Restore the rows of prism_crypt.index_key. If they are lost, call prism_crypt.rotate_index_key()."
            }
            Self::IndexKeyDestroyed(_) => "prism_crypt.rotate_key() makes a new one.",
            Self::SearchDenied => {
                "prism_crypt.grant_access(role, 'search') gives the right. Writing to a searchable column, or to an indexed one that is not, needs it too."
            }
            Self::RotateDenied => "rotate_index_key() needs access to rotate, beside key_admin.",
            Self::IndexKeyReplaced => "Run the transaction again.",
            Self::PreparedBuild => "Commit it, or make the indexes in a transaction of their own.",
            Self::ResultOfClient => {
                "SET prism_crypt.result_type = 'encrypted_text' before DECLARE or PREPARE."
            }
            Self::NoOrder => "Compare or sort the plaintext: column::text. That opens every row.",
            Self::NoKeyset(_) => "Call prism_crypt.create_keyset() to make it.",
            Self::UnknownVersion(_) => {
                "The rows of prism_crypt.data_key belong to the data, and come before it where constraints open values: \
                 CREATE EXTENSION prism_crypt, then pg_restore --data-only --schema=prism_crypt, then the whole restore."
            }
            Self::IndexKeyUnknown(_) => {
                "The rows of prism_crypt.data_key and index_key belong to the data, and come before such indexes: \
                 CREATE EXTENSION prism_crypt, then pg_restore --data-only --schema=prism_crypt, then the whole restore."
            }
            Self::Disabled(_) => "prism_crypt.enable_key() makes it readable again.",
            Self::Authentication(_) => {
                "The value was changed, or belongs to another key, or was encrypted with another context."
            }
            Self::LoadDenied => {
                "Only roles with prism_crypt.grant_access(role, 'load') may. To encrypt this very text, call \
                 encrypt_field()."
            }
            Self::ForeignMasterKey => {
                "prism_crypt.grant_access(role, 'key_admin') is for roles that set a new master key."
            }
            Self::FunctionDenied(_) => "prism_crypt.grant_access(role, access) gives the right.",
            Self::EncryptDenied => "prism_crypt.grant_access(role, 'encrypt') gives the right.",
            Self::DecryptDenied => "prism_crypt.grant_access(role, 'decrypt') gives the right.",
            Self::SealedAlready => {
                "prism_crypt.load_envelope() takes it as the value that it is, for roles with 'load'. To encrypt this \
                 very text, call encrypt_field()."
            }
            Self::MadeOfCiphertext => "Convert their values to text first: an array with ::text[].",
            Self::BoundToContext(_) => "Read it with decrypt_field(value, context).",
            Self::TypeChange { of_composite: true, .. } => {
                "Tables of this type can't have one. If you mean it, detach them from the type first: ALTER TABLE … NOT OF."
            }
            Self::TypeChange { .. } => {
                "If you mean it, write: ALTER TABLE … ALTER COLUMN … TYPE text USING column::text."
            }
            Self::ClassMismatch { found: "none", .. } => {
                "Load it into a column without a class. INSERT … SELECT from there seals it again, with the class."
            }
            Self::NotSearchable => {
                "Load it into a column that is not searchable. INSERT … SELECT from there seals it again, with a tag."
            }
            Self::ClassMismatch { .. } => "Only a value that has no class yet takes the class of a column.",
            Self::UnknownClass(_) => {
                "Known classes: email, phone, tax_id, personal, financial, query, health."
            }
            Self::TypeModifier => {
                "Write encrypted_text, encrypted_text('email') or encrypted_text('email', 'searchable')."
            }
            Self::KeysNotReady { .. } => {
                "Run the statement again. If the detail names a cause, fix that first."
            }
            Self::KeyCommandTimeout { .. } => {
                "See why it takes so long, or raise prism_crypt.master_key_timeout; 0 is no limit."
            }
            Self::NotText(_) => "Read it with decrypt_bytes().",
            Self::SealLimit { .. } => "Call prism_crypt.rotate_key() to make the next key of its keyset.",
            Self::TransactionBlock { .. } => {
                "Call it outside of BEGIN … COMMIT: it commits after each batch."
            }
            Self::NoWorker => "Try again once others have ended, or raise max_worker_processes.",
            Self::StatementLost => "The server log says why.",
            _ => return None,
        })
    }
}
