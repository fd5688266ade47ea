//! How far a run is: a bar on a terminal, plain lines elsewhere. Never a recipient, never a value.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::print::{bytes_text, count_text};
use crate::pipeline::Progress;

/// Between two plain lines of one phase.
const LINE_EVERY: Duration = Duration::from_secs(5);

enum Shown {
    Nothing,
    Bar(ProgressBar),
    Lines { verbose: bool },
}

/// The progress of a run on standard error.
pub struct ShownProgress {
    shown: Shown,
    rows: AtomicU64,
    bytes: AtomicU64,
    phase: Mutex<Phase>,
}

struct Phase {
    name: &'static str,
    bytes: u64,
    start: Instant,
    next_line: Instant,
}

impl ShownProgress {
    /// A bar on a terminal, lines elsewhere, nothing when `quiet`.
    pub fn new(quiet: bool, verbose: bool) -> ShownProgress {
        let shown = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Shown::Nothing,
            (false, true) => Shown::Bar(ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(10))),
            (false, false) => Shown::Lines { verbose },
        };
        let now = Instant::now();
        let phase = Mutex::new(Phase { name: "", bytes: 0, start: now, next_line: now });
        ShownProgress { shown, rows: AtomicU64::new(0), bytes: AtomicU64::new(0), phase }
    }

    /// Clears the bar.
    pub fn finish(&self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        let _ = writeln!(std::io::stderr(), "retrigger: {text}");
    }
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template(
        "{prefix:>14} [{bar:30}] {percent:>3}%  {msg}  {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left",
    )
    .unwrap_or_else(|_| ProgressStyle::default_bar())
    .progress_chars("=> ")
}

impl Progress for ShownProgress {
    fn phase(&self, name: &'static str, bytes: u64) {
        self.rows.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        let now = Instant::now();
        if let Ok(mut phase) = self.phase.lock() {
            *phase = Phase { name, bytes, start: now, next_line: now + LINE_EVERY };
        }
        match &self.shown {
            Shown::Nothing | Shown::Lines { verbose: false } => {}
            Shown::Lines { verbose: true } => self.line(&format!("{name}, {}", bytes_text(bytes))),
            Shown::Bar(bar) => {
                bar.reset();
                bar.set_style(bar_style());
                bar.set_length(bytes);
                bar.set_prefix(name);
            }
        }
    }

    fn advance(&self, rows: u64, bytes: u64) {
        let rows = self.rows.fetch_add(rows, Ordering::Relaxed) + rows;
        let done = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        match &self.shown {
            Shown::Nothing => {}
            Shown::Bar(bar) => {
                bar.set_position(done);
                bar.set_message(format!("{} rows", count_text(rows)));
            }
            Shown::Lines { .. } => {
                let Ok(mut phase) = self.phase.lock() else { return };
                let now = Instant::now();
                if now >= phase.next_line {
                    phase.next_line = now + LINE_EVERY;
                    let percent = done * 100 / phase.bytes.max(1);
                    let rate = (done as f64 / phase.start.elapsed().as_secs_f64()) as u64;
                    let (name, rows) = (phase.name, count_text(rows));
                    self.line(&format!("{name}: {percent}%, {rows} rows, {}/s", bytes_text(rate)));
                }
            }
        }
    }
}
