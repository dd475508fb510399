//! A layout from behaviour alone (tier 3), for compilers and versions that no table knows, and the
//! judgement of layouts that are only guesses: each field must be seen to do what it does.

use super::behaviour::{self as rule, Finding, IdPlace, Seen, Steps};
use super::survey::Survey;
use super::{ContextFields, CoreFields, TokioLayout};
use crate::model::Flavor;

/// The kernel side reads this much of `Context` at once: its fields lie no farther apart, bytes.
const REACH: usize = 128;

/// How many more of its steps a tick must get right than any rival.
const LEAD: usize = 2;

/// Tokio's discriminants of `scheduler::Context`.
const CURRENT_THREAD_TAG: u64 = 0;
const MULTI_THREAD_TAG: u64 = 1;

/// What [`learn`] says where no runtime runs.
pub const NO_RUNTIME: &str = "no thread runs a scheduler";

/// The places of the fields, in the survey's terms.
struct Places<'s> {
    scheduler: usize,
    handle: usize,
    seen: Vec<Seen<'s>>,
}

/// The one layout whose every field does what it must. `wide_ids`: Tokio's task ids are options of
/// 16 bytes, as before 1.40.
///
/// # Errors
/// What is not known yet, or not in this target at all.
pub fn learn(survey: &Survey, wide_ids: bool) -> Result<TokioLayout, &'static str> {
    let mut found: Vec<TokioLayout> = Vec::new();
    let mut obstacle = NO_RUNTIME;
    for scheduler in sorted(survey.stack_pointers()) {
        match at_scheduler(survey, scheduler, wide_ids) {
            Ok(layout) => found.push(layout),
            Err(NO_RUNTIME) => {}
            Err(why) => obstacle = why,
        }
    }
    match found.as_slice() {
        [layout] => Ok(*layout),
        [] => Err(obstacle),
        _ => Err("more than one place looks like Tokio's state"),
    }
}

fn sorted(places: impl IntoIterator<Item = usize>) -> Vec<usize> {
    let mut places: Vec<usize> = places.into_iter().collect();
    places.sort_unstable();
    places
}

/// Offsets of a block around `at` that `Context` may reach to.
fn around(survey: &Survey, at: usize) -> std::ops::Range<usize> {
    let size = survey
        .samples()
        .first()
        .map_or(0, |sample| sample.block.len());
    at.saturating_sub(REACH)..(at + REACH).min(size)
}

/// The only one, or an error.
fn only<T>(mut places: impl Iterator<Item = T>, why: &'static str) -> Result<T, &'static str> {
    match (places.next(), places.next()) {
        (Some(place), None) => Ok(place),
        _ => Err(why),
    }
}

fn at_scheduler(
    survey: &Survey,
    scheduler: usize,
    wide_ids: bool,
) -> Result<TokioLayout, &'static str> {
    let samples = survey.samples();
    let words = || around(survey, scheduler).filter(|at| at.is_multiple_of(8) && *at != scheduler);
    // A program may keep the same handle elsewhere: the nearest is the Context's.
    let (handle, seen) = words()
        .filter_map(|handle| Some((handle, rule::workers(samples, scheduler, handle)?)))
        .min_by_key(|(handle, _)| handle.abs_diff(scheduler))
        .ok_or(NO_RUNTIME)?;
    let places = Places {
        scheduler,
        handle,
        seen,
    };
    let budget = only(
        around(survey, scheduler)
            .filter(|at| rule::budget(samples, &places.seen, *at) == Finding::Yes),
        "no poll was seen to begin and end",
    )?;
    // No field lies inside another: the word around the budget changes with it as ids do.
    let free = |at: &usize| *at != handle && *at != budget & !7;
    let ids = words()
        .filter(free)
        .map(|at| IdPlace { at, wide: wide_ids });
    let ids = only(
        ids.filter(|ids| rule::task_id(&places.seen, budget, *ids) == Finding::Yes),
        "the tasks' ids were not seen",
    )?;
    let mut layout = assemble(survey, &places, budget, ids)?;
    for flavor in [Flavor::CurrentThread, Flavor::MultiThread] {
        let fields = core(&places, flavor, budget, ids)?;
        match flavor {
            Flavor::CurrentThread => layout.current_thread = fields,
            Flavor::MultiThread => layout.multi_thread = fields,
        }
    }
    Ok(layout)
}

/// All but the cores.
fn assemble(
    survey: &Survey,
    places: &Places<'_>,
    budget: usize,
    ids: IdPlace,
) -> Result<TokioLayout, &'static str> {
    let base = [places.handle, ids.at, budget & !7];
    let base = base.into_iter().fold(places.scheduler, usize::min);
    let offset = |at: usize| -> Result<u32, &'static str> {
        // Each field with 8 bytes of its own, or 16 for a wide id.
        match at - base + 16 <= REACH {
            true => Ok((at - base) as u32),
            false => Err("the fields lie too far apart"),
        }
    };
    let tagged = places.seen.iter().all(|seen| {
        let tag = match seen.flavor {
            Flavor::CurrentThread => CURRENT_THREAD_TAG,
            Flavor::MultiThread => MULTI_THREAD_TAG,
        };
        seen.context.words.first() == Some(&tag)
    });
    Ok(TokioLayout {
        context: survey.start() + base as i64,
        fields: ContextFields {
            task_id: offset(ids.at)?,
            task_id_wide: ids.wide,
            budget: offset(budget)?,
            scheduler: offset(places.scheduler)?,
            runtime: None,
            handle: Some(offset(places.handle)?),
        },
        flavor: tagged.then_some(0),
        current_thread: None,
        multi_thread: None,
    })
}

/// One flavor's core and tick; None where no worker of that flavor was seen.
fn core(
    places: &Places<'_>,
    flavor: Flavor,
    budget: usize,
    ids: IdPlace,
) -> Result<Option<CoreFields>, &'static str> {
    let seen: Vec<Seen<'_>> = places
        .seen
        .iter()
        .filter(|seen| seen.flavor == flavor)
        .copied()
        .collect();
    if seen.is_empty() {
        return Ok(None);
    }
    let mut candidates: Vec<(usize, usize, Steps)> = Vec::new();
    for word in rule::context_words() {
        if rule::core(&seen, word) != Finding::Yes {
            continue;
        }
        let pointees = seen
            .iter()
            .filter_map(|seen| seen.context.pointees.get(word));
        let size = pointees.map(Vec::len).max().unwrap_or(0);
        for tick in (0..size).step_by(4) {
            let steps = rule::steps(&seen, budget, ids, word, tick);
            if rule::is_tick(&steps) == Finding::Yes && !steps.counts_parks {
                candidates.push((word, tick, steps));
            }
        }
    }
    // Counts of parks are right in most steps: only the tick is in all of them.
    candidates.sort_by_key(|(.., steps)| steps.stood + steps.fell);
    let (word, tick) = match candidates.as_slice() {
        [] => return Err("the scheduler's rounds were not seen"),
        [(word, tick, _)] => (*word, *tick),
        [(word, tick, best), (.., next), ..] => {
            if next.stood + next.fell < best.stood + best.fell + LEAD {
                return Err("more than one number counts like the scheduler's rounds");
            }
            (*word, *tick)
        }
    };
    let worker = seen.iter().find_map(|seen| seen.worker);
    Ok(Some(CoreFields {
        tag: match flavor {
            Flavor::CurrentThread => CURRENT_THREAD_TAG,
            Flavor::MultiThread => MULTI_THREAD_TAG,
        },
        core: (word * 8) as u32,
        tick: tick as u32,
        worker: worker.map(|word| (word * 8) as u32),
        worker_index: None,
    }))
}

/// What the samples say of a layout that is a guess. [`Finding::Yes`] once every field was seen at
/// work, the ticks of the flavors that run included.
pub fn judge(survey: &Survey, layout: &TokioLayout) -> Finding {
    let samples = survey.samples();
    let base = layout.context - survey.start();
    let place = |offset: u32| usize::try_from(base + i64::from(offset)).ok();
    let fields = &layout.fields;
    let (Some(scheduler), Some(budget), Some(at), Some(handle)) = (
        place(fields.scheduler),
        place(fields.budget),
        place(fields.task_id),
        fields.handle.and_then(place),
    ) else {
        return Finding::Maybe;
    };
    let ids = IdPlace {
        at,
        wide: fields.task_id_wide,
    };
    let Some(seen) = rule::workers(samples, scheduler, handle) else {
        return Finding::Maybe;
    };
    let mut findings = vec![
        rule::budget(samples, &seen, budget),
        rule::task_id(&seen, budget, ids),
    ];
    for (flavor, core) in [
        (Flavor::CurrentThread, layout.current_thread),
        (Flavor::MultiThread, layout.multi_thread),
    ] {
        let of_flavor = seen.iter().filter(|seen| seen.flavor == flavor);
        let seen: Vec<Seen<'_>> = of_flavor.copied().collect();
        if let (Some(core), false) = (core, seen.is_empty()) {
            let word = core.core as usize / 8;
            let steps = rule::steps(&seen, budget, ids, word, core.tick as usize);
            findings.push(rule::is_tick(&steps));
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

#[cfg(test)]
mod tests;
