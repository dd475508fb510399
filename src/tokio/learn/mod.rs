//! A layout from behaviour alone (tier 3), for compilers and versions that no table knows, and the
//! judgement of layouts that are only guesses: each field must be seen to do what it does.

pub mod behaviour;
pub mod rounds;
pub mod scan;
pub mod survey;

use self::behaviour::{self as rule, Finding, IdPlace, Seen};
use self::survey::Survey;
use crate::model::Flavor;
use crate::tokio::{Apart, BesideTick, ContextFields, CoreFields, Scheduler, TokioLayout};

/// The kernel side reads this much of `Context` at once: its fields lie no farther apart, bytes.
const REACH: usize = 128;

/// How much less often a number must break its rule than any rival.
const LEAD: usize = 2;

/// Tokio's discriminant of `scheduler::Context`.
fn tag(flavor: Flavor) -> u64 {
    match flavor {
        Flavor::CurrentThread => 0,
        Flavor::MultiThread => 1,
    }
}

/// What [`learn`] says where no runtime runs.
pub const NO_RUNTIME: &str = "no thread runs a scheduler";

const AMBIGUOUS: &str = "more than one place looks like Tokio's state";

/// How Tokio's versions differ in what there is to learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Era {
    /// Each flavor has a thread-local of its own that leads to its context.
    apart: bool,
    /// Task ids are options of 16 bytes. None where `Context` has no ids.
    wide_ids: Option<bool>,
}

impl Era {
    /// That of a minor version of Tokio 1.
    pub fn of(minor: u32) -> Self {
        Era {
            apart: minor < 29,
            wide_ids: (minor >= 22).then_some(minor < 40),
        }
    }
}

/// The places of the fields, in the survey's terms.
struct Places<'s> {
    scheduler: usize,
    handle: usize,
    budget: usize,
    ids: Option<IdPlace>,
    seen: Vec<Seen<'s>>,
}

/// The one layout whose every field does what it must.
///
/// # Errors
/// What is not known yet, or not in this target at all.
pub fn learn(survey: &Survey, era: Era) -> Result<TokioLayout, &'static str> {
    let mut found: Vec<TokioLayout> = Vec::new();
    let mut obstacle = NO_RUNTIME;
    for scheduler in sorted(survey.stack_pointers()) {
        match at_scheduler(survey, scheduler, era) {
            Ok(layout) => found.push(layout),
            Err(NO_RUNTIME) => {}
            Err(why) => obstacle = why,
        }
    }
    match found.as_slice() {
        [layout] => Ok(*layout),
        [one, other] => both_flavors(one, other).ok_or(AMBIGUOUS),
        [] => Err(obstacle),
        _ => Err(AMBIGUOUS),
    }
}

/// Two layouts of Tokio before 1.29, each with another flavor's thread-local, as one.
fn both_flavors(one: &TokioLayout, other: &TokioLayout) -> Option<TokioLayout> {
    let (Scheduler::Apart(mine), Scheduler::Apart(theirs)) =
        (one.fields.scheduler, other.fields.scheduler)
    else {
        return None;
    };
    let scheduler = Scheduler::Apart(Apart {
        current_thread: mine.current_thread.xor(theirs.current_thread),
        multi_thread: mine.multi_thread.xor(theirs.multi_thread),
    });
    let both = |layout: &TokioLayout| TokioLayout {
        fields: ContextFields {
            scheduler,
            ..layout.fields
        },
        current_thread: one.current_thread.xor(other.current_thread),
        multi_thread: one.multi_thread.xor(other.multi_thread),
        ..*layout
    };
    let merged = both(one);
    (merged == both(other) && merged.current_thread.is_some() && merged.multi_thread.is_some())
        .then_some(merged)
}

fn sorted(places: impl IntoIterator<Item = usize>) -> Vec<usize> {
    let mut places: Vec<usize> = places.into_iter().collect();
    places.sort_unstable();
    places
}

/// Offsets of a block where the other fields may be: around `at` as far as `Context` may reach, or
/// anywhere where that is a thread-local of its own.
fn around(survey: &Survey, at: usize, era: Era) -> std::ops::Range<usize> {
    let size = survey
        .samples()
        .first()
        .map_or(0, |sample| sample.block.len());
    match era.apart {
        true => 0..size,
        false => at.saturating_sub(REACH)..(at + REACH).min(size),
    }
}

/// The only one, or an error.
fn only<T>(mut places: impl Iterator<Item = T>, why: &'static str) -> Result<T, &'static str> {
    match (places.next(), places.next()) {
        (Some(place), None) => Ok(place),
        _ => Err(why),
    }
}

/// The candidate that breaks its rule least often, by so much that no other can be meant.
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

fn at_scheduler(survey: &Survey, scheduler: usize, era: Era) -> Result<TokioLayout, &'static str> {
    let samples = survey.samples();
    let nearby = || around(survey, scheduler, era);
    let words = || nearby().filter(|at| at.is_multiple_of(8) && *at != scheduler);
    // A program may keep the same handle elsewhere: the nearest is the Context's.
    let (handle, seen) = words()
        .filter_map(|handle| Some((handle, rule::workers(samples, scheduler, handle)?)))
        .min_by_key(|(handle, _)| handle.abs_diff(scheduler))
        .ok_or(NO_RUNTIME)?;
    let budget = only(
        nearby().filter(|at| rule::budget(samples, &seen, *at) == Finding::Yes),
        "no poll was seen to begin and end",
    )?;
    // No field lies inside another: the word around the budget changes with it as ids do.
    let free = |at: &usize| *at != handle && *at != budget & !7;
    let find_ids = |wide| {
        let ids = words().filter(free).map(|at| IdPlace { at, wide });
        let ids = ids.filter(|ids| rule::task_id(&seen, budget, *ids) == Finding::Yes);
        // The last poll's start, kept by the program, changes with each poll and grows, too.
        clear_least(
            ids.map(|ids| (ids, rule::id_changes(&seen, ids))).collect(),
            "the tasks' ids were not seen",
            "more than one number behaves like the tasks' ids",
        )
    };
    let ids = era.wide_ids.map(find_ids).transpose()?;
    let places = Places {
        scheduler,
        handle,
        budget,
        ids,
        seen,
    };
    Ok(TokioLayout {
        current_thread: core(&places, Flavor::CurrentThread, era)?,
        multi_thread: core(&places, Flavor::MultiThread, era)?,
        ..without_cores(survey, &places, era)?
    })
}

/// Offsets from `base` of fields that the kernel side reads at once.
fn offset(base: usize, at: usize) -> Result<u32, &'static str> {
    // Each field with 8 bytes of its own, or 16 for a wide id.
    match at - base + 16 <= REACH {
        true => Ok((at - base) as u32),
        false => Err("the fields lie too far apart"),
    }
}

/// All but the cores.
fn without_cores(
    survey: &Survey,
    places: &Places<'_>,
    era: Era,
) -> Result<TokioLayout, &'static str> {
    let flavor = one_flavor(&places.seen);
    // A thread-local of a flavor's own leads to no tag.
    let tagged = !era.apart && places.seen.iter().all(is_tagged);
    if !tagged && flavor.is_none() {
        return Err("the runtimes' flavors were not told apart");
    }
    let ids = places.ids.map(|ids| ids.at);
    let in_context = match era.apart {
        true => None,
        false => Some([places.scheduler, places.handle]),
    };
    let base = in_context.into_iter().flatten().chain(ids);
    let base = base.fold(places.budget & !7, usize::min);
    let scheduler = match era.apart {
        true => {
            let place = survey.start() + places.scheduler as i64;
            let of = |wanted| (flavor == Some(wanted)).then_some(place);
            Scheduler::Apart(Apart {
                current_thread: of(Flavor::CurrentThread),
                multi_thread: of(Flavor::MultiThread),
            })
        }
        false => Scheduler::Field(offset(base, places.scheduler)?),
    };
    let handle = in_context.map(|_| offset(base, places.handle));
    Ok(TokioLayout {
        context: survey.start() + base as i64,
        fields: ContextFields {
            task_id: ids.map(|at| offset(base, at)).transpose()?,
            task_id_wide: places.ids.is_some_and(|ids| ids.wide),
            budget: offset(base, places.budget)?,
            scheduler,
            runtime: None,
            handle: handle.transpose()?,
        },
        flavor: tagged.then_some(0),
        current_thread: None,
        multi_thread: None,
        learnt: true,
    })
}

/// Whether the scheduler's context begins with its flavor's discriminant.
fn is_tagged(seen: &Seen<'_>) -> bool {
    seen.context.words.first() == Some(&tag(seen.flavor))
}

/// Those of one flavor.
fn of_flavor<'s>(seen: &[Seen<'s>], flavor: Flavor) -> Vec<Seen<'s>> {
    let matching = seen.iter().filter(|seen| seen.flavor == flavor);
    matching.copied().collect()
}

/// The flavor of all these, if they are of one.
fn one_flavor(seen: &[Seen<'_>]) -> Option<Flavor> {
    let first = seen.first()?.flavor;
    seen.iter()
        .all(|seen| seen.flavor == first)
        .then_some(first)
}

/// One flavor's core and tick; None where no worker of that flavor was seen.
fn core(places: &Places<'_>, flavor: Flavor, era: Era) -> Result<Option<CoreFields>, &'static str> {
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
    // Counts of parks are right in most steps: only the tick is in all of them.
    let (word, tick) = clear_least(
        candidates,
        "the scheduler's rounds were not seen",
        "more than one number counts like the scheduler's rounds",
    )?;
    let worker = seen.iter().find_map(|seen| seen.worker);
    let handle = match era.apart {
        true => seen.iter().find_map(|seen| {
            let handle = seen.sample.word(places.handle)?;
            rule::handle_place(seen, handle)
        }),
        false => None,
    };
    Ok(Some(CoreFields {
        tag: tag(flavor),
        core: (word * 8) as u32,
        tick: tick as u32,
        beside_tick: BesideTick::Unknown,
        worker: worker.map(|word| (word * 8) as u32),
        worker_index: None,
        handle: handle.map(|at| at as u32),
    }))
}

/// What the samples say of a layout that is a guess. [`Finding::Yes`] once every field was seen at
/// work, the ticks of the flavors that run included.
pub fn judge(survey: &Survey, layout: &TokioLayout) -> Finding {
    let samples = survey.samples();
    let base = layout.context - survey.start();
    let place = |offset: u32| usize::try_from(base + i64::from(offset)).ok();
    let fields = &layout.fields;
    let Some(budget) = place(fields.budget) else {
        return Finding::Maybe;
    };
    let ids = fields.task_id.and_then(place).map(|at| IdPlace {
        at,
        wide: fields.task_id_wide,
    });
    let seen = match fields.scheduler {
        Scheduler::Field(scheduler) => place(scheduler)
            .zip(fields.handle.and_then(place))
            .and_then(|(scheduler, handle)| rule::workers(samples, scheduler, handle)),
        Scheduler::Apart(apart) => apart_workers(survey, layout, apart),
    };
    // In block_in_place a thread has no core, and what it polls there is no worker's.
    let has_core = |seen: &Seen<'_>| {
        let core = layout.core_of(seen.flavor);
        let word = core.and_then(|core| seen.context.words.get(core.core as usize / 8));
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
        if let (Some(core), false) = (layout.core_of(flavor), seen.is_empty()) {
            let word = core.core as usize / 8;
            let number = rule::number(&seen, budget, ids, word, core.tick as usize);
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
fn apart_workers<'s>(
    survey: &'s Survey,
    layout: &TokioLayout,
    apart: Apart,
) -> Option<Vec<Seen<'s>>> {
    let flavors = [
        (
            apart.current_thread,
            Flavor::CurrentThread,
            layout.current_thread,
        ),
        (apart.multi_thread, Flavor::MultiThread, layout.multi_thread),
    ];
    let pointers = flavors.into_iter().filter_map(|(place, flavor, core)| {
        let at = usize::try_from(place? - survey.start()).ok()?;
        Some((at, flavor, core?.worker.map(|offset| offset as usize / 8)))
    });
    rule::workers_apart(survey.samples(), pointers)
}

#[cfg(test)]
mod tests;
