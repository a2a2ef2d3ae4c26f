//! The password file of libpq (PostgreSQL's manual, "The Password File").

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// Longer ones are not read, in bytes.
const MAX: u64 = 1 << 20;

/// What a password is for.
pub struct Account<'a> {
    /// `localhost` for sockets.
    pub host: &'a str,
    pub port: &'a str,
    pub database: &'a str,
    pub user: &'a str,
}

/// The password of the first line that fits, of `PGPASSFILE` or `~/.pgpass`. A file that others may read is ignored, as libpq does.
pub fn password(account: &Account<'_>) -> Option<Zeroizing<String>> {
    let path = match std::env::var_os("PGPASSFILE") {
        Some(path) => PathBuf::from(path),
        None => std::env::home_dir()?.join(".pgpass"),
    };
    let file = File::open(path).ok()?;
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() || metadata.mode() & 0o077 != 0 {
        return None;
    }
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(metadata.len().min(MAX)).ok()? + 1));
    file.take(MAX).read_to_string(&mut text).ok()?;
    find(&text, account)
}

fn find(text: &str, account: &Account<'_>) -> Option<Zeroizing<String>> {
    let wanted = [account.host, account.port, account.database, account.user];
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut rest = line;
        for value in wanted {
            let (field, after) = field(rest)?;
            // Only an asterisk that is not escaped stands for everything.
            if !rest.starts_with("*:") && *field != value {
                return None;
            }
            rest = after?;
        }
        Some(field(rest)?.0)
    })
}

/// Up to a colon that is not escaped, and what follows it.
fn field(text: &str) -> Option<(Zeroizing<String>, Option<&str>)> {
    let mut value = Zeroizing::new(String::with_capacity(text.len()));
    let mut signs = text.char_indices();
    while let Some((at, sign)) = signs.next() {
        match sign {
            ':' => return Some((value, text.get(at + 1..))),
            '\\' => value.push(signs.next().map_or('\\', |(_, sign)| sign)),
            _ => value.push(sign),
        }
    }
    Some((value, None))
}

#[cfg(test)]
mod tests {
    use super::{Account, find};

    #[test]
    fn the_first_line_that_fits() {
        let text = "# db:5432:clinic:anna:comment\nother:5432:clinic:anna:no\ndb:*:a\\:b:anna:se\\:cr\\\\et\n\
                    \\*:5432:clinic:anna:no\n*:*:*:*:any:thing\nshort:1\n";
        let of = |host, database, user| {
            find(text, &Account { host, port: "5432", database, user }).map(|password| password.to_string())
        };
        assert_eq!(of("db", "a:b", "anna").as_deref(), Some("se:cr\\et"));
        assert_eq!(of("db", "clinic", "anna").as_deref(), Some("any"));
        assert_eq!(find("a:b:c:d", &Account { host: "a", port: "b", database: "c", user: "d" }), None);
    }
}
