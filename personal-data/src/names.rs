//! What the name of a column tells, together with the name of its table.

use crate::dictionary::{self, NAMES, Needs};
use crate::subject::Subject;
use crate::words::words;
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

/// How many words a name of the lists has at most.
const LONGEST: usize = 5;

type List = HashSet<&'static str>;

fn list(words: &'static str) -> List {
    words.split_whitespace().collect()
}

static PHRASES: LazyLock<HashMap<&'static str, (Subject, Needs)>> = LazyLock::new(|| {
    let mut phrases = HashMap::new();
    for names in &NAMES {
        for phrase in names.phrases.split_whitespace() {
            phrases.entry(phrase).or_insert((names.subject, names.needs));
        }
    }
    phrases
});
static PEOPLE: LazyLock<List> = LazyLock::new(|| list(dictionary::PEOPLE));
static ADDRESSES: LazyLock<List> = LazyLock::new(|| list(dictionary::ADDRESSES));
static PLACES: LazyLock<List> = LazyLock::new(|| list(dictionary::PLACES));
static ABOUT: LazyLock<List> = LazyLock::new(|| list(dictionary::ABOUT));
static BESIDE: LazyLock<List> = LazyLock::new(|| list(dictionary::BESIDE));
static NOT_BEFORE: LazyLock<List> = LazyLock::new(|| list(dictionary::NOT_BEFORE));

/// What a table is about, or an object in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    People,
    Addresses,
    Places,
    /// It says nothing by itself (`data`), or is not known.
    Unknown,
}

impl About {
    /// What something of this name is about.
    pub fn of(name: &str) -> Self {
        let words = words(name);
        let mut rest: Vec<&str> =
            words.iter().map(String::as_str).filter(|word| !word.chars().all(char::is_numeric)).collect();
        while rest.len() > 1 && rest.last().is_some_and(|last| ABOUT.contains(last)) {
            rest.pop();
        }
        let (Some(last), Some(first)) = (rest.last(), rest.first()) else { return Self::Unknown };
        if PEOPLE.contains(last) {
            Self::People
        } else if ADDRESSES.contains(last) {
            Self::Addresses
        } else if PLACES.contains(last) {
            Self::Places
        } else if PEOPLE.contains(first) && !is_english(first) || is_compound(last) {
            // In Romance languages what it is about comes first (`clienti_privati`), in German last (`privatkunden`).
            Self::People
        } else {
            Self::Unknown
        }
    }
}

impl About {
    /// What an object of this name is about; `None` if the name leaves that to what is around it (`data`, `profile`).
    pub fn told(name: &str) -> Option<Self> {
        let words = words(name);
        if words.iter().all(|word| ABOUT.contains(word.as_str())) {
            return None;
        }
        Some(Self::of(name))
    }
}

/// Whether the word is one of the English ones, which come first in the list.
fn is_english(word: &str) -> bool {
    dictionary::PEOPLE.split_whitespace().take_while(|one| *one != "cliente").any(|one| one == word)
}

fn is_compound(word: &str) -> bool {
    ["kunden", "mitarbeiter", "patienten", "benutzer", "mitglieder", "kontakte"]
        .iter()
        .any(|end| word.ends_with(end))
}

/// What a name suggests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hint {
    pub subject: Subject,
    /// Whether it counts only together with values that look like it.
    pub needs_values: bool,
    /// Whether it says that the values tell a part of something: a city, a postal code, an age.
    pub is_part: bool,
}

/// What a column of this name holds, in a table about something.
pub fn hint(name: &str, about: About) -> Option<Hint> {
    let words = words(name);
    for end in (1..=words.len()).rev() {
        for start in end.saturating_sub(LONGEST)..end {
            let phrase = words[start..end].concat();
            let Some((subject, needs)) = PHRASES.get(phrase.as_str()) else { continue };
            if let Some(needs_values) = judge(*subject, *needs, &words[..start], &words[end..], about) {
                let is_part = is_part(*subject, &phrase);
                return Some(Hint { subject: *subject, needs_values, is_part });
            }
            // A longer phrase within it would say the same.
            break;
        }
    }
    // `customer text`: perhaps the customer's name.
    let only = words.len() == 1 && words.iter().all(|word| PEOPLE.contains(word.as_str()));
    only.then_some(Hint { subject: Subject::Name, needs_values: true, is_part: false })
}

/// Whether the name counts at all, and if so, whether it needs values.
fn judge(subject: Subject, needs: Needs, before: &[String], after: &[String], about: About) -> Option<bool> {
    let is_beside = |word: &String| {
        BESIDE.contains(word.as_str()) || PEOPLE.contains(word.as_str()) || word.chars().all(char::is_numeric)
    };
    let is_personal = |word: &String| PEOPLE.contains(word.as_str());
    if !after.iter().all(is_beside) || before.iter().any(|word| NOT_BEFORE.contains(word.as_str())) {
        return None;
    }
    match needs {
        Needs::Nothing => Some(false),
        Needs::Values => Some(true),
        Needs::People => {
            if !before.iter().all(is_beside) {
                return None;
            }
            let named = before.iter().chain(after).any(is_personal);
            let delivered = |word: &String| {
                matches!(word.as_str(), "billing" | "shipping" | "delivery" | "home" | "ship" | "bill")
            };
            match (subject, about) {
                // Programs are clients, too.
                (Subject::Address, About::Unknown) if before.iter().any(|word| word == "client") => {
                    Some(true)
                }
                _ if named => Some(false),
                (_, About::People) | (Subject::Address, About::Addresses) => Some(false),
                (Subject::Address, _) if before.iter().any(delivered) => Some(false),
                (Subject::Address, About::Unknown) => Some(true),
                _ => None,
            }
        }
    }
}

fn is_part(subject: Subject, phrase: &str) -> bool {
    const PARTS: &str = "street1 street2 wohnort hausnummer hausnr placeofresidence lieuresidence residenza domicilio
        streetno streetnumber housenumber housenumberaddition apartment postcode postalcode zipcode zip city town suburb civico numerocivico
        cap citta comune localita frazione plz postleitzahl ort stadt ortsteil codepostal ville commune codigopostal cp ciudad localidad
        municipio colonia cep cidade bairro codigopostale age eta alter edad idade birthyear yearofbirth yearbirth annonascita geburtsjahr
        anneenaissance anonacimiento anonascimento addressline2 addressline3 address2 address3 addr2 complementadresse";
    matches!(subject, Subject::Address | Subject::Birth)
        && PARTS.split_whitespace().any(|part| part == phrase)
}

#[cfg(test)]
mod tests {
    use super::{About, Hint, hint};
    use crate::subject::Subject;

    fn subject(table: &str, column: &str) -> Option<Subject> {
        hint(column, About::of(table)).filter(|hint| !hint.needs_values).map(|hint| hint.subject)
    }

    #[test]
    fn names_tell() {
        for (table, column, expected) in [
            ("x", "email", Subject::Email),
            ("x", "E-Mail", Subject::Email),
            ("x", "customerEmailAddress", Subject::Email),
            ("x", "telefono_cliente", Subject::Phone),
            ("x", "phone2", Subject::Phone),
            ("x", "data_di_nascita", Subject::Birth),
            ("x", "CodiceFiscale", Subject::TaxId),
            ("users", "name", Subject::Name),
            ("crm_customers_old", "city", Subject::Address),
            ("clienti_privati", "nome", Subject::Name),
            ("stammkunden", "ort", Subject::Address),
            ("x", "nome_paziente", Subject::Name),
            ("orders", "shipping_city", Subject::Address),
            ("x", "prénom", Subject::Name),
            ("x", "nº_de_pasaporte_pasaporte", Subject::Trait),
        ] {
            assert_eq!(subject(table, column), Some(expected), "{table}.{column}");
        }
    }

    #[test]
    fn other_things_have_such_words_too() {
        for (table, column) in [
            ("x", "email_verified"),
            ("x", "email_template_id"),
            ("x", "is_phone"),
            ("products", "name"),
            ("users", "country_name"),
            ("x", "ip_address"),
            ("stores", "city"),
            ("x", "file_name"),
            ("users", "phone_country_code"),
            ("x", "user_id"),
            ("x", "page"),
            ("x", "storage"),
            ("x", ""),
        ] {
            assert_eq!(subject(table, column), None, "{table}.{column}");
        }
    }

    #[test]
    fn some_count_only_with_values() {
        assert_eq!(
            hint("pan", About::Unknown),
            Some(Hint { subject: Subject::Card, needs_values: true, is_part: false })
        );
        assert_eq!(hint("cliente", About::Unknown).map(|hint| hint.needs_values), Some(true));
        assert_eq!(hint("address", About::Unknown).map(|hint| hint.needs_values), Some(true));
        assert_eq!(hint("client_addr", About::Unknown).map(|hint| hint.needs_values), Some(true));
        assert_eq!(hint("address", About::Places), None);
    }
}
