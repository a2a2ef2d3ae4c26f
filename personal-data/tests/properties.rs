//! Whatever is shown to a column, it answers, shows nothing of it, and does not take other things for personal data.

use prism_personal_data::{Column, Confidence, Family, Finding};
use proptest::prelude::*;

const FAMILIES: [Family; 5] = [Family::Text, Family::Json, Family::Bytes, Family::Number, Family::Date];

fn judge(table: &str, name: &str, family: Family, values: &[String]) -> Option<Finding> {
    let mut column = Column::new(table, name, family);
    for value in values {
        match family {
            Family::Text => column.see_text(value),
            Family::Json => column.see_json(value),
            Family::Bytes => column.see_bytes(value.as_bytes()),
            Family::Number => column.see_number(value),
            Family::Date => column.see_year(value.len() as i32 * 100),
        }
    }
    column.finding()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn anything_is_answered(table in ".{0,70}", name in ".{0,70}", values in prop::collection::vec(".{0,60}", 0..8)) {
        for family in FAMILIES {
            if let Some(finding) = judge(&table, &name, family, &values) {
                prop_assert!(finding.matches <= finding.sampled);
            }
        }
    }

    #[test]
    fn any_bytes_are_answered(values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..8)) {
        let mut column = Column::new("t", "c", Family::Bytes);
        values.iter().for_each(|value| column.see_bytes(value));
        prop_assert!(column.finding().is_none_or(|finding| finding.sampled <= values.len() as u64));
    }

    #[test]
    fn documents_are_answered(text in r#"[\[\]{}":,a-z0-9@. ]{0,60}"#) {
        judge("t", "c", Family::Json, &[text]);
    }

    #[test]
    fn no_value_is_shown(local in "[a-z]{9,12}", key in "[a-z]{9,12}") {
        let address = format!("{local}@example.org");
        let values = [format!(r#"{{"{address}": {{"n": 1}}, "x": "{address}", "39 {key}": "{address}"}}"#), address.clone(), format!("To {address}!")];
        for (family, some) in [(Family::Json, &values[..1]), (Family::Text, &values[..]), (Family::Bytes, &values[1..])] {
            let finding = judge("t", "c", family, some);
            let finding = finding.ok_or_else(|| TestCaseError::fail("not found"))?;
            prop_assert_eq!(finding.class, Some("email"));
            prop_assert!(!finding.note.contains(&local) && !finding.note.contains(&key), "{}", finding.note);
        }
    }

    /// Codes and identifiers of any form: none is taken for anything that has check digits.
    #[test]
    fn codes_are_no_personal_data(code in prop::sample::select(vec![
        "[A-Z]{3}-[0-9]{5}", "[0-9a-f]{32}", "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}", "[0-9]{4}", "[0-9]{16}", "[A-Z0-9]{16}",
        "[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}", "v[0-9]\\.[0-9]{1,2}\\.[0-9]{1,2}", "20[0-9]{2}-[01][0-9]-[0-3][0-9]", "[0-9]{8}[A-Z]", "/[a-z]{3}/[a-z]{3}\\.[a-z]{2}",
        "DE[0-9]{9}", "[0-9]{3}-[0-9]{7}-[0-9]{7}", "1Z[A-Z0-9]{16}", "978-[0-9]-[0-9]{2}-[0-9]{6}-[0-9]", "[0-9]{13}", "[0-9]{10}", "0x[0-9a-f]{40}", "[a-z]{4,8}@[0-9]\\.[0-9]\\.[0-9]", "[a-z]{3,8}://[a-z]{5}\\.com/[a-z]{4}",
    ]), seed in any::<[u8; 32]>()) {
        use proptest::strategy::ValueTree;
        use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
        let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
        let strategy = proptest::string::string_regex(code).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let values: Vec<String> = (0..100).filter_map(|_| strategy.new_tree(&mut runner).ok()).map(|tree| tree.current()).collect();
        let finding = judge("items", "code", Family::Text, &values);
        prop_assert!(finding.is_none(), "{code} {finding:?}");
    }
}

#[test]
fn more_values_give_no_less_confidence_than_the_name() {
    let by_name = judge("users", "email", Family::Text, &[]).map(|finding| finding.confidence);
    let by_values = judge("users", "email", Family::Text, &["anna@example.org".to_owned()])
        .map(|finding| finding.confidence);
    assert_eq!((by_name, by_values), (Some(Confidence::Low), Some(Confidence::High)));
}
