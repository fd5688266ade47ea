//! The render phase: tasks in source order, so many at once as memory allows, each window written while the next is rendered.
//!
//! A task is a split, or some rows of one: a task that has produced enough ([`Memory::task_bytes`]) stops, and the rest of its split is cut into
//! tasks of a fitting size. What stands after such a rest is held until the rest is done, so that rows keep their order.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::execute::Execution;
use super::keys::SplitKeys;
use super::ledger::Tally;
#[cfg(doc)]
use super::memory::Memory;
use super::render::{Builders, Receipt, RenderTask, SplitOutput};
use super::seams::{DeliverySink, LinesFile, ReceiptSink, TriggerSource};
use crate::error::Result;

/// Rows of a split that are rendered in one go.
struct Task {
    split: usize,
    rows: Range<usize>,
}

/// What comes next in source order.
enum Next {
    Render(Task),
    /// Done, but not what stands before it.
    Held(SplitOutput),
}

/// Renders every split and hands on what it produces, in source order.
pub fn render_all<S: DeliverySink>(
    execution: &Execution<'_>,
    splits: &[SplitKeys],
    receipts: Option<&mut dyn ReceiptSink>,
    sink: &mut S,
) -> Result<Tally> {
    execution.progress.phase("rendering", execution.total_bytes());
    let renderer = Renderer {
        execution,
        splits,
        lines: first_lines(execution.source, splits),
        keep_receipts: receipts.is_some(),
        builders: Mutex::default(),
    };
    let tally = Tally::new(execution.rules.campaigns.loaded.len(), execution.schemas.channels.len());
    let mut collector = Collector { sink, receipts, pieces: Vec::new(), waiting: Vec::new(), tally };
    let at_once = execution.memory.tasks(rayon::current_num_threads());
    let whole = |(split, keys): (usize, &SplitKeys)| Next::Render(Task { split, rows: 0..keys.verdicts.len() });
    let mut queue: VecDeque<Next> = splits.iter().enumerate().map(whole).collect();
    while !queue.is_empty() {
        let window = take_window(&mut queue, at_once);
        // What the window before produced is encoded and written while this one is rendered.
        let (outputs, written) = rayon::join(|| renderer.render(window), || collector.write());
        written?;
        collect(outputs?, &mut queue, &mut collector)?;
    }
    collector.finish()
}

/// The next tasks, with what is held between them.
fn take_window(queue: &mut VecDeque<Next>, tasks: usize) -> Vec<Next> {
    let mut left = tasks;
    let mut window = Vec::new();
    while left > 0
        && let Some(next) = queue.pop_front()
    {
        left -= usize::from(matches!(next, Next::Render(_)));
        window.push(next);
    }
    window
}

/// Hands on what is complete in order; the rest goes back to the front of the queue.
fn collect<S: DeliverySink>(
    outputs: Vec<SplitOutput>,
    queue: &mut VecDeque<Next>,
    collector: &mut Collector<'_, '_, S>,
) -> Result<()> {
    let mut back: Vec<Next> = Vec::new();
    for mut output in outputs {
        let rest = std::mem::take(&mut output.rest);
        let tasks = cut(output.split, rest, output.rendered_rows());
        match back.is_empty() {
            true => collector.collect(output)?,
            false => back.push(Next::Held(output)),
        }
        back.extend(tasks.into_iter().map(Next::Render));
    }
    back.into_iter().rev().for_each(|next| queue.push_front(next));
    Ok(())
}

/// The rest of a split in tasks of somewhat fewer rows than were too many, so that these are seldom cut again.
fn cut(split: usize, rest: Range<usize>, too_many: usize) -> Vec<Task> {
    let rows = (too_many - too_many / 4).max(1);
    let ends = |start: usize| start.saturating_add(rows).min(rest.end);
    rest.clone().step_by(rows).map(|start| Task { split, rows: start..ends(start) }).collect()
}

struct Renderer<'a> {
    execution: &'a Execution<'a>,
    splits: &'a [SplitKeys],
    /// First line of every split in its file, from 1.
    lines: Vec<u64>,
    keep_receipts: bool,
    /// Builders that no task uses at the moment.
    builders: Mutex<Vec<Builders>>,
}

impl Renderer<'_> {
    fn render(&self, window: Vec<Next>) -> Result<Vec<SplitOutput>> {
        let render = |next| match next {
            Next::Render(task) => self.task(task),
            Next::Held(output) => Ok(output),
        };
        window.into_par_iter().map(render).collect::<Vec<_>>().into_iter().collect()
    }

    fn task(&self, task: Task) -> Result<SplitOutput> {
        let Execution { rules, schemas, source, memory, progress, interrupt, .. } = *self.execution;
        interrupt.check()?;
        let verdicts = &self.splits[task.split].verdicts;
        let ends = task.rows.end == verdicts.len();
        let waiting = self.builders.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let (output, builders) = RenderTask {
            rules,
            schemas,
            source,
            split: task.split,
            notes: &verdicts.notes(memory, &task.rows)?,
            rows: task.rows,
            first_line: self.lines[task.split],
            verdicts,
            keep_receipts: self.keep_receipts,
            most_bytes: memory.task_bytes(),
        }
        .run(waiting.unwrap_or_else(|| Builders::new(schemas, rules)))?;
        if memory.is_ample() {
            self.builders.lock().unwrap_or_else(PoisonError::into_inner).push(builders);
        }
        let is_last = ends && output.rest.is_empty();
        if is_last {
            verdicts.forget_notes();
        }
        let bytes = if is_last { source.split_bytes(task.split) } else { 0 };
        progress.advance(output.rendered_rows() as u64, bytes);
        Ok(output)
    }
}

fn first_lines(source: &dyn TriggerSource, splits: &[SplitKeys]) -> Vec<u64> {
    let mut next = 1;
    let mut file = None;
    splits
        .iter()
        .enumerate()
        .map(|(split, keys)| {
            if file != Some(source.file_of(split)) {
                (file, next) = (Some(source.file_of(split)), 1);
            }
            let first = next;
            next += keys.lines.lines;
            first
        })
        .collect()
}

/// Takes what splits produce, in source order, to where it goes.
struct Collector<'s, 'r, S: DeliverySink> {
    sink: &'s mut S,
    receipts: Option<&'s mut (dyn ReceiptSink + 'r)>,
    /// Pieces that are full, and receipts, not yet handed on.
    pieces: Vec<S::Piece>,
    waiting: Vec<Receipt>,
    tally: Tally,
}

impl<S: DeliverySink> Collector<'_, '_, S> {
    fn collect(&mut self, output: SplitOutput) -> Result<()> {
        for (table, rows) in output.tables {
            self.pieces.extend(self.sink.cut(table, rows)?);
        }
        self.sink.append_lines(LinesFile::Rejected, &output.rejected)?;
        self.sink.append_lines(LinesFile::Remainder, &output.remainder)?;
        self.waiting.extend(output.receipts);
        self.tally.add(&output.tally);
        Ok(())
    }

    /// Hands on what waits.
    fn write(&mut self) -> Result<()> {
        let (pieces, waiting) = (std::mem::take(&mut self.pieces), std::mem::take(&mut self.waiting));
        let (sink, receipts) = (&mut *self.sink, &mut self.receipts);
        let (appended, taken) = rayon::join(
            || append(sink, pieces),
            || receipts.as_mut().map_or(Ok(()), |receipts| receipts.take(waiting)),
        );
        appended.and(taken)
    }

    fn finish(mut self) -> Result<Tally> {
        self.write()?;
        self.pieces = self.sink.cut_rest()?;
        self.write()?;
        Ok(self.tally)
    }
}

/// Encodes on all threads, appends in order.
fn append<S: DeliverySink>(sink: &mut S, pieces: Vec<S::Piece>) -> Result<()> {
    let encoder = &*sink;
    let encoded: Vec<Result<S::Encoded>> = pieces.into_par_iter().map(|piece| encoder.encode(piece)).collect();
    encoded.into_iter().try_for_each(|piece| sink.append(piece?))
}
