//! Secrets that are known when they are seen, and everything in which they must not be.

use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{SetGlobalDefaultError, Subscriber, set_global_default};
use tracing::{Event, Metadata};

/// A secret of a test, recognised in whatever form it is written down: as it is, escaped, percent-encoded, in hex, as a list of
/// numbers, or in base64, alone or with something before and behind it.
///
/// Give it characters that encodings change: `canary/one+two=three`.
///
/// ```
/// use aqueduct_core::testkit::Canary;
///
/// static PASSWORD: Canary = Canary::new("password", "canary/one+two=three");
/// assert_eq!(PASSWORD.seen_in("pass=canary%2Fone%2Btwo%3Dthree&"), Some("percent-encoded"));
/// assert_eq!(PASSWORD.seen_in("the password is not said"), None);
/// ```
#[derive(Debug)]
pub struct Canary {
    name: &'static str,
    secret: &'static str,
    forms: OnceLock<Vec<(&'static str, String)>>,
}

impl Canary {
    /// The secret, and what it is called.
    pub const fn new(name: &'static str, secret: &'static str) -> Self {
        Self { name, secret, forms: OnceLock::new() }
    }

    /// What it is called.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The secret itself.
    pub fn secret(&self) -> &'static str {
        self.secret
    }

    /// In which form `text` shows the secret, if it does.
    pub fn seen_in(&self, text: &str) -> Option<&'static str> {
        let forms = self.forms.get_or_init(|| self.spell());
        forms.iter().find(|(_, form)| text.contains(form)).map(|(name, _)| *name)
    }

    fn spell(&self) -> Vec<(&'static str, String)> {
        let bytes = self.secret.as_bytes();
        let each =
            |spell: &dyn Fn(u8) -> String| -> Vec<String> { bytes.iter().map(|it| spell(*it)).collect() };
        let percent = |kept: &'static [u8], spell: fn(u8) -> String| {
            let keep = move |byte: u8| byte.is_ascii_alphanumeric() || kept.contains(&byte);
            each(&|byte| if keep(byte) { char::from(byte).to_string() } else { spell(byte) }).concat()
        };
        let (upper, lower) = (|byte| format!("%{byte:02X}"), |byte| format!("%{byte:02x}"));
        let mut forms = vec![
            ("as it is", self.secret.to_owned()),
            ("escaped", self.secret.escape_debug().to_string()),
            ("percent-encoded", percent(b"-._~", upper)),
            ("percent-encoded", percent(b"-._~", lower)),
            ("percent-encoded", percent(b"", upper)),
            ("percent-encoded", percent(b"-._~/", upper)),
            ("in hex", each(&|byte| format!("{byte:02x}")).concat()),
            ("in hex", each(&|byte| format!("{byte:02X}")).concat()),
            ("as a list of numbers", each(&|byte| byte.to_string()).join(", ")),
        ];
        for before in 0..3 {
            // In the middle of something, such as `user:password`: the digits that do not depend on its neighbours.
            let mut text = vec![b' '; before];
            text.extend_from_slice(bytes);
            let encoded = STANDARD_NO_PAD.encode(&text);
            let digits = (before * 4).div_ceil(3)..text.len() * 4 / 3;
            let digits = encoded.get(digits).unwrap_or_default();
            forms.push(("in base64", digits.to_owned()));
            forms.push(("in base64", digits.replace('+', "-").replace('/', "_")));
        }
        forms
    }
}

/// Something that was logged: an event or a span, with its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Who logged it.
    pub target: String,
    /// What, as `name=value` for each field.
    pub text: String,
}

/// Everything that is logged through `tracing` in this process, at every level and by every dependency. Clones share it.
///
/// ```
/// use aqueduct_core::testkit::LogCapture;
///
/// let log = LogCapture::install().expect("no other subscriber");
/// tracing::trace!(answer = 42, "found");
/// assert_eq!(log.take()[0].text, "message=found answer=42 ");
/// ```
#[derive(Clone, Debug, Default)]
pub struct LogCapture(Arc<Mutex<Vec<LogLine>>>);

impl LogCapture {
    /// Takes the logs of the process from now on. A test that does so needs a process of its own: an integration test with one
    /// capture for all its tests.
    ///
    /// # Errors
    /// If somebody has installed another subscriber.
    pub fn install() -> Result<Self, SetGlobalDefaultError> {
        let log = Self::default();
        set_global_default(Recorder { log: log.clone(), spans: AtomicU64::new(1) })?;
        Ok(log)
    }

    /// Adds what came another way, such as through the `log` crate.
    pub fn add(&self, target: impl Into<String>, text: impl Into<String>) {
        self.lines().push(LogLine { target: target.into(), text: text.into() });
    }

    /// What was logged since the last call.
    pub fn take(&self) -> Vec<LogLine> {
        std::mem::take(&mut *self.lines())
    }

    /// What was logged since the last call, by those that `wanted` says yes to.
    pub fn take_of(&self, wanted: impl Fn(&str) -> bool) -> Vec<LogLine> {
        self.lines().extract_if(.., |line| wanted(&line.target)).collect()
    }

    fn lines(&self) -> MutexGuard<'_, Vec<LogLine>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Recorder {
    log: LogCapture,
    spans: AtomicU64,
}

impl Recorder {
    fn record(&self, target: &str, fields: impl FnOnce(&mut Text)) {
        let mut text = Text(String::new());
        fields(&mut text);
        if !text.0.is_empty() {
            self.log.add(target, text.0);
        }
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        self.record(attributes.metadata().target(), |text| attributes.record(text));
        Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed))
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        self.record("a span's values", |text| values.record(text));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.record(event.metadata().target(), |text| event.record(text));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        write!(self.0, "{}={value:?} ", field.name()).ok();
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        write!(self.0, "{}={value} ", field.name()).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_is_known_in_every_form() {
        let canary = Canary::new("test", "canary/one+two=three.four");
        for (text, form) in [
            ("x canary/one+two=three.four x", "as it is"),
            ("Token=canary%2Fone%2Btwo%3Dthree.four&", "percent-encoded"),
            ("canary%2fone%2btwo%3dthree.four", "percent-encoded"),
            ("canary%2Fone%2Btwo%3Dthree%2Efour", "percent-encoded"),
            // printf canary/one+two=three.four | base64, and with `u:` and `us:` in front
            ("Y2FuYXJ5L29uZSt0d289dGhyZWUuZm91cg==", "in base64"),
            ("dTpjYW5hcnkvb25lK3R3bz10aHJlZS5mb3Vy", "in base64"),
            ("dXM6Y2FuYXJ5L29uZSt0d289dGhyZWUuZm91cg==", "in base64"),
            ("63616e6172792f6f6e652b74776f3d74687265652e666f7572", "in hex"),
        ] {
            assert_eq!(canary.seen_in(text), Some(form), "{text}");
        }
        assert_eq!(
            canary.seen_in(&format!("{:?}", canary.secret().as_bytes())),
            Some("as a list of numbers")
        );
        assert_eq!(canary.seen_in("canary/one+two and nothing more"), None);
        assert_eq!(Canary::new("quoted", "a\"b").seen_in(r#""a\"b""#), Some("escaped"));
    }
}
