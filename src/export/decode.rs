//! Decodes events of a trace to records. Frames and stacks are defined before events that use them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::dictionary::{Table, location};
use super::events::{
    Event, Extra, ProfiledRef, ROOT_BUSY, Released, SLOW_POLL, SlowArgs, StackRef, known,
};
use super::micros::Micros;
use crate::model::{
    Activity, Cause, Census, Culprit, EndReason, Flavor, HeldBack, Losses, Name, PollTime,
    ProfiledStack, Record, Release, ReleasedBy, Role, RootPoll, SlowPoll, Tier, TimeSplit,
    WeightedStack, Worker,
};

/// Decodes events to records.
#[derive(Default)]
pub struct Decoder {
    table: Table,
}

impl Decoder {
    /// The record of an event; none for definitions and for events that only viewers read.
    ///
    /// # Errors
    /// A message about what is invalid in the event.
    pub fn record(&mut self, event: Event<'_, Box<RawValue>>) -> Result<Option<Record>, String> {
        let is_poll = |cat: &str| matches!(cat, SLOW_POLL | ROOT_BUSY);
        let is_slow_poll = |cat: &str| cat.split(',').any(is_poll);
        if event.ph == "X" && event.cat.as_deref().is_some_and(is_slow_poll) {
            let poll = Arc::new(self.slow_poll(&event)?);
            return Ok(Some(match poll.running {
                true => Record::Running(poll),
                false => Record::SlowPoll(poll),
            }));
        }
        let Some(extra) = event.hud else {
            return Ok(None);
        };
        let at = || event.ts.ok_or("an event without its time");
        let tid = || event.tid.ok_or("an event without its thread");
        let record = match extra {
            Extra::Frames(new) => {
                self.table.define(new)?;
                return Ok(None);
            }
            Extra::Worker {
                index,
                runtime,
                flavor,
                role,
                thread_name,
            } => Record::Worker(Worker {
                tid: tid()?,
                role: role
                    .map(|role| known("role", &role, Role::from_name))
                    .transpose()?
                    .unwrap_or_default(),
                index,
                runtime,
                flavor: flavor
                    .map(|flavor| known("flavor", &flavor, Flavor::from_name))
                    .transpose()?,
                thread_name: thread_name.into(),
            }),
            Extra::WorkerGone {} => Record::WorkerGone {
                tid: tid()?,
                at_ns: at()?.0,
            },
            Extra::Usage(usage) => Record::Usage(usage.into_model(tid()?, at()?)),
            Extra::AllPollTime { on } => Record::AllPollTime { on, at_ns: at()?.0 },
            Extra::PollTime { from_us, stacks } => Record::PollTime(Arc::new(PollTime {
                tid: tid()?,
                from_ns: from_us.0,
                to_ns: at()?.0,
                stacks: stacks
                    .into_iter()
                    .map(|stack| self.profiled(stack))
                    .collect::<Result<_, String>>()?,
            })),
            Extra::Losses(kinds) => Record::Losses(losses(&kinds)),
            Extra::Cost(cost) => Record::Cost(cost.into_model()),
            Extra::Tier {
                tier,
                layout_learnt,
                why,
            } => Record::TierChanged {
                tier: Tier::from_number(tier, layout_learnt)
                    .ok_or_else(|| format!("unknown tier {tier}"))?,
                at_ns: at()?.0,
                why: why.into_owned(),
            },
            Extra::Census { words, threads } => {
                let threads = threads.into_iter().map(|thread| {
                    let frames = self.table.stack(thread.sf)?;
                    thread.into_model(frames)
                });
                Record::Census(Arc::new(Census {
                    at_ns: at()?.0,
                    words: words.into_iter().map(String::from).collect(),
                    threads: threads.collect::<Result<_, String>>()?,
                }))
            }
            Extra::End { reason } => Record::End {
                reason: known("reason of the end", &reason, EndReason::from_name)?,
                at_ns: at()?.0,
            },
        };
        Ok(Some(record))
    }

    fn slow_poll(&self, event: &Event<'_, Box<RawValue>>) -> Result<SlowPoll, String> {
        let args = event.args.as_ref().ok_or("a slow poll without args")?;
        let args: SlowArgs<'_> =
            serde_json::from_str(args.get()).map_err(|e| format!("args of a slow poll: {e}"))?;
        let (Some(Micros(start_ns)), Some(Micros(dur)), Some(tid)) =
            (event.ts, event.dur, event.tid)
        else {
            return Err("a slow poll without ts, dur or tid".into());
        };
        let causes = args.causes.iter();
        let stacks = args.stacks.into_iter();
        let released_by = args
            .released_by
            .map(|by| self.released_by(by))
            .transpose()?;
        Ok(SlowPoll {
            tid,
            worker: args.worker,
            runtime: args.runtime,
            task: args.task,
            root: args
                .root
                .map(|root| known("kind of root poll", &root, RootPoll::from_name))
                .transpose()?,
            start_ns,
            end_ns: start_ns.checked_add(dur).ok_or("a time out of range")?,
            running: args.running,
            began_before_attach: args.began_before_attach,
            split: TimeSplit {
                on_cpu_ns: args.on_cpu_us.0,
                run_queue_ns: args.run_queue_us.0,
                blocked_ns: args.blocked_us.0,
            },
            cause: cause(&args.cause)?,
            causes: causes
                .map(|c| Ok((cause(&c.cause)?, c.us.0)))
                .collect::<Result<_, String>>()?,
            held_back: HeldBack {
                throttled: args.throttled,
                stolen: args.stolen,
            },
            culprit: Culprit {
                function: event.name.clone().into(),
                calls: args.calls.map(Name::from),
                location: args.location.map(location),
                chain: args.chain.into_iter().map(Name::from).collect(),
            },
            stacks: stacks
                .map(|stack| self.stack(&stack))
                .collect::<Result<_, String>>()?,
            released_by: released_by.map(Arc::new),
        })
    }

    fn released_by(&self, by: Released<'_>) -> Result<ReleasedBy, String> {
        Ok(ReleasedBy {
            tid: by.tid,
            thread: by.thread.into(),
            how: known("kind of release", &by.how, Release::from_name)?,
            wait_ns: by.wait_us.0,
            culprit: Culprit {
                function: by.function.into(),
                calls: by.calls.map(Name::from),
                location: by.location.map(location),
                chain: by.chain.into_iter().map(Name::from).collect(),
            },
            frames: self.table.stack(by.sf)?,
        })
    }

    fn profiled(&self, stack: ProfiledRef<'_>) -> Result<ProfiledStack, String> {
        Ok(ProfiledStack {
            stack: WeightedStack {
                frames: self.table.stack(stack.sf)?,
                activity: Activity::OnCpu,
                cause: cause(&stack.cause)?,
                weight_ns: stack.weight_us.0,
                complete: stack.complete,
            },
            function: stack.function.into(),
            calls: stack.calls.map(Name::from),
            location: stack.location.map(location),
        })
    }

    fn stack(&self, stack: &StackRef<'_>) -> Result<WeightedStack, String> {
        Ok(WeightedStack {
            frames: self.table.stack(stack.sf)?,
            activity: known("activity", &stack.activity, Activity::from_name)?,
            cause: cause(&stack.cause)?,
            weight_ns: stack.weight_us.0,
            complete: stack.complete,
        })
    }
}

fn cause(name: &str) -> Result<Cause, String> {
    known("cause", name, Cause::from_name)
}

/// Ignores unknown kinds, since no view can show them.
fn losses(kinds: &BTreeMap<std::borrow::Cow<'_, str>, u64>) -> Losses {
    let mut losses = Losses::default();
    for (name, count) in kinds {
        if let Some(kind) = losses.kind_mut(name) {
            *kind = *count;
        }
    }
    losses
}
