//! Email addresses.

use email_address::{EmailAddress, Options};

/// What stands last in names of files, and of hosts that nobody outside reaches.
const NOT_DOMAINS: [&str; 15] = [
    "png",
    "jpg",
    "jpeg",
    "gif",
    "svg",
    "webp",
    "js",
    "css",
    "json",
    "html",
    "local",
    "localhost",
    "internal",
    "localdomain",
    "git",
];
/// More addresses of a text are not looked at.
const MOST: usize = 20;

/// Whether the text is an address that mail can be sent to.
pub fn is_address(text: &str) -> bool {
    let options = Options::default().with_required_tld().without_display_text().without_domain_literal();
    if !text.contains('@') || text.contains('"') {
        return false;
    }
    let Ok(address) = EmailAddress::parse_with_options(text, options) else { return false };
    let end = address.domain().rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    let is_domain = end.len() >= 2
        && (end.bytes().all(|b| b.is_ascii_lowercase()) || end.starts_with("xn--") || !end.is_ascii());
    is_domain && !NOT_DOMAINS.contains(&end.as_str()) && !is_made_by_machine(address.local_part())
}

/// Whether it is the identifier of a message: those have the form of an address, but for the many digits.
fn is_made_by_machine(local: &str) -> bool {
    let digits = local.bytes().filter(u8::is_ascii_digit).count();
    local.len() >= 20
        && (digits >= 10 || local.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b'.' | b'-')))
}

/// Whether there is an address in the text.
pub fn is_within(text: &str) -> bool {
    let is_local = |c: char| c.is_ascii_alphanumeric() || "._%+-".contains(c);
    text.match_indices('@').take(MOST).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + 1..]);
        let local = &before[before.trim_end_matches(is_local).len()..];
        let domain = &after[..after.len()
            - after.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || ".-".contains(c)).len()];
        let follows = &after[domain.len()..];
        let word = before.rsplit(char::is_whitespace).next().unwrap_or_default();
        // `git@example.org:project`, `https://anna@example.org/`.
        let is_part_of_url = word.contains("://")
            || follows.starts_with('/')
            || follows.starts_with(':') && follows[1..].starts_with(|c: char| !c.is_whitespace());
        !is_part_of_url
            && is_address(&format!(
                "{}@{}",
                local.trim_start_matches('.'),
                domain.trim_end_matches(['.', '-'])
            ))
    })
}

#[cfg(test)]
mod tests {
    use super::{is_address, is_within};

    #[test]
    fn addresses() {
        for text in ["anna@example.org", "a.b+c@mail.example.co.uk", "ÄNNE@exämple.de", "o'neil@example.com"]
        {
            assert!(is_address(text), "{text}");
        }
        for text in [
            "",
            "@",
            "anna",
            "anna@",
            "@example.org",
            "anna@localhost",
            "icon@2x.png",
            "Anna <anna@example.org>",
            "a b@example.org",
            "20240101123456.12345678901@mail.example.org",
            "550e8400-e29b-41d4-a716-446655440000@example.org",
            "root@db.internal",
            "package@1.2.3",
            "anna@[127.0.0.1]",
        ] {
            assert!(!is_address(text), "{text}");
        }
    }

    #[test]
    fn addresses_in_texts() {
        for text in [
            "Write to anna@example.org.",
            "Anna <anna@example.org>",
            "mailto:anna@example.org",
            "to:anna@example.org, bob",
        ] {
            assert!(is_within(text), "{text}");
        }
        for text in [
            "git@github.com:octo/hello.git",
            "https://anna@example.org/x",
            "a @ b",
            "postgres://u:p@db.example.org/x",
            "@anna said",
        ] {
            assert!(!is_within(text), "{text}");
        }
    }
}
