//! Everything that anybody in the process logs, at every level.

use std::fmt::{self, Write as _};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

/// An event or a span, with its fields.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) target: String,
    pub(crate) text: String,
}

static LINES: Mutex<Vec<Line>> = Mutex::new(Vec::new());

/// Takes all logs of the process, at `TRACE`: those of `tracing`, and those of `log`, which some dependencies use.
pub(crate) fn start() {
    static STARTED: OnceLock<()> = OnceLock::new();
    STARTED.get_or_init(|| {
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Everything)).unwrap();
        log::set_logger(&Everything).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
}

/// What was logged since the last call, but for what [`take_of`] takes.
pub(crate) fn take() -> Vec<Line> {
    lines().extract_if(.., |line| !line.target.starts_with("leaky")).collect()
}

/// What targets that start so have logged since the last call.
pub(crate) fn take_of(target: &str) -> Vec<Line> {
    lines().extract_if(.., |line| line.target.starts_with(target)).collect()
}

fn lines() -> MutexGuard<'static, Vec<Line>> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Everything;

impl<S: Subscriber> Layer<S> for Everything {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        let mut text = Text::default();
        attributes.record(&mut text);
        text.end(attributes.metadata().target());
    }

    fn on_record(&self, _: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        values.record(&mut text);
        text.end("a span's values");
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        text.end(event.metadata().target());
    }
}

impl log::Log for Everything {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        lines().push(Line { target: record.target().to_owned(), text: record.args().to_string() });
    }

    fn flush(&self) {}
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn end(self, target: &str) {
        if !self.0.is_empty() {
            lines().push(Line { target: target.to_owned(), text: self.0 });
        }
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, "{}={value:?} ", field.name()).unwrap();
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        write!(self.0, "{}={value} ", field.name()).unwrap();
    }
}
