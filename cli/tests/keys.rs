//! Keys: made, put on paper, taken from a file, a variable or standard input.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Place, feed, mode, text};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_key_has_the_form_of_the_extension() {
    let place = Place::new();
    let raw = text(&place.ok(&["generate-key", "--raw"]));
    assert!(raw.len() == 65 && raw.trim_end().bytes().all(|byte| byte.is_ascii_hexdigit()));
    let json: serde_json::Value = serde_json::from_slice(&place.ok(&["generate-key", "--json"])).unwrap();
    assert_eq!((&json["key_bytes"], &json["algorithm"]), (&32.into(), &"AES-256-GCM".into()));
    assert!(json["key"] != raw.trim_end());
    assert_eq!(mode(&place.path("key")), 0o600);
    assert_eq!(place.read("key").len(), 65);
}

#[test]
fn nothing_is_overwritten() {
    let place = Place::new();
    let before = place.read("key");
    assert_eq!(
        place.fails(&["generate-key", "--output", "key"], 1),
        "prism-crypt: file \"key\" already exists\n"
    );
    std::os::unix::fs::symlink("nowhere", place.path("link")).unwrap();
    place.fails(&["generate-key", "--output", "link"], 1);
    assert!(!place.path("nowhere").exists());
    assert!(place.read("key") == before);
    let said = place.fails(&["generate-key", "--output", "none/key"], 1);
    assert_eq!(
        said,
        "prism-crypt: could not create file \"none/key\"\nDETAIL:  No such file or directory (os error 2).\n"
    );
    // Nothing is left of what failed.
    assert_eq!(std::fs::read_dir(place.directory.path()).unwrap().count(), 2);
}

#[test]
fn there_and_back_on_paper() {
    let place = Place::new();
    let sheet = place.ok(&["backup-key", "--key-file", "key"]);
    let said = text(&place.run(&["restore-key", "--output", "again"], &sheet).stdout);
    let fingerprint = said.trim_end().rsplit(' ').next().unwrap();
    assert!(text(&sheet).contains(&format!(", fingerprint {fingerprint}\n")), "{fingerprint}");
    assert!(place.read("again") == place.read("key"));
    assert_eq!(mode(&place.path("again")), 0o600);

    let words: Vec<String> = text(&sheet)
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .filter(|word| !word.ends_with('.'))
        .collect();
    assert_eq!(words.len(), 24);
    let short: Vec<String> = words.iter().map(|word| word.chars().take(4).collect()).collect();
    assert!(place.run(&["restore-key"], short.join("\n").as_bytes()).stdout == place.read("key"));

    let mut wrong = words.clone();
    wrong[2] = "quokka".to_owned();
    let output = place.run(&["restore-key"], wrong.join(" ").as_bytes());
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    assert!(
        text(&output.stderr).starts_with("prism-crypt: not in the list of words: 3. \"quokka\"\nHINT:  ")
    );
    let output = place.run(&["restore-key"], words[..23].join(" ").as_bytes());
    assert_eq!(text(&output.stderr), "prism-crypt: 23 words were given, and a key has 24\n");
}

#[test]
fn sources() {
    let place = Place::new();
    let key = text(&place.read("key"));
    let fingerprint = |output: std::process::Output| {
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).lines().next().unwrap().to_owned()
    };
    let expected = fingerprint(place.run(&["backup-key", "--key-file", "key"], b""));
    assert_eq!(fingerprint(place.run(&["backup-key", "--key-stdin"], key.as_bytes())), expected);
    let mut named = place.command(&["backup-key", "--key-env", "MINE"]);
    assert_eq!(fingerprint(feed(named.env("MINE", &key), b"")), expected);
    let mut default = place.command(&["backup-key"]);
    assert_eq!(
        fingerprint(feed(default.env("PRISM_CRYPT_KEY", key.trim_end().to_uppercase()), b"")),
        expected
    );
    // What is given goes before what happens to be set.
    let mut both = place.command(&["backup-key", "--key-file", "key"]);
    assert_eq!(fingerprint(feed(both.env("PRISM_CRYPT_KEY", "no key"), b"")), expected);
    // A key file through a pipe, and several keys.
    let output = place.run(&["backup-key", "--key-file", "/dev/stdin"], key.repeat(2).as_bytes());
    assert_eq!(text(&output.stdout).matches("# prism_crypt master key").count(), 2);
}

#[test]
fn bad_sources() {
    let place = Place::new();
    let said = place.fails(&["backup-key"], 2);
    assert!(said.starts_with("prism-crypt: no key was given\nHINT:  "), "{said}");
    let said = place.fails(&["backup-key", "--key-env", "NOWHERE"], 1);
    assert_eq!(said, "prism-crypt: the environment variable \"NOWHERE\" is not set\n");
    place.write("short", "abcd\n");
    std::fs::set_permissions(place.path("short"), Permissions::from_mode(0o600)).unwrap();
    let said = place.fails(&["backup-key", "--key-file", "short"], 1);
    assert_eq!(
        said,
        "prism-crypt: Key must be 32 bytes, got 2\nDETAIL:  Key 1 of file \"short\".\nHINT:  A key is 64 hexadecimal digits or the base64 of 32 bytes.\n"
    );
    std::fs::set_permissions(place.path("key"), Permissions::from_mode(0o644)).unwrap();
    let said = place.fails(&["backup-key", "--key-file", "key"], 1);
    assert!(said.contains("mode 0600 or less"), "{said}");
}

#[test]
fn a_key_is_no_argument() {
    let place = Place::new();
    for option in ["--key", "--key-hex", "--password"] {
        let said = place.fails(&["backup-key", option, &"5e".repeat(32)], 2);
        assert!(said.starts_with("error: unexpected argument"), "{said}");
    }
    place.fails(&["backup-key", "--key-file", "key", "--key-stdin"], 2);
}
