//! Texts of records that become levels of a route, and texts of configurations that become field paths.

use aqueduct_core::{FieldPath, PoisonReason, RoutePath};
use proptest::prelude::*;

/// Texts with what could break out of a level, and any other.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a./%=\\\\ \u{0}\n\u{7f}\u{e9}\u{202e}-]{0,9}",
        2 => prop::sample::select(vec!["", ".", "..", "%2E", "%", "%2F", "a%2Fb", "a=b", "\u{2f}", "\u{ff0f}", "..."])
            .prop_map(str::to_owned),
        1 => any::<String>(),
        1 => (250..260_usize, "[a/é]").prop_map(|(count, text)| text.repeat(count)),
    ]
}

/// What a level stands for: the inverse of the escaping, written from its description.
fn unescape(level: &str) -> String {
    if level == "%" {
        return String::new();
    }
    let mut bytes = Vec::new();
    let mut rest = level.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first == b'%' {
            let (digits, after) = rest.split_at(2);
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap());
            rest = after;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// What every route must be, whatever went into it.
fn check(path: &RoutePath) -> Result<(), TestCaseError> {
    let route = path.as_str();
    prop_assert!(route.len() <= RoutePath::ROUTE_MAX);
    prop_assert!(!route.bytes().any(|byte| byte < 0x20 || byte == 0x7f || byte == b'\\'), "{:?}", route);
    for level in route.split('/').filter(|_| !route.is_empty()) {
        prop_assert!((1..=RoutePath::LEVEL_MAX).contains(&level.len()), "{:?}", route);
        prop_assert!(level != "." && level != "..", "{:?}", route);
    }
    Ok(())
}

proptest! {
    #[test]
    fn levels_can_be_read_back_so_no_two_texts_share_one(levels in prop::collection::vec(text(), 1..5)) {
        let mut path = RoutePath::default();
        let mut kept = Vec::new();
        for level in &levels {
            let before = path.clone();
            match path.push(level) {
                Ok(()) => kept.push(level.clone()),
                Err(poison) => {
                    prop_assert_eq!(poison.reason(), PoisonReason::InvalidRoute);
                    prop_assert_eq!(&path, &before, "a refused level leaves the path alone");
                }
            }
            check(&path)?;
        }
        let read: Vec<String> = path.as_str().split('/').filter(|_| !kept.is_empty()).map(unescape).collect();
        prop_assert_eq!(read, kept);
    }

    #[test]
    fn fields_can_be_read_back_so_no_value_fakes_another(fields in prop::collection::vec((text(), text()), 1..4)) {
        let mut path = RoutePath::default();
        let mut kept = Vec::new();
        for (name, value) in &fields {
            if path.push_field(name, value).is_ok() {
                kept.push((name.clone(), value.clone()));
            }
            check(&path)?;
        }
        let read: Vec<(String, String)> = path.as_str().split('/').filter(|_| !kept.is_empty()).map(|level| {
            let (name, value) = level.split_once('=').unwrap();
            (unescape(name), unescape(value))
        }).collect();
        prop_assert_eq!(read, kept);
    }

    #[test]
    fn rendered_levels_never_leave_their_place(first in text(), levels in "[a./%=\\\\\n]{0,12}|\\PC*", nested: bool) {
        let mut path = RoutePath::default();
        if path.push(&first).is_err() {
            return Ok(());
        }
        let before = path.as_str().to_owned();
        let result = if nested {
            let mut inner = RoutePath::default();
            inner.push_levels(&levels).and_then(|()| path.push_escaped(&inner))
        } else {
            path.push_levels(&levels)
        };
        check(&path)?;
        if result.is_err() {
            prop_assert_eq!(path.as_str(), before);
        } else {
            prop_assert!(path.as_str().starts_with(&before));
        }
    }

    #[test]
    fn any_text_is_a_field_path_or_an_error(text in "[a.\\\\]{0,8}|\\PC*", names in prop::collection::vec(any::<String>(), 1..5)) {
        match FieldPath::parse(&text) {
            Ok(path) => {
                prop_assert!(path.segments().iter().all(|segment| !segment.is_empty()));
                prop_assert_eq!(FieldPath::parse(&path.to_string()), Ok(path));
            }
            Err(error) => prop_assert!(!error.to_string().contains('\n')),
        }
        let escaped: Vec<String> =
            names.iter().map(|name| name.replace('\\', r"\\").replace('.', r"\.")).collect();
        let path = FieldPath::parse(&escaped.join("."));
        prop_assert_eq!(path.is_ok(), names.iter().all(|name| !name.is_empty()));
        if let Ok(path) = path {
            prop_assert_eq!(path.segments(), names);
        }
    }
}

/// A path as deep as a configuration can make it costs what its text costs.
#[test]
fn a_deep_field_path_is_read() {
    let deep = FieldPath::parse(&vec!["a"; 100_000].join(".")).unwrap();
    assert_eq!((deep.segments().len(), deep.name()), (100_000, "a"));
    assert!(FieldPath::parse(&".".repeat(100_000)).is_err());
}
