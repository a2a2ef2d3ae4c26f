//! `inspect`, and what is made of the commands themselves.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Place, text};
use serde_json::Value;

/// Vectors of the format, which another program has written.
const ENVELOPES: &str = include_str!("../../envelope/tests/vectors/envelopes.json");

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn values() {
    let place = Place::new();
    let vectors: Vec<Value> = serde_json::from_str(ENVELOPES).unwrap();
    assert!(vectors.len() >= 8);
    for vector in vectors {
        let form = vector["text_form"].as_str().unwrap();
        let found = json(&place.run(&["inspect", "-", "--json"], format!("{form}\n").as_bytes()).stdout);
        assert_eq!(found["kind"], "value");
        assert_eq!((&found["key_version"], &found["class"]), (&vector["key_version"], &vector["class"]));
        assert_eq!(found["content"], if vector["bytes"] == true { "bytes" } else { "text" });
        assert_eq!(found["has_context"], !vector["context"].is_null());
        assert_eq!(found["search_tag_generation"].is_null(), vector["search_tag"].is_null());
        assert_eq!(found["length"], vector["plaintext"].as_str().unwrap().len() / 2);
    }
    let form = "prism:v1:AQAA";
    assert!(
        place.fails(&["inspect", form], 1).starts_with("prism-crypt: the text form is malformed\nDETAIL:  ")
    );
}

#[test]
fn files() {
    let place = Place::new();
    place.write("c.csv", "a\n1\n");
    place.ok(&["encrypt", "c.csv", "--output", "w.penc", "--wrap", "--key-file", "key"]);
    place.ok(&["encrypt", "c.csv", "--output", "1.penc", "--format", "1", "--key-file", "key"]);
    let fingerprint = text(&place.ok(&["backup-key", "--key-file", "key"]));
    let fingerprint = fingerprint.lines().next().unwrap().rsplit(' ').next().unwrap().to_owned();
    let found = json(&place.ok(&["inspect", "w.penc", "--json"]));
    assert_eq!((&found["kind"], &found["version"], &found["chunks"]), (&"file".into(), &2.into(), &1.into()));
    assert_eq!(
        (&found["key_source"], &found["master_fingerprint"]),
        (&"wrapped".into(), &fingerprint.into())
    );
    assert_eq!(found["bytes"], place.read("w.penc").len());
    let raw = place.ok(&["decrypt", "w.penc", "--format", "raw", "--key-file", "key"]);
    assert_eq!(found["content_bytes"], raw.len());
    let shown = text(&place.ok(&["inspect", "1.penc"]));
    assert!(
        shown.starts_with("encrypted file, PENC version 1\nkey:         given by whoever opens it"),
        "{shown}"
    );
    place.write("cut", &place.read("1.penc")[..20]);
    assert_eq!(place.fails(&["inspect", "cut"], 1), "prism-crypt: the file is truncated\n");
    place.write("nothing", "hello\n");
    assert_eq!(place.fails(&["inspect", "nothing"], 1), "prism-crypt: nothing of prism_crypt was found\n");
}

#[test]
fn dumps() {
    let place = Place::new();
    let vectors: Vec<Value> = serde_json::from_str(ENVELOPES).unwrap();
    let form = vectors[0]["text_form"].as_str().unwrap();
    let version = vectors[0]["key_version"].as_u64().unwrap().to_string();
    let dump = format!(
        "CREATE TABLE public.\"t (1)\" (id integer, \"na, me\" public.encrypted_text);\n\
         COPY prism_crypt.data_key (version, keyset, state, wrapped, master_fingerprint) FROM stdin;\n\
         {version}\tdefault\tactive\t\\\\x02\t00112233aabbccdd\n7\told\tdestroyed\t\\\\x\tffff\n\\.\n\n\
         COPY public.\"t (1)\" (id, \"na, me\", tags) FROM stdin;\n1\t{form}\t{{{form},{form}}}\n2\t\\N\tprism:v9:xx\n\\.\n\n\
         INSERT INTO public.u VALUES (1, '{form}');\n-- end: {form}\n"
    );
    place.write("dump.sql", &dump);
    let found = json(&place.ok(&["inspect", "dump.sql", "--json"]));
    let places: Vec<_> = found["columns"].as_array().unwrap().iter().collect();
    let counts =
        |column: &Value| (column["values"][&version].as_u64(), column["malformed"].as_u64().unwrap());
    let names = |column: &Value| {
        (column["table"].as_str().map(str::to_owned), column["column"].as_str().map(str::to_owned))
    };
    let some = |name: &str| Some(name.to_owned());
    assert_eq!(
        places.iter().map(|column| (names(column), counts(column))).collect::<Vec<_>>(),
        [
            ((None, None), (Some(1), 0)),
            ((some("public.\"t (1)\""), some("na, me")), (Some(1), 0)),
            ((some("public.\"t (1)\""), some("tags")), (Some(2), 1)),
            ((some("public.u"), None), (Some(1), 0)),
        ]
    );
    assert_eq!(found["master_fingerprints_needed"], serde_json::json!(["00112233aabbccdd"]));
    assert_eq!(found["data_keys"][1]["state"], "destroyed");
    // The same, through a pipe, without its key table.
    let rest = dump.split_once("\\.\n\n").unwrap().1;
    let found = json(&place.run(&["inspect", "-", "--json"], rest.as_bytes()).stdout);
    assert_eq!(found["versions_without_key"].as_array().unwrap().len(), 1);
    place.write("custom", "PGDMP and nothing that pg_restore can read");
    let said = place.fails(&["inspect", "custom"], 1);
    assert!(said.starts_with("prism-crypt: could not read the dump with pg_restore\nDETAIL:  "), "{said}");
}

#[test]
fn help_pages_and_completions() {
    let place = Place::new();
    let help = text(&place.ok(&["--help"]));
    std::fs::create_dir(place.path("man")).unwrap();
    place.ok(&["man", "man"]);
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .map(|line| line.split_whitespace().next().unwrap())
        .filter(|name| *name != "help")
        .collect();
    assert!(commands.len() >= 8, "{commands:?}");
    for command in &commands {
        let help = text(&place.ok(&[command, "--help"]));
        assert!(help.contains("Example"), "{command} has no example");
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
        assert!(place.path(&format!("man/prism-crypt-{command}.1")).exists(), "{command}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(text(&place.ok(&["completions", shell])).contains(commands[0]), "{shell}");
    }
    assert_eq!(text(&place.ok(&["--version"])), format!("prism-crypt {}\n", env!("CARGO_PKG_VERSION")));
}
