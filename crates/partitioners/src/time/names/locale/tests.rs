use super::*;
use crate::ByTime;
use crate::tests::{Sample, fingerprint};
use crate::time::names::Name;

/// 2024-03-05, a Tuesday.
const AT_MS: i64 = 1_709_640_000_000;

fn route(pattern: &str, locale: &str) -> String {
    let by = ByTime::joda(pattern, "UTC").unwrap().locale(locale).unwrap();
    let timestamp = aqueduct_core::Timestamp::Create(AT_MS);
    Sample { timestamp, ..Sample::default() }.route(&by, &()).unwrap()
}

#[test]
fn names_are_those_of_the_language() {
    for (locale, expected) in [
        ("en", "Mar/March/Tue/Tuesday"),
        ("en-US", "Mar/March/Tue/Tuesday"),
        ("de", "März/März/Di./Dienstag"),
        ("de_AT", "März/März/Di./Dienstag"),
        ("fr-FR", "mars/mars/mar./mardi"),
        ("es", "mar/marzo/mar/martes"),
        ("ko_KR", "3월/3월/화/화요일"),
        ("ja", "3月/3月/火/火曜日"),
        ("zh-Hant-TW", "3月/3月/週二/星期二"),
        ("zh_TW", "3月/3月/週二/星期二"),
        ("zh-CN", "3月/三月/周二/星期二"),
        // The form that stands in a date: "5 марта".
        ("ru", "мар./марта/вт/вторник"),
        // A region without names of its own has those of its language.
        ("de-US", "März/März/Di./Dienstag"),
    ] {
        assert_eq!(route("MMM/MMMM/EEE/EEEE", locale), expected, "{locale}");
    }
    let in_september = Names::of_locale("en-GB").unwrap().table(Name::ShortMonth);
    assert_eq!(in_september[8], "Sept", "regions differ");
}

#[test]
fn unknown_locales_are_errors() {
    for locale in [
        "",
        "xx",
        "und",
        "root",
        "Klingon",
        "tlh",
        "de_",
        "de DE",
        "de-DE-",
        "C",
        "한국어",
        "e",
        "deutsch-DE",
    ] {
        let error = ByTime::daily("UTC").unwrap().locale(locale).map(|_| ()).unwrap_err();
        assert_eq!(error, LayoutError::UnknownLocale { locale: locale.to_owned() });
    }
    assert!(LayoutError::UnknownLocale { locale: "xx".to_owned() }.to_string().contains("like en-GB"));
}

#[test]
fn english_is_what_the_data_say() {
    let (ours, theirs) = (Names::english(), Names::of_locale("en").unwrap());
    for name in [Name::ShortMonth, Name::Month, Name::ShortDay, Name::Day] {
        assert_eq!(ours.table(name), theirs.table(name));
    }
}

#[test]
fn names_are_part_of_the_identity_where_they_are_shown() {
    let by = |pattern: &str, locale: &str| {
        fingerprint::<()>(&ByTime::strftime(pattern, "UTC").unwrap().locale(locale).unwrap())
    };
    assert_eq!(by("%Y/%b", "de").differing_parts(&by("%Y/%b", "fr")), ["locale-names"]);
    assert_eq!(by("%Y/%m", "de"), by("%Y/%m", "fr"), "numbers are the same everywhere");
    assert_eq!(by("%Y/%b", "en"), fingerprint::<()>(&ByTime::strftime("%Y/%b", "UTC").unwrap()));
    assert_eq!(by("%A", "de"), by("%A", "de_CH"), "the same names are the same layout");
    assert_ne!(by("%b", "de"), by("%a", "de"));
}

#[test]
fn names_that_make_a_pattern_too_long_are_an_error() {
    let pattern = "MMMM".to_owned() + &"-MMMM".repeat(21);
    let english = ByTime::joda(&pattern, "UTC").unwrap();
    let error = english.locale("el").map(|_| ()).unwrap_err();
    assert!(matches!(error, LayoutError::PatternTooLong { length: 439.., limit: 256, .. }), "{error:?}");
}
