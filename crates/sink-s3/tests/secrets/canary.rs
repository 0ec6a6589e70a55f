//! Secrets that are known when they are seen, in whatever form they are written down.

use std::fmt::Write as _;
use std::sync::OnceLock;

use aws_smithy_types::base64;

/// What every canary starts with: text in which this is not found in any form holds none of them.
pub(crate) static ANY: Canary = Canary::new("any", "canary");

/// A secret of a test. Long, and full of characters that encodings change.
pub(crate) struct Canary {
    pub(crate) name: &'static str,
    pub(crate) secret: &'static str,
    forms: OnceLock<Vec<(&'static str, String)>>,
}

impl Canary {
    pub(crate) const fn new(name: &'static str, secret: &'static str) -> Self {
        Self { name, secret, forms: OnceLock::new() }
    }

    /// How `text` shows the secret, if it does.
    pub(crate) fn seen_in(&self, text: &str) -> Option<&'static str> {
        let forms = self.forms.get_or_init(|| self.forms());
        forms.iter().find(|(_, form)| text.contains(form)).map(|(name, _)| *name)
    }

    fn forms(&self) -> Vec<(&'static str, String)> {
        let bytes = self.secret.as_bytes();
        let join = |separator: &str, spell: &dyn Fn(u8) -> String| {
            bytes.iter().map(|byte| spell(*byte)).collect::<Vec<_>>().join(separator)
        };
        let escaped = |spell: &dyn Fn(u8) -> String| {
            join("", &|byte| {
                if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { spell(byte) }
            })
        };
        let percent = escaped(&|byte| format!("%{byte:02X}"));
        let mut forms = vec![
            ("as it is", self.secret.to_owned()),
            ("escaped", self.secret.escape_debug().to_string()),
            ("percent-encoded, all of it", percent.clone()),
            ("percent-encoded, in lower case", escaped(&|byte| format!("%{byte:02x}"))),
            (
                "percent-encoded, as a form",
                percent.replace("%2D", "-").replace("%2E", ".").replace("%5F", "_"),
            ),
            ("in hex", join("", &|byte| format!("{byte:02x}"))),
            ("in capital hex", join("", &|byte| format!("{byte:02X}"))),
            ("as a list of numbers", join(", ", &|byte| byte.to_string())),
        ];
        for before in 0..3 {
            // In the middle of something, such as `user:password`: what does not depend on its neighbours.
            let mut text = String::new();
            write!(text, "{:before$}{}", "", self.secret).unwrap();
            let encoded = base64::encode(&text);
            let (start, end) = ((before * 4).div_ceil(3), text.len() * 4 / 3);
            let core = encoded[start..end].to_owned();
            forms.push(("in base64", core.clone()));
            forms.push(("in base64 for URLs", core.replace('+', "-").replace('/', "_")));
        }
        forms.sort_by(|one, other| one.1.cmp(&other.1));
        forms.dedup_by(|one, other| one.1 == other.1);
        forms
    }
}

#[test]
fn a_canary_is_known_in_every_form() {
    let canary = Canary::new("test", "canary/one+two=three.four");
    for (text, form) in [
        ("x canary/one+two=three.four x", "as it is"),
        ("Token=canary%2Fone%2Btwo%3Dthree.four&", "percent-encoded, as a form"),
        ("canary%2fone%2btwo%3dthree%2efour", "percent-encoded, in lower case"),
        // printf canary/one+two=three.four | base64, and with `u:` and `us:` in front
        ("Y2FuYXJ5L29uZSt0d289dGhyZWUuZm91cg==", "in base64"),
        ("dTpjYW5hcnkvb25lK3R3bz10aHJlZS5mb3Vy", "in base64"),
        ("dXM6Y2FuYXJ5L29uZSt0d289dGhyZWUuZm91cg==", "in base64"),
        ("63616e6172792f6f6e652b74776f3d74687265652e666f7572", "in hex"),
        (
            "[99, 97, 110, 97, 114, 121, 47, 111, 110, 101, 43, 116, 119, 111, 61, 116, 104, 114, 101, 101, 46, 102, 111, 117, 114]",
            "as a list of numbers",
        ),
    ] {
        assert_eq!(canary.seen_in(text), Some(form), "{text}");
        assert!(ANY.seen_in(text).is_some(), "{text}");
    }
    assert_eq!(canary.seen_in("canary/one+two and nothing more"), None);
}
