//! The analysis thread: takes in what the ring thread drained, gives out records.
//!
//! Everything slow happens here: unwinding, reading symbol tables, naming. The ring thread never
//! waits for it, and neither does any view.

mod loads;
mod tiers;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use self::tiers::Coming;
use super::census;
use super::diagnosis;
use super::naming;
use super::polls::{Polls, Taken};
use super::profile::Profile;
use super::release::Releases;
use super::workers::Workers;
use crate::capture::{
    Capture, CaptureLosses, Drained, Event, Learnt, OtherStack, Released, SavedRegisters,
    SeenThread, StackKind, ThreadState,
};
use crate::clock::monotonic_ns;
use crate::cost;
use crate::model::{Frame, Losses, Record, SelfCost, Tier};
use crate::stacks::symbolize::Symbolizer;
use crate::stacks::unwind::{CapturedStack, Registers, Unwinder, Unwound};
use crate::target::memory::ProcessMemory;
use crate::target::modules::ModuleMap;
use crate::tokio::{Discovery, TokioLayout};
use crate::tracking::frames::{Frames, Judgement, Tools};
use crate::tracking::regain::Regain;
use crate::tracking::trust::Trust;

/// How often usage, losses and hud's own cost are reported.
const REPORT_EVERY: Duration = Duration::from_millis(200);
/// How often all poll time is told, while it is on.
const PROFILE_EVERY: Duration = Duration::from_secs(1);
/// How long the thread waits for something to do where nothing else is due.
const IDLE: Duration = Duration::from_secs(3600);

/// What the analysis has to know of the target.
pub struct Subject {
    pub pid: u32,
    /// Where Tokio keeps its state, where polls are known by that.
    pub layout: Option<TokioLayout>,
    /// What may hold instead for a flavor that has not run yet.
    pub other_ticks: Vec<TokioLayout>,
    /// What else may hold.
    pub discovery: Discovery,
    /// Where the kernel side learns of all that.
    pub learnt: Learnt,
    /// Set once the symbols are read: findings have names from then on.
    pub symbols_read: Arc<AtomicBool>,
    /// Set when the process has become another program.
    pub replaced: Arc<AtomicBool>,
    pub tier: Tier,
    pub threshold: Duration,
    /// What a page fault costs at least, nanoseconds.
    pub fault_ns: u64,
    pub modules: ModuleMap,
}

/// Starts the thread. It ends when the ring thread's end of `drained` is closed and all of it is
/// worked off; the records' channel closes then.
///
/// # Errors
/// When the system has no thread to give, or the kernel refuses a look at the target's threads.
pub fn start(
    subject: Subject,
    drained: Receiver<Drained>,
    records: SyncSender<Record>,
) -> Result<JoinHandle<()>> {
    let frames = match subject.tier {
        Tier::Frames => Some(Frames::new(subject.pid, subject.learnt.frames.clone())?),
        _ => None,
    };
    thread::Builder::new()
        .name("hud-analysis".into())
        .spawn(move || {
            let mut pipeline = Pipeline::new(subject, records, frames);
            pipeline.read_symbols();
            // Nobody reading the records any more is no failure of this thread.
            let _ = pipeline.work(&drained);
        })
        .context("cannot start a thread")
}

/// Nobody reads the records any more.
struct Unread;

struct Pipeline {
    subject: Subject,
    memory: ProcessMemory,
    records: SyncSender<Record>,
    polls: Polls,
    profile: Profile,
    profiled_at: Instant,
    /// Where polls are known by the workers' frames.
    frames: Option<Frames>,
    unwinder: Unwinder,
    symbolizer: Symbolizer,
    releases: Releases,
    workers: Workers,
    losses: Losses,
    reported_losses: Losses,
    /// Time in hud's BPF programs, where the kernel counts it.
    bpf_ns: Option<u64>,
    /// None at the first look: what the start cost is told apart from what watching costs.
    reported_at: Option<Instant>,
    /// Whether Tokio's state is what it is taken for.
    trust: Trust,
    /// Ordered, and not there yet.
    coming: Option<Coming>,
    /// The search for a layout that holds, after one did not.
    regain: Option<Regain>,
    /// How often one did not.
    times_lost: u32,
    /// Per thread, the poll that was last reported as running.
    running: HashMap<u32, u64>,
    /// The workers as they stood last.
    last_look: Vec<ThreadState>,
    /// A census that waits for the next look.
    census: Option<(u64, Vec<SeenThread>)>,
}

impl Pipeline {
    fn new(subject: Subject, records: SyncSender<Record>, frames: Option<Frames>) -> Self {
        let trust = Trust::new(&subject);
        Pipeline {
            memory: ProcessMemory::new(subject.pid),
            polls: Polls::new(subject.threshold.as_nanos() as u64)
                .with_fault_cost(subject.fault_ns),
            profile: Profile::default(),
            profiled_at: Instant::now(),
            frames,
            unwinder: Unwinder::new(),
            symbolizer: Symbolizer::new(),
            releases: Releases::default(),
            workers: Workers::default(),
            losses: Losses::default(),
            reported_losses: Losses::default(),
            bpf_ns: None,
            reported_at: None,
            trust,
            coming: None,
            regain: None,
            times_lost: 0,
            running: HashMap::new(),
            last_look: Vec::new(),
            census: None,
            subject,
            records,
        }
    }

    /// Reads the unwind tables and the symbols before the first event is taken from the channel:
    /// the first name of a large binary takes up to a second, all others no time.
    fn read_symbols(&mut self) {
        log::debug!("reading symbols and unwind tables");
        let begun = Instant::now();
        let modules = &self.subject.modules;
        self.unwinder.set_modules(modules);
        if let Some(code) = modules.main().and_then(|main| main.ranges.first()) {
            self.symbolizer.frames(modules, &[code.start]);
        }
        log::debug!("symbols and unwind tables read in {:?}", begun.elapsed());
        self.subject.symbols_read.store(true, Ordering::Relaxed);
    }

    /// Takes everything that is drained, until the channel closes.
    fn work(&mut self, drained: &Receiver<Drained>) -> Result<(), Unread> {
        loop {
            let rest = self.look_at_frames();
            match drained.recv_timeout(rest) {
                Ok(drained) => self.take(drained)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.tell_profile(monotonic_ns())?;
        self.tell_losses()
    }

    fn send(&self, record: Record) -> Result<(), Unread> {
        self.records.send(record).map_err(|_| Unread)
    }

    fn take(&mut self, drained: Drained) -> Result<(), Unread> {
        match drained {
            Drained::Event(Event::Stack(capture)) => {
                self.take_stack(&capture);
                Ok(())
            }
            // Boundaries that are not Tokio's are worse than none.
            Drained::Event(Event::PollEnd(end)) if self.trust.is_lost() => {
                self.running.remove(&end.tid);
                self.losses.poll_unconfirmed += u64::from(self.coming.is_some());
                Ok(())
            }
            Drained::Event(Event::PollEnd(end)) => {
                let assembled = self.polls.end(&end);
                self.running.remove(&end.tid);
                if !self.is_confirmed(end.tid, end.poll.sequence, true) {
                    return Ok(());
                }
                self.losses.stack_overwritten += assembled.missing_stacks;
                let named = self.name(assembled);
                match named.filter(|poll| !self.doubts(poll.tid)) {
                    Some(poll) => {
                        log::trace!("slow poll on thread {}", poll.tid);
                        self.send(Record::SlowPoll(Arc::new(poll)))
                    }
                    None => Ok(()),
                }
            }
            Drained::Event(Event::ThreadExit(exit)) => {
                self.polls.forget(exit.tid);
                self.running.remove(&exit.tid);
                if let Some(frames) = &mut self.frames {
                    frames.forget(exit.tid);
                }
                match self.workers.remove(&exit) {
                    Some(usage) => {
                        self.send(Record::Usage(usage))?;
                        self.send(Record::WorkerGone {
                            tid: exit.tid,
                            at_ns: exit.at_ns,
                        })
                    }
                    None => Ok(()),
                }
            }
            Drained::Event(Event::Release(released)) => {
                self.take_release(&released);
                Ok(())
            }
            Drained::Event(Event::Stranger(capture)) => {
                self.take_stranger(&capture);
                Ok(())
            }
            Drained::Event(Event::Exec) => self.end_with_program(),
            Drained::Anew { at_ns } => self.begin_anew(at_ns),
            // Those go by `Drained::Profile`.
            Drained::Event(Event::Profile(..)) => Ok(()),
            Drained::Profile {
                capture, weight_ns, ..
            } => self.take_sample(&capture, weight_ns),
            Drained::AllPollTime { on, at_ns } => {
                self.tell_profile(at_ns)?;
                self.send(Record::AllPollTime { on, at_ns })
            }
            Drained::Workers { at_ns, states } => {
                self.look(at_ns, &states)?;
                let before = std::mem::replace(&mut self.last_look, states);
                self.tell_census(&before)
            }
            Drained::Loads(loads) => {
                self.take_loads(&loads)?;
                self.tell_census(&[])
            }
            Drained::Losses(losses) => {
                self.count(&losses);
                Ok(())
            }
            Drained::BpfTime(bpf_ns) => {
                self.bpf_ns = bpf_ns;
                Ok(())
            }
            // What workers do is certain if they do it before and after.
            Drained::Census { at_ns, threads } => {
                self.census = Some((at_ns, threads));
                Ok(())
            }
        }
    }

    /// Does something with what is known of the workers' frames, where polls are known by them.
    fn with_frames<R>(&mut self, work: impl FnOnce(&mut Frames, &mut Tools<'_>) -> R) -> Option<R> {
        let mut tools = Tools {
            unwinder: &mut self.unwinder,
            symbolizer: &mut self.symbolizer,
            modules: &mut self.subject.modules,
        };
        Some(work(self.frames.as_mut()?, &mut tools))
    }

    /// Looks at the target's threads where polls are known by their frames. How long until the
    /// next time.
    fn look_at_frames(&mut self) -> Duration {
        let look = |frames: &mut Frames, tools: &mut Tools<'_>| {
            if let Err(error) = frames.look(tools) {
                log::info!("cannot look at the threads: {error:#}");
            }
            frames.rest()
        };
        self.with_frames(look).unwrap_or(IDLE)
    }

    fn take_stranger(&mut self, capture: &Capture) {
        if let Some(Err(error)) = self.with_frames(|frames, tools| frames.stranger(capture, tools))
        {
            log::info!("cannot look at a thread: {error:#}");
        }
    }

    /// What the stack says of the poll it was taken in, and of that alone if it is only a sample.
    /// Where Tokio's own state tells polls, there is no doubt.
    fn judge(&mut self, capture: &Capture, is_sample: bool) -> Judgement {
        let sequence = (!is_sample).then_some(capture.poll.sequence);
        self.with_frames(|frames, tools| frames.judge(sequence, capture, tools))
            .unwrap_or(Judgement::Poll)
    }

    /// Whether a poll is sure to be one, as far as its stacks tell by now.
    fn is_confirmed(&mut self, tid: u32, sequence: u64, ended: bool) -> bool {
        let Some(frames) = &mut self.frames else {
            return true;
        };
        let confirmed = frames.is_confirmed(tid, sequence);
        if ended {
            frames.ended(tid, sequence);
            // That a stack shows it is none is no loss.
            self.losses.poll_unconfirmed += u64::from(confirmed.is_none());
        }
        confirmed == Some(true)
    }

    fn take_stack(&mut self, capture: &Capture) {
        if !self.polls.wants(capture) || self.judge(capture, false) == Judgement::NoPoll {
            return;
        }
        let user = self.unwind(&capture.registers, capture.stack_base, &capture.stack);
        if !user.complete {
            self.losses.stack_incomplete += 1;
        }
        let page_fault = self.is_in_page_fault(capture);
        self.polls.add(
            capture.tid,
            capture.poll.sequence,
            Taken::new(capture, user, page_fault),
        );
    }

    fn is_in_page_fault(&mut self, capture: &Capture) -> bool {
        capture.kind == StackKind::Sample
            && naming::shows_page_fault(
                &self.symbolizer.kernel_frames(&capture.kernel),
                capture.site.syscall,
            )
    }

    /// A sample of all poll time.
    fn take_sample(&mut self, capture: &Capture, weight_ns: u64) -> Result<(), Unread> {
        if self.trust.is_lost() || self.judge(capture, true) == Judgement::NoPoll {
            return Ok(());
        }
        let user = self.unwind(&capture.registers, capture.stack_base, &capture.stack);
        if !user.complete {
            self.losses.stack_incomplete += 1;
        }
        let page_fault = self.is_in_page_fault(capture);
        self.profile.add(capture, user, page_fault, weight_ns);
        match self.profile.is_full() {
            true => self.tell_profile(monotonic_ns()),
            false => Ok(()),
        }
    }

    /// Tells what was sampled of all poll time since the last time.
    fn tell_profile(&mut self, now_ns: u64) -> Result<(), Unread> {
        self.profiled_at = Instant::now();
        let modules = &self.subject.modules;
        for time in self.profile.take(now_ns, &mut self.symbolizer, modules) {
            self.send(Record::PollTime(Arc::new(time)))?;
        }
        Ok(())
    }

    fn unwind(&mut self, registers: &SavedRegisters, base: u64, bytes: &[u8]) -> Unwound {
        let stack = CapturedStack {
            registers: Registers::from(registers),
            base,
            bytes,
        };
        let mut user = self.unwinder.unwind(&stack);
        // Code of a library loaded since: learn of it and try again.
        if self.subject.modules.refresh_for(&user.addresses) {
            self.unwinder.set_modules(&self.subject.modules);
            user = self.unwinder.unwind(&stack);
        }
        user
    }

    /// Names at once who ended a wait: there are few, and each in a poll that is slow already.
    fn take_release(&mut self, released: &Released) {
        let at_wake = self.frames_of(&released.at_wake);
        let meanwhile = released
            .meanwhile
            .as_ref()
            .map(|stack| self.frames_of(stack));
        if let Some(by) = self.releases.name(released, at_wake, meanwhile) {
            self.polls.add_release(released.tid, released.sequence, by);
        }
    }

    /// Tells the census that waits, if one does. `before` is how the workers stood before it.
    fn tell_census(&mut self, before: &[ThreadState]) -> Result<(), Unread> {
        match self.census.take() {
            Some((at_ns, threads)) => self.name_census(at_ns, &threads, before),
            None => Ok(()),
        }
    }

    /// Names every thread of the process. `before` is how the workers stood before the census.
    fn name_census(
        &mut self,
        at_ns: u64,
        seen: &[SeenThread],
        before: &[ThreadState],
    ) -> Result<(), Unread> {
        let mut threads = Vec::with_capacity(seen.len());
        for thread in seen {
            let tid = thread.task.tid;
            let user = match thread.stack.is_empty() {
                true => Unwound::default(),
                false => self.unwind(&thread.task.registers, thread.stack_base, &thread.stack),
            };
            let frames = self
                .symbolizer
                .frames(&self.subject.modules, &user.addresses);
            let of = |states: &[ThreadState]| states.iter().find(|s| s.tid == tid).cloned();
            let states = of(before).zip(of(&self.last_look));
            let states = states.filter(|_| !self.trust.is_lost());
            let worker = self.workers.get(tid);
            threads.push(census::name_thread(
                thread,
                worker,
                states.as_ref(),
                at_ns,
                frames,
                user.complete,
            ));
        }
        self.send(Record::Census(Arc::new(diagnosis::census(at_ns, threads))))
    }

    fn frames_of(&mut self, stack: &OtherStack) -> Vec<Arc<Frame>> {
        let user = self.unwind(&stack.registers, stack.base, &stack.bytes);
        self.symbolizer
            .frames(&self.subject.modules, &user.addresses)
    }

    fn name(&mut self, mut assembled: super::polls::Assembled) -> Option<crate::model::SlowPoll> {
        if self.frames.is_some() {
            // It only tells polls apart.
            assembled.times.task = 0;
        }
        let worker = self.workers.get(assembled.tid);
        naming::name_poll(
            assembled,
            worker,
            &mut self.symbolizer,
            &self.subject.modules,
        )
    }

    fn count(&mut self, losses: &CaptureLosses) {
        self.losses.ring_full = losses.kernel.ring_full;
        self.losses.stack_unreadable = losses.kernel.stack_unreadable;
        self.losses.worker_untracked = losses.kernel.worker_untracked;
        self.losses.state_unread = losses.kernel.state_unread;
        self.losses.undecodable = losses.undecodable;
        self.losses.analysis_full = losses.unreceived;
    }

    fn tell_losses(&mut self) -> Result<(), Unread> {
        if self.losses == self.reported_losses {
            return Ok(());
        }
        self.reported_losses = self.losses;
        self.send(Record::Losses(self.losses))
    }

    /// All workers as they stand: new ones, polls that have not ended, usage.
    fn look(&mut self, at_ns: u64, states: &[ThreadState]) -> Result<(), Unread> {
        for state in states {
            let layout = self.trust.layout();
            let found = self.workers.identify(state, layout, &self.memory);
            if let Some(worker) = found {
                self.send(Record::Worker(worker))?;
            }
        }
        for state in states {
            self.report_running(at_ns, state)?;
        }
        if self.is_report_due() {
            for state in states {
                if let Some(usage) = self.workers.usage(state, at_ns) {
                    self.send(Record::Usage(usage))?;
                }
            }
            self.tell_cost(at_ns)?;
        }
        if self.profiled_at.elapsed() >= PROFILE_EVERY {
            self.tell_profile(at_ns)?;
        }
        let in_doubt = states.iter().any(|state| self.doubts(state.tid));
        if self.trust.is_due(in_doubt)
            && let Err(why) = self.trust.check(states, &self.memory)
        {
            self.lose_layout(at_ns, &why)?;
        }
        self.look_at_search(at_ns)
    }

    /// Whether usage, losses and cost are to be told now.
    fn is_report_due(&mut self) -> bool {
        let is_due = self
            .reported_at
            .is_none_or(|at| at.elapsed() >= REPORT_EVERY);
        if is_due {
            self.reported_at = Some(Instant::now());
        }
        is_due
    }

    /// What hud lost, and what it costs.
    fn tell_cost(&mut self, at_ns: u64) -> Result<(), Unread> {
        self.tell_losses()?;
        self.send(Record::Cost(SelfCost {
            bpf_ns: self.bpf_ns,
            ..cost::of_self(at_ns)
        }))
    }

    fn report_running(&mut self, at_ns: u64, state: &ThreadState) -> Result<(), Unread> {
        let told = !self.trust.is_lost() && !self.doubts(state.tid);
        let Some(poll) = state.poll.as_ref().filter(|_| told) else {
            return Ok(());
        };
        let held = at_ns.saturating_sub(poll.times.start_ns);
        if held < self.subject.threshold.as_nanos() as u64 {
            return Ok(());
        }
        let sequence = poll.times.sequence;
        if !self.is_confirmed(state.tid, sequence, false) {
            return Ok(());
        }
        let assembled = self.polls.running(state.tid, at_ns, state.seen_ns, poll);
        // Without a stack there is nothing to tell yet: it is being fetched.
        if assembled.stacks.is_empty() {
            return Ok(());
        }
        self.running.insert(state.tid, poll.times.sequence);
        match self.name(assembled) {
            Some(poll) => self.send(Record::Running(Arc::new(poll))),
            None => Ok(()),
        }
    }

    fn doubts(&self, tid: u32) -> bool {
        self.trust.doubts(self.workers.get(tid))
    }
}
