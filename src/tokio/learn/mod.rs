//! Learns a layout from what the fields do in the live process, for compilers and versions that no
//! row of the table fits, and judges layouts from the table: every field must be seen to do its job.

pub mod rounds;
mod rules;
mod survey;

pub use self::rules::Finding;
use self::rules::{self as rule, IdPlace, Seen};
pub use self::survey::Survey;
use super::table::Row;
use super::{BesideTick, ContextFields, FlavorPaths, PollPaths, Source, TaskId};
use super::{ThreadLocals, TokioLayout};
use crate::model::Flavor;

/// The BPF programs read this much of `Context` at once: its fields lie no farther apart, bytes.
const REACH: usize = 128;

/// How much less often a number must break its rule than every other candidate.
const LEAD: usize = 2;

/// Tokio's discriminant of `scheduler::Context`.
fn tag(flavor: Flavor) -> u64 {
    match flavor {
        Flavor::CurrentThread => 0,
        Flavor::MultiThread => 1,
    }
}

/// What [`learn`] reports where no runtime runs.
pub const NO_RUNTIME: &str = "no thread runs a scheduler";

const AMBIGUOUS: &str = "more than one place looks like Tokio's state";

/// Where the fields are, as offsets in the surveyed block.
struct Places<'s> {
    scheduler: usize,
    handle: usize,
    budget: usize,
    ids: Option<IdPlace>,
    seen: Vec<Seen<'s>>,
}

/// The one layout of which every field does what it must. `row` says which fields there are in the
/// target's version.
///
/// # Errors
/// What is not known yet, or does not exist in this target.
pub fn learn(survey: &Survey, row: &Row) -> Result<TokioLayout, &'static str> {
    let mut found: Vec<TokioLayout> = Vec::new();
    let mut obstacle = NO_RUNTIME;
    let mut pointers: Vec<usize> = survey.stack_pointers().into_iter().collect();
    pointers.sort_unstable();
    for scheduler in pointers {
        match at_scheduler(survey, scheduler, row) {
            Ok(layout) => found.push(layout),
            Err(NO_RUNTIME) => {}
            Err(why) => obstacle = why,
        }
    }
    match found.as_slice() {
        [layout] => Ok(*layout),
        [one, other] if row.has_own_pointers() => both_flavors(one, other).ok_or(AMBIGUOUS),
        [] => Err(obstacle),
        _ => Err(AMBIGUOUS),
    }
}

/// Merges two layouts of Tokio before 1.29, each found through the thread-local of another flavor.
fn both_flavors(one: &TokioLayout, other: &TokioLayout) -> Option<TokioLayout> {
    let both = |layout: &TokioLayout| TokioLayout {
        locals: ThreadLocals {
            current_thread: one.locals.current_thread.xor(other.locals.current_thread),
            multi_thread: one.locals.multi_thread.xor(other.locals.multi_thread),
            ..layout.locals
        },
        poll: PollPaths {
            current_thread: one.poll.current_thread.xor(other.poll.current_thread),
            multi_thread: one.poll.multi_thread.xor(other.poll.multi_thread),
            ..layout.poll
        },
    };
    let merged = both(one);
    let has_both = merged.poll.current_thread.is_some() && merged.poll.multi_thread.is_some();
    (merged == both(other) && has_both).then_some(merged)
}

/// Offsets of the block where the other fields may be: as far around `at` as `Context` may reach, or
/// anywhere where `at` is a thread-local of its own.
fn around(survey: &Survey, at: usize, row: &Row) -> std::ops::Range<usize> {
    let size = survey
        .samples()
        .first()
        .map_or(0, |sample| sample.block.len());
    match row.has_own_pointers() {
        true => 0..size,
        false => at.saturating_sub(REACH)..(at + REACH).min(size),
    }
}

/// The only element, or an error.
fn only<T>(mut places: impl Iterator<Item = T>, why: &'static str) -> Result<T, &'static str> {
    match (places.next(), places.next()) {
        (Some(place), None) => Ok(place),
        _ => Err(why),
    }
}

/// The candidate that breaks its rule least often, if it leads the others clearly.
fn clear_least<T: Copy>(
    mut candidates: Vec<(T, usize)>,
    none: &'static str,
    several: &'static str,
) -> Result<T, &'static str> {
    candidates.sort_by_key(|(_, breaks)| *breaks);
    match candidates.as_slice() {
        [] => Err(none),
        [(_, least), (_, next), ..] if *next < least + LEAD => Err(several),
        [(best, _), ..] => Ok(*best),
    }
}

fn at_scheduler(survey: &Survey, scheduler: usize, row: &Row) -> Result<TokioLayout, &'static str> {
    let samples = survey.samples();
    let nearby = || around(survey, scheduler, row);
    let words = || nearby().filter(|at| at.is_multiple_of(8) && *at != scheduler);
    // A program may keep the same handle elsewhere: the nearest is that of `Context`.
    let (handle, seen) = words()
        .filter_map(|handle| Some((handle, rule::workers(samples, scheduler, handle)?)))
        .min_by_key(|(handle, _)| handle.abs_diff(scheduler))
        .ok_or(NO_RUNTIME)?;
    let budget = only(
        nearby().filter(|at| rule::budget(samples, &seen, *at) == Finding::Yes),
        "no poll was seen to begin and end",
    )?;
    // Fields do not overlap. The word around the budget changes together with it, as ids do.
    let free = |at: &usize| *at != handle && *at != budget & !7;
    let find_ids = |wide| {
        let ids = words().filter(free).map(|at| IdPlace { at, wide });
        let ids = ids.filter(|ids| rule::task_id(&seen, budget, *ids) == Finding::Yes);
        // A start time of the last poll that the program keeps changes with each poll and grows,
        // too.
        clear_least(
            ids.map(|ids| (ids, rule::id_changes(&seen, ids))).collect(),
            "the tasks' ids were not seen",
            "more than one number behaves like the tasks' ids",
        )
    };
    let ids = row.wide_ids().map(find_ids).transpose()?;
    let places = Places {
        scheduler,
        handle,
        budget,
        ids,
        seen,
    };
    let layout = without_flavors(survey, &places, row)?;
    Ok(TokioLayout {
        poll: PollPaths {
            current_thread: flavor(&places, Flavor::CurrentThread, row)?,
            multi_thread: flavor(&places, Flavor::MultiThread, row)?,
            ..layout.poll
        },
        ..layout
    })
}

/// Offset from `base` of a field that the BPF programs read at once.
fn offset(base: usize, at: usize) -> Result<u32, &'static str> {
    // A field takes up to 16 bytes.
    match at - base + 16 <= REACH {
        true => Ok((at - base) as u32),
        false => Err("the fields lie too far apart"),
    }
}

/// The layout without the paths of each flavor.
fn without_flavors(
    survey: &Survey,
    places: &Places<'_>,
    row: &Row,
) -> Result<TokioLayout, &'static str> {
    let flavor = one_flavor(&places.seen);
    // A thread-local of a flavor's own leads to no tag.
    let tagged = !row.has_own_pointers() && places.seen.iter().all(is_tagged);
    if !tagged && flavor.is_none() {
        return Err("the runtimes' flavors could not be distinguished");
    }
    let ids = places.ids.map(|ids| ids.at);
    let in_context = match row.has_own_pointers() {
        true => None,
        false => Some([places.scheduler, places.handle]),
    };
    let base = in_context.into_iter().flatten().chain(ids);
    let base = base.fold(places.budget & !7, usize::min);
    let own_pointer = |wanted| {
        let is_own = row.has_own_pointers() && flavor == Some(wanted);
        is_own.then_some(survey.start() + places.scheduler as i64)
    };
    let in_context = in_context.map(|places| places.map(|at| offset(base, at)));
    let (scheduler, handle) = match in_context {
        Some([scheduler, handle]) => (Some(scheduler?), Some(handle?)),
        None => (None, None),
    };
    let id = |ids: IdPlace| -> Result<TaskId, &'static str> {
        Ok(TaskId {
            offset: offset(base, ids.at)?,
            wide: ids.wide,
        })
    };
    Ok(TokioLayout {
        locals: ThreadLocals {
            context: survey.start() + base as i64,
            current_thread: own_pointer(Flavor::CurrentThread),
            multi_thread: own_pointer(Flavor::MultiThread),
        },
        poll: PollPaths {
            source: Source::Learnt,
            context: ContextFields {
                task_id: places.ids.map(id).transpose()?,
                budget: offset(base, places.budget)?,
                scheduler,
                runtime: None,
                handle,
            },
            flavor_tag: tagged.then_some(0),
            current_thread: None,
            multi_thread: None,
        },
    })
}

/// Whether the scheduler's context begins with its flavor's discriminant.
fn is_tagged(seen: &Seen<'_>) -> bool {
    seen.context.words.first() == Some(&tag(seen.flavor))
}

/// The workers of one flavor.
fn of_flavor<'s>(seen: &[Seen<'s>], flavor: Flavor) -> Vec<Seen<'s>> {
    let matching = seen.iter().filter(|seen| seen.flavor == flavor);
    matching.copied().collect()
}

/// The flavor of all these workers, if they are of one.
fn one_flavor(seen: &[Seen<'_>]) -> Option<Flavor> {
    let first = seen.first()?.flavor;
    seen.iter()
        .all(|seen| seen.flavor == first)
        .then_some(first)
}

/// The paths of one flavor; None where no worker of that flavor was seen.
fn flavor(
    places: &Places<'_>,
    flavor: Flavor,
    row: &Row,
) -> Result<Option<FlavorPaths>, &'static str> {
    let seen = of_flavor(&places.seen, flavor);
    if seen.is_empty() {
        return Ok(None);
    }
    let mut candidates: Vec<((usize, usize), usize)> = Vec::new();
    for word in rule::context_words() {
        if rule::core(&seen, word) != Finding::Yes {
            continue;
        }
        let pointees = seen
            .iter()
            .filter_map(|seen| seen.context.pointees.get(word));
        let size = pointees.map(Vec::len).max().unwrap_or(0);
        for tick in (0..size).step_by(4) {
            let number = rule::number(&seen, places.budget, places.ids, word, tick);
            let is_tick = rule::is_tick(&number.tally, flavor) == Finding::Yes;
            if is_tick && !number.counts_parks {
                candidates.push(((word, tick), rule::missed(&number.tally)));
            }
        }
    }
    // A count of parks grows in most rounds: only the tick grows in all of them.
    let (word, tick) = clear_least(
        candidates,
        "the scheduler's rounds were not seen",
        "more than one number counts like the scheduler's rounds",
    )?;
    let worker = seen.iter().find_map(|seen| seen.worker);
    let handle = match row.has_own_pointers() {
        true => seen.iter().find_map(|seen| {
            let handle = seen.sample.word(places.handle)?;
            rule::handle_place(seen, handle)
        }),
        false => None,
    };
    Ok(Some(FlavorPaths {
        tag: tag(flavor),
        core: (word * 8) as u32,
        tick: tick as u32,
        beside_tick: BesideTick::Unknown,
        worker: worker.map(|word| (word * 8) as u32),
        worker_index: None,
        handle: handle.map(|at| at as u32),
    }))
}

/// What the samples say of a layout from the table. [`Finding::Yes`] once every field was seen to
/// do its job, the ticks of the flavors that run included.
pub fn judge(survey: &Survey, layout: &TokioLayout) -> Finding {
    let samples = survey.samples();
    let base = layout.locals.context - survey.start();
    let place = |offset: u32| usize::try_from(base + i64::from(offset)).ok();
    let fields = &layout.poll.context;
    let Some(budget) = place(fields.budget) else {
        return Finding::Maybe;
    };
    let ids = fields.task_id.and_then(|id| {
        Some(IdPlace {
            at: place(id.offset)?,
            wide: id.wide,
        })
    });
    let seen = match fields.scheduler {
        Some(scheduler) => place(scheduler)
            .zip(fields.handle.and_then(place))
            .and_then(|(scheduler, handle)| rule::workers(samples, scheduler, handle)),
        None => workers_before_1_29(survey, layout),
    };
    // In block_in_place a thread has no core, and what it polls there is no worker's.
    let has_core = |seen: &Seen<'_>| {
        let paths = layout.poll.of(seen.flavor);
        let word = paths.and_then(|paths| seen.context.words.get(paths.core as usize / 8));
        word.is_none_or(|word| *word != 0)
    };
    let seen = seen.map(|seen| seen.into_iter().filter(has_core).collect::<Vec<_>>());
    let Some(seen) = seen.filter(|seen| !seen.is_empty()) else {
        return Finding::Maybe;
    };
    let mut findings = vec![rule::budget(samples, &seen, budget)];
    findings.extend(ids.map(|ids| rule::task_id(&seen, budget, ids)));
    for flavor in [Flavor::CurrentThread, Flavor::MultiThread] {
        let seen = of_flavor(&seen, flavor);
        if let (Some(paths), false) = (layout.poll.of(flavor), seen.is_empty()) {
            let word = paths.core as usize / 8;
            let number = rule::number(&seen, budget, ids, word, paths.tick as usize);
            findings.push(rule::is_tick(&number.tally, flavor));
        }
    }
    if findings.contains(&Finding::No) {
        Finding::No
    } else if findings.contains(&Finding::Maybe) {
        Finding::Maybe
    } else {
        Finding::Yes
    }
}

/// The workers that each flavor's own thread-local shows.
fn workers_before_1_29<'s>(survey: &'s Survey, layout: &TokioLayout) -> Option<Vec<Seen<'s>>> {
    let flavors = [
        (layout.locals.current_thread, Flavor::CurrentThread),
        (layout.locals.multi_thread, Flavor::MultiThread),
    ];
    let pointers = flavors.into_iter().filter_map(|(local, flavor)| {
        let at = usize::try_from(local? - survey.start()).ok()?;
        let worker = layout.poll.of(flavor)?.worker;
        Some((at, flavor, worker.map(|offset| offset as usize / 8)))
    });
    rule::workers_before_1_29(survey.samples(), pointers)
}

#[cfg(test)]
mod tests;
