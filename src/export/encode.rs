//! Encodes records as JSON events of a trace, into a buffer that the writer drains.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Serialize;

use super::dictionary::{Dictionary, place};
use super::document::{CLOSE, frame_text, stack_frames};
use super::events::{
    CauseTime, CensusThreadDef, Cost, Event, Extra, ProfiledRef, ROOT_BUSY, Released, SLOW_POLL,
    SlowArgs, StackRef, Usage,
};
use super::micros::Micros;
use super::viewer_samples::ViewerSamples;
use crate::model::{Census, PollTime, Record, Role, RootPoll, SlowPoll, Tier, Worker, WorkerUsage};

/// Encodes records as events.
#[derive(Default)]
pub struct Encoder {
    pid: u32,
    /// Encoded events; the writer drains them.
    pub bytes: Vec<u8>,
    /// How many records they hold.
    pub records: u64,
    dictionary: Dictionary,
    samples: ViewerSamples,
    /// Polls that have not ended, by thread.
    running: BTreeMap<u32, Arc<SlowPoll>>,
    /// The counter's name and the last reading of each worker, by thread.
    workers: HashMap<u32, (String, WorkerUsage)>,
}

impl Encoder {
    /// An encoder for a target process with this PID.
    pub fn new(pid: u32) -> Encoder {
        Encoder {
            pid,
            ..Encoder::default()
        }
    }

    /// Encodes a record. The header is skipped: it is part of the file's head. A running poll is
    /// held back until it or the session ends, and dropped when the tier changes: its end is then
    /// unknown.
    ///
    /// # Errors
    /// When the record cannot be written as JSON; `bytes` is unchanged.
    pub fn encode(&mut self, record: &Record) -> serde_json::Result<()> {
        match record {
            Record::Header(_) => return Ok(()),
            Record::Running(poll) => {
                self.running.insert(poll.tid, poll.clone());
                return Ok(());
            }
            Record::SlowPoll(poll) => {
                self.running.remove(&poll.tid);
                self.encode_poll(poll)?;
            }
            Record::Worker(worker) => self.encode_worker(worker)?,
            Record::WorkerGone { tid, at_ns } => {
                self.running.remove(tid);
                self.workers.remove(tid);
                let mut event = self.instant("thread ended", "t", *at_ns, Extra::WorkerGone {});
                event.tid = Some(*tid);
                push(&mut self.bytes, &event)?;
            }
            Record::Usage(usage) => self.encode_usage(usage)?,
            Record::AllPollTime { on, at_ns } => {
                let name = match on {
                    true => "all poll time: sampled from here on",
                    false => "all poll time: no longer sampled",
                };
                let event = self.instant(name, "p", *at_ns, Extra::AllPollTime { on: *on });
                push(&mut self.bytes, &event)?;
            }
            Record::PollTime(time) => self.encode_poll_time(time)?,
            Record::Losses(losses) => {
                let kinds = losses.by_kind().map(|(name, n)| (Cow::from(name), n));
                let event = self.metadata("hud_losses", Extra::Losses(kinds.into()));
                push(&mut self.bytes, &event)?;
            }
            Record::Cost(cost) => {
                let event = self.metadata("hud_cost", Extra::Cost(Cost::of(cost)));
                push(&mut self.bytes, &event)?;
            }
            Record::TierChanged { tier, at_ns, why } => {
                self.running.clear();
                let extra = Extra::Tier {
                    tier: tier.number(),
                    layout_learnt: *tier == Tier::Learnt,
                    why: why.as_str().into(),
                };
                let name = format!("poll tracking: {}", tier.describe());
                let event = self.instant(&name, "p", *at_ns, extra);
                push(&mut self.bytes, &event)?;
            }
            Record::Census(census) => self.encode_census(census)?,
            Record::End { reason, at_ns } => {
                self.encode_running()?;
                let extra = Extra::End {
                    reason: reason.as_str().into(),
                };
                let event = self.instant("end of recording", "p", *at_ns, extra);
                push(&mut self.bytes, &event)?;
            }
        }
        self.records += 1;
        Ok(())
    }

    /// The end of the file, in chunks.
    pub fn ending(&self) -> impl Iterator<Item = Vec<u8>> {
        stack_frames(&self.dictionary)
            .chain(self.samples.chunks(self.pid))
            .chain([CLOSE.to_vec()])
    }

    /// Encodes the polls that have not ended.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn encode_running(&mut self) -> serde_json::Result<()> {
        for poll in std::mem::take(&mut self.running).into_values() {
            self.encode_poll(&poll)?;
            self.records += 1;
        }
        Ok(())
    }

    fn encode_poll(&mut self, poll: &SlowPoll) -> serde_json::Result<()> {
        let released_by = poll.released_by.as_deref();
        let frames: usize = poll.stacks.iter().map(|s| s.frames.len()).sum();
        self.make_room(frames + released_by.map_or(0, |by| by.frames.len()) + 1);
        let mut stacks = Vec::with_capacity(poll.stacks.len());
        for stack in &poll.stacks {
            stacks.push(StackRef {
                sf: self.dictionary.stack(&stack.frames),
                weight_us: Micros(stack.weight_ns),
                activity: stack.activity.as_str().into(),
                cause: stack.cause.as_str().into(),
                complete: stack.complete,
            });
        }
        let weights: Vec<(u32, u64)> = stacks
            .iter()
            .map(|stack| (stack.sf, stack.weight_us.0))
            .collect();
        self.samples.add(poll, &weights, &mut self.dictionary);
        let released_by = released_by.map(|by| Released {
            tid: by.tid,
            thread: by.thread.as_str().into(),
            how: by.how.as_str().into(),
            wait_us: Micros(by.wait_ns),
            function: by.culprit.function.as_str().into(),
            calls: by.culprit.calls.as_deref().map(Cow::from),
            location: by.culprit.location.as_ref().map(place),
            chain: by
                .culprit
                .chain
                .iter()
                .map(|name| name.as_str().into())
                .collect(),
            sf: self.dictionary.stack(&by.frames),
        });
        self.define_frames()?;
        let culprit = &poll.culprit;
        let mut event = Event::new("X", culprit.function.as_str());
        let category = match poll.root {
            Some(RootPoll::BusyStretch) => ROOT_BUSY,
            Some(RootPoll::OnePoll) | None => SLOW_POLL,
        };
        event.cat = Some(format!("{category},{}", poll.cause).into());
        event.ts = Some(Micros(poll.start_ns));
        event.dur = Some(Micros(poll.held_ns()));
        event.pid = Some(self.pid);
        event.tid = Some(poll.tid);
        let heaviest = stacks.first().filter(|stack| stack.sf != 0);
        event.sf = heaviest.map(|stack| stack.sf.to_string().into());
        let heaviest = poll.heaviest().map_or(&[][..], |stack| &stack.frames);
        event.args = Some(SlowArgs {
            cause: poll.cause.as_str().into(),
            task: poll.task,
            worker: poll.worker,
            runtime: poll.runtime,
            on_cpu_us: Micros(poll.split.on_cpu_ns),
            run_queue_us: Micros(poll.split.run_queue_ns),
            blocked_us: Micros(poll.split.blocked_ns),
            causes: poll
                .causes
                .iter()
                .map(|(cause, ns)| CauseTime {
                    cause: cause.as_str().into(),
                    us: Micros(*ns),
                })
                .collect(),
            calls: culprit.calls.as_deref().map(Cow::from),
            location: culprit.location.as_ref().map(place),
            chain: culprit
                .chain
                .iter()
                .map(|name| name.as_str().into())
                .collect(),
            root: poll.root.map(|root| root.as_str().into()),
            running: poll.running,
            began_before_attach: poll.began_before_attach,
            throttled: poll.held_back.throttled,
            stolen: poll.held_back.stolen,
            stack: heaviest
                .iter()
                .map(|frame| frame_text(frame).into())
                .collect(),
            stacks,
            released_by,
        });
        push(&mut self.bytes, &event)
    }

    /// As [`Dictionary::make_room`]. A reset voids the samples' references, too.
    fn make_room(&mut self, frames: usize) {
        if self.dictionary.make_room(frames) {
            self.samples.clear();
        }
    }

    /// Writes the new definitions of the dictionary. They must precede the event that uses them.
    fn define_frames(&mut self) -> serde_json::Result<()> {
        let Some(new) = self.dictionary.take_new() else {
            return Ok(());
        };
        let mut event: Event<'_, ()> = Event::new("M", "hud_frames");
        event.pid = Some(self.pid);
        event.hud = Some(Extra::Frames(new));
        push(&mut self.bytes, &event)
    }

    /// Encodes samples as a counter that viewers draw in percent of a CPU.
    fn encode_poll_time(&mut self, time: &PollTime) -> serde_json::Result<()> {
        #[derive(Serialize)]
        struct Percent {
            in_polls: f64,
        }
        let frames = time.stacks.iter().map(|s| s.stack.frames.len()).sum();
        self.make_room(frames);
        let mut stacks = Vec::with_capacity(time.stacks.len());
        for profiled in &time.stacks {
            stacks.push(ProfiledRef {
                sf: self.dictionary.stack(&profiled.stack.frames),
                weight_us: Micros(profiled.stack.weight_ns),
                cause: profiled.stack.cause.as_str().into(),
                complete: profiled.stack.complete,
                function: profiled.function.as_str().into(),
                calls: profiled.calls.as_deref().map(Cow::from),
                location: profiled.location.as_ref().map(place),
            });
        }
        self.define_frames()?;
        let span = time.to_ns.saturating_sub(time.from_ns).max(1) as f64;
        let name = match self.workers.get(&time.tid) {
            Some((name, _)) => format!("all poll time: {name}"),
            None => format!("all poll time: thread {}", time.tid),
        };
        let mut event = self.counter(name, "all_poll_time", time.tid, time.to_ns);
        event.args = Some(Percent {
            in_polls: (time.on_cpu_ns() as f64 * 1000.0 / span).round() / 10.0,
        });
        event.hud = Some(Extra::PollTime {
            from_us: Micros(time.from_ns),
            stacks,
        });
        push(&mut self.bytes, &event)
    }

    fn encode_census(&mut self, census: &Census) -> serde_json::Result<()> {
        let frames = census.threads.iter().map(|thread| thread.frames.len());
        self.make_room(frames.sum());
        let mut threads = Vec::with_capacity(census.threads.len());
        for thread in &census.threads {
            let sf = self.dictionary.stack(&thread.frames);
            threads.push(CensusThreadDef::of(thread, sf));
        }
        self.define_frames()?;
        let words = census.words.iter().map(Cow::from).collect();
        let extra = Extra::Census { words, threads };
        let event = self.instant("census", "p", census.at_ns, extra);
        push(&mut self.bytes, &event)
    }

    fn encode_worker(&mut self, worker: &Worker) -> serde_json::Result<()> {
        #[derive(Serialize)]
        struct Name<'a> {
            name: &'a str,
        }
        let name = match worker.index {
            _ if worker.role == Role::RootFuture => {
                format!(
                    "runtime {} root future on {}",
                    worker.runtime, worker.thread_name
                )
            }
            Some(index) => format!("runtime {} worker {index}", worker.runtime),
            None => format!("runtime {} {}", worker.runtime, worker.thread_name),
        };
        let mut event = Event::new("M", "thread_name");
        event.pid = Some(self.pid);
        event.tid = Some(worker.tid);
        event.args = Some(Name { name: &name });
        event.hud = Some(Extra::Worker {
            index: worker.index,
            runtime: worker.runtime,
            flavor: worker.flavor.map(|flavor| flavor.as_str().into()),
            role: (worker.role != Role::Worker).then(|| worker.role.as_str().into()),
            thread_name: worker.thread_name.as_str().into(),
        });
        push(&mut self.bytes, &event)?;
        let counter = format!("{name} ({})", worker.tid);
        self.workers.entry(worker.tid).or_default().0 = counter;
        Ok(())
    }

    /// Encodes usage as a counter that viewers draw in percent of the time since the last reading.
    fn encode_usage(&mut self, usage: &WorkerUsage) -> serde_json::Result<()> {
        #[derive(Serialize)]
        struct Percent {
            on_cpu: f64,
            run_queue: f64,
            blocked: f64,
        }
        let known = self.workers.get(&usage.tid);
        let old = known.map_or_else(WorkerUsage::default, |(_, usage)| *usage);
        let name = known.map_or_else(|| format!("thread {}", usage.tid), |(name, _)| name.clone());
        let since = |now: u64, then: u64| now.saturating_sub(then) as f64;
        let on_cpu = since(usage.on_cpu_ns, old.on_cpu_ns);
        let run_queue = since(usage.run_queue_ns, old.run_queue_ns);
        let blocked = since(usage.blocked_ns, old.blocked_ns);
        let all = since(usage.known_ns(), old.known_ns());
        let percent = |part: f64| (part * 1000.0 / all.max(1.0)).round() / 10.0;
        let mut event = self.counter(name, "usage", usage.tid, usage.at_ns);
        event.args = Some(Percent {
            on_cpu: percent(on_cpu),
            run_queue: percent(run_queue),
            blocked: percent(blocked),
        });
        event.hud = Some(Extra::Usage(Usage::of(usage)));
        push(&mut self.bytes, &event)?;
        if let Some((_, last)) = self.workers.get_mut(&usage.tid) {
            *last = *usage;
        }
        Ok(())
    }

    /// A counter event of one worker.
    fn counter<A>(
        &self,
        name: String,
        cat: &'static str,
        tid: u32,
        at_ns: u64,
    ) -> Event<'static, A> {
        let mut event = Event::new("C", name);
        event.cat = Some(cat.into());
        event.ts = Some(Micros(at_ns));
        event.pid = Some(self.pid);
        event.tid = Some(tid);
        event
    }

    fn metadata<'a>(&self, name: &'a str, extra: Extra<'a>) -> Event<'a, ()> {
        let mut event = Event::new("M", name);
        event.pid = Some(self.pid);
        event.hud = Some(extra);
        event
    }

    fn instant<'a>(
        &self,
        name: &'a str,
        scope: &'a str,
        at_ns: u64,
        extra: Extra<'a>,
    ) -> Event<'a, ()> {
        let mut event = self.metadata(name, extra);
        event.ph = "i".into();
        event.s = Some(scope.into());
        event.ts = Some(Micros(at_ns));
        event.tid = Some(self.pid);
        event
    }
}

/// Appends an event. The separator comes first, since the head of the file holds an event already.
fn push<A: Serialize>(buffer: &mut Vec<u8>, event: &Event<'_, A>) -> serde_json::Result<()> {
    let before = buffer.len();
    buffer.extend_from_slice(b",\n");
    serde_json::to_writer(&mut *buffer, event).inspect_err(|_| buffer.truncate(before))
}
