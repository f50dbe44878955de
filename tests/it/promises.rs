//! Each promise of the guide, and each claim about security, names the tests that keep it. They exist, and run.

use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn each_promise_names_tests_that_exist() {
    let page = read("docs/promises.md");
    let promised = page.split("\n## ").find(|part| part.starts_with("What is promised")).unwrap();
    let promises: Vec<&str> = promised.split("\n### ").skip(1).collect();
    assert_eq!(promises.len(), 12, "a promise was added or removed");
    promises.into_iter().for_each(assert_names_tests);
}

#[test]
fn each_claim_about_security_names_tests_that_exist() {
    let page = read("docs/security.md");
    let claims: Vec<&str> = page.split("\n## ").skip(1).collect();
    assert_eq!(claims.len(), 8, "a section was added or removed");
    claims.into_iter().for_each(assert_names_tests);
}

/// Checks the list of tests at the end of a section.
fn assert_names_tests(section: &str) {
    let title = section.lines().next().unwrap();
    let (_, tests) = section.split_once("\nTests: ").unwrap_or_else(|| panic!("{title}: no tests"));
    let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
    assert!(!names.is_empty(), "{title}: no tests");
    for name in names {
        assert!(is_test(name), "{title}: there is no test {name}");
    }
}

/// Whether there is a test of this name, such as `worker/late::a_name`.
fn is_test(name: &str) -> bool {
    let (file, function) = name.split_once("::").unwrap();
    let source = read(&format!("tests/it/{file}.rs"));
    let lines: Vec<&str> = source.lines().collect();
    lines.windows(2).any(|pair| {
        let [attribute, line] = pair else { return false };
        let is_function = line.trim_start_matches("async ").starts_with(&format!("fn {function}("));
        is_function && (attribute.starts_with("#[test]") || attribute.starts_with("#[tokio::test"))
    })
}

#[test]
fn a_missing_test_is_noticed() {
    assert!(is_test("promises::a_missing_test_is_noticed"));
    assert!(!is_test("promises::is_test"));
    assert!(!is_test("promises::no_such_test"));
}
