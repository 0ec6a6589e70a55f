//! A bar that moves where there is a terminal, a line every two seconds where there is none.

use std::fmt::Display;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

/// How far a step has come, on standard error.
#[derive(Debug)]
pub struct Progress {
    label: &'static str,
    total: Option<u64>,
    /// None without a terminal.
    bar: Option<ProgressBar>,
    next_line: Instant,
}

impl Progress {
    /// Nothing done yet of `total`; none if nobody knows how much there is.
    pub fn new(label: &'static str, total: Option<u64>) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let (bar, template) = match total {
                Some(total) => {
                    (ProgressBar::new(total), "{prefix:>10} {bar:28} {human_pos}/{human_len} {msg}")
                }
                None => (ProgressBar::new_spinner(), "{prefix:>10} {spinner} {human_pos} {msg}"),
            };
            let style =
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.with_style(style).with_prefix(label)
        });
        Self { label, total, bar, next_line: Instant::now() + LINE_EVERY }
    }

    /// `done` records are through; `detail` says more.
    pub fn update(&mut self, done: u64, detail: impl Display) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(done);
                bar.set_message(detail.to_string());
                bar.tick();
            }
            None if Instant::now() >= self.next_line => {
                self.next_line = Instant::now() + LINE_EVERY;
                self.line(done, detail);
            }
            None => {}
        }
    }

    /// The step has ended, after `done` records.
    pub fn finish(self, done: u64, detail: impl Display) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.line(done, detail);
    }

    fn line(&self, done: u64, detail: impl Display) {
        let of = self.total.map(|total| format!(" of {}", HumanCount(total))).unwrap_or_default();
        eprintln!("{:>10} {}{of} {detail}", self.label, HumanCount(done));
    }
}

const LINE_EVERY: Duration = Duration::from_secs(2);
