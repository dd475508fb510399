//! Paths from the types in the debug info: from `tokio::runtime::context::Context` along its fields
//! to the worker's core.
//!
//! Wrappers (`Cell`, `RefCell`, `Option`, `Box`, `Arc`, `NonNull` ...) are not known by name: the
//! values inside are searched for the first one of the right kind, so a new wrapper changes nothing.

use std::cell::Cell;
use std::collections::HashSet;

use anyhow::{Context as _, Result, bail, ensure};

use super::dwarf::{Dwarf, Entry, EntryRef};
use crate::tokio::{BesideTick, ContextFields, FlavorPaths, PollPaths, Source, TaskId, names};

mod before_1_29;

/// How deep values may lie inside one another.
const MAX_DEPTH: u32 = 16;

/// How many entries are read for one result: Tokio's take a few hundred, damaged debug info could
/// take forever.
const MAX_ENTRIES: u32 = 20_000;

/// How much debug info of other crates is searched, bytes.
const MAX_OTHERS: u64 = 64 << 20;

/// The paths that the debug info describes: one set for each Tokio version linked in. Empty where
/// it has no types of Tokio's (line tables only).
///
/// # Errors
/// When the debug info is damaged, or Tokio's types are not what this module expects.
pub fn poll_paths(dwarf: &Dwarf<'_, '_>) -> Result<Vec<PollPaths>> {
    let mut found = Vec::new();
    let mut done = HashSet::new();
    let mut obstacle = None;
    let (tokio, others): (Vec<usize>, Vec<usize>) =
        (0..dwarf.len()).partition(|unit| krate(dwarf, *unit).is_some());
    for unit in tokio.iter().copied() {
        let krate = krate(dwarf, unit);
        if done.contains(&krate) {
            continue;
        }
        match in_unit(dwarf, unit, &tokio) {
            Ok(paths) => {
                if !paths.is_empty() {
                    done.insert(krate);
                }
                found.extend(paths);
            }
            Err(error) => obstacle = Some(error),
        }
    }
    if found.is_empty() && obstacle.is_none() {
        found.extend(before_1_29::without_context(dwarf, &tokio)?);
    }
    // Fat link-time optimisation moves types to the unit that was linked first, and Tokio itself
    // may have been compiled without debug info.
    let mut searched = 0u64;
    for unit in others {
        searched = searched.saturating_add(dwarf.size(unit));
        if !found.is_empty() || searched > MAX_OTHERS {
            break;
        }
        match in_unit(dwarf, unit, &[unit]) {
            Ok(paths) => found.extend(paths),
            Err(error) => obstacle = Some(error),
        }
    }
    found.dedup();
    match (found.is_empty(), obstacle) {
        (true, Some(error)) => Err(error),
        _ => Ok(found),
    }
}

/// `tokio.HASH` of a unit of Tokio's own: distinguishes two versions in one executable.
fn krate<'r>(dwarf: &'r Dwarf<'_, '_>, unit: usize) -> Option<&'r str> {
    let (_, codegen_unit) = dwarf.name(unit)?.split_once("/@/")?;
    let name = codegen_unit.split("-cgu").next()?;
    name.starts_with("tokio.").then_some(name)
}

/// `units` are those of Tokio, over which its types may be spread.
fn in_unit(dwarf: &Dwarf<'_, '_>, unit: usize, units: &[usize]) -> Result<Vec<PollPaths>> {
    dwarf
        .find_struct(unit, names::CONTEXT_TYPE)?
        .into_iter()
        .map(|root| Types::new(dwarf).poll_paths(root, units))
        .collect()
}

/// A value found inside another: its offset there, and its type's entry.
struct Found {
    offset: u64,
    entry: Entry,
}

struct Types<'r, 's, 'd> {
    dwarf: &'r Dwarf<'s, 'd>,
    /// How many more entries may be read.
    left: Cell<u32>,
}

impl<'r, 's, 'd> Types<'r, 's, 'd> {
    fn new(dwarf: &'r Dwarf<'s, 'd>) -> Self {
        Types {
            dwarf,
            left: Cell::new(MAX_ENTRIES),
        }
    }

    fn poll_paths(&self, root: EntryRef, units: &[usize]) -> Result<PollPaths> {
        let context = self.entry(root)?;
        if context.member("scheduler").is_none() {
            return self.before_1_29(self.context_before_1_29(&context)?, units);
        }
        let scheduler = self.pointer(&context, "scheduler")?;
        let flavors = self.pointee(&scheduler)?;
        let fields = ContextFields {
            scheduler: Some(offset(scheduler.offset)?),
            handle: self
                .pointer(&context, "current")
                .ok()
                .and_then(|found| u32::try_from(found.offset).ok()),
            ..self.context_fields(&context)?
        };
        let part = flavors
            .children(gimli::DW_TAG_variant_part)
            .next()
            .context("scheduler::Context is not an enum")?;
        let variants: Vec<&Entry> = part.children(gimli::DW_TAG_variant).collect();
        let flavor_tag = match part.discr {
            Some(discr) => {
                let member = self.entry(discr)?;
                let type_ = member.type_.context("a discriminant without a type")?;
                ensure!(
                    self.entry(type_)?.size == Some(8),
                    "scheduler::Context has a discriminant of an unexpected size"
                );
                Some(offset(member.location.unwrap_or(0))?)
            }
            None => {
                ensure!(variants.len() == 1, "an enum without a discriminant");
                None
            }
        };
        let flavor = |name: &str| -> Result<Option<FlavorPaths>> {
            variants
                .iter()
                .find_map(|variant| Some((*variant, variant.member(name)?)))
                .map(|(variant, member)| self.variant_paths(variant, member))
                .transpose()
        };
        let current_thread = flavor("CurrentThread")?;
        let multi_thread = flavor("MultiThread")?;
        ensure!(
            current_thread.is_some() || multi_thread.is_some(),
            "scheduler::Context has no flavor that hud knows"
        );
        Ok(PollPaths {
            source: Source::DebugInfo,
            context: fields,
            flavor_tag,
            current_thread,
            multi_thread,
        })
    }

    fn entry(&self, at: EntryRef) -> Result<Entry> {
        let left = self.left.get().checked_sub(1);
        self.left.set(left.context("the types never end")?);
        self.dwarf.entry(at)
    }

    /// The fields of `Context` that are not pointers; `scheduler` and `handle` are left unset.
    fn context_fields(&self, context: &Entry) -> Result<ContextFields> {
        let is_enum = |entry: &Entry| entry.children(gimli::DW_TAG_variant_part).next().is_some();
        let id = self.inside(context, "current_task_id", &is_enum)?;
        let wide = match id.entry.size {
            Some(8) => false,
            Some(16) => true,
            size => bail!("current_task_id has an unexpected size: {size:?}"),
        };
        Ok(ContextFields {
            task_id: Some(TaskId {
                offset: offset(id.offset)?,
                wide,
            }),
            budget: self.flag(context, "budget")?,
            runtime: Some(self.flag(context, "runtime")?),
            scheduler: None,
            handle: None,
        })
    }

    /// Offset of the discriminant of the enum in the field `name`.
    fn flag(&self, entry: &Entry, name: &str) -> Result<u32> {
        let is_enum = |entry: &Entry| entry.children(gimli::DW_TAG_variant_part).next().is_some();
        let found = self.inside(entry, name, &is_enum)?;
        let discr = found
            .entry
            .children(gimli::DW_TAG_variant_part)
            .find_map(|part| part.discr)
            .with_context(|| format!("{name} has no discriminant"))?;
        let within = self.entry(discr)?.location.unwrap_or(0);
        offset(found.offset.saturating_add(within))
    }

    /// The paths of one flavor: `variant` of the enum holds `member`, whose struct wraps the flavor's
    /// context.
    fn variant_paths(&self, variant: &Entry, member: &Entry) -> Result<FlavorPaths> {
        let has_core = |entry: &Entry| entry.member("core").is_some();
        let context = self.find(member, 0, &has_core, MAX_DEPTH)?;
        let context = context.context("a flavor without a core")?;
        Ok(FlavorPaths {
            tag: variant.discr_value.unwrap_or(0),
            ..self.flavor_paths(&context)?
        })
    }

    /// The paths from a flavor's own context; `tag` and `handle` are left unset.
    fn flavor_paths(&self, context: &Found) -> Result<FlavorPaths> {
        let pointer = self.pointer(&context.entry, "core")?;
        let core = self.pointee(&pointer)?;
        let tick = self.inside(&core, "tick", &|entry: &Entry| {
            entry.tag == gimli::DW_TAG_base_type && entry.size == Some(4)
        })?;
        let interval = core.member("global_queue_interval");
        let beside_tick = match interval.and_then(|interval| interval.location) {
            Some(at) if at == tick.offset.saturating_add(4) => BesideTick::Interval,
            _ => BesideTick::Unknown,
        };
        let (worker, worker_index) = match self.worker(context) {
            Ok((worker, index)) => (Some(worker), Some(index)),
            Err(_) => (None, None),
        };
        Ok(FlavorPaths {
            tag: 0,
            core: offset(context.offset.saturating_add(pointer.offset))?,
            tick: offset(tick.offset)?,
            beside_tick,
            worker,
            worker_index,
            handle: None,
        })
    }

    /// Offsets of the pointer to `ArcInner<Worker>`, and of the index in there.
    fn worker(&self, context: &Found) -> Result<(u32, u32)> {
        let worker = self.pointer(&context.entry, "worker")?;
        let data = self.worker_data(&worker)?;
        let index = data.entry.member("index").and_then(|index| index.location);
        let index = index.context("Worker without an index")?;
        Ok((
            offset(context.offset.saturating_add(worker.offset))?,
            offset(data.offset.saturating_add(index))?,
        ))
    }

    /// The `Worker` inside the `ArcInner` that is pointed to.
    fn worker_data(&self, worker: &Found) -> Result<Found> {
        self.inside(&self.pointee(worker)?, "data", &|entry: &Entry| {
            entry.member("index").is_some()
        })
    }

    /// The first pointer inside the field `name`.
    fn pointer(&self, entry: &Entry, name: &str) -> Result<Found> {
        self.inside(entry, name, &|entry: &Entry| {
            entry.tag == gimli::DW_TAG_pointer_type
        })
    }

    fn pointee(&self, pointer: &Found) -> Result<Entry> {
        let at = pointer.entry.type_.context("a pointer to nothing")?;
        self.entry(at)
    }

    /// The first value inside the field `name` whose type fits.
    fn inside(&self, entry: &Entry, name: &str, fits: &dyn Fn(&Entry) -> bool) -> Result<Found> {
        let member = entry.member(name).with_context(|| {
            let of = entry.name.as_deref().unwrap_or("a type");
            format!("Tokio's {of} has no field {name}")
        })?;
        self.find(member, 0, fits, MAX_DEPTH)?
            .with_context(|| format!("{name} is not of the kind expected"))
    }

    /// Depth first through the values inside `member`, variants of enums included.
    fn find(
        &self,
        member: &Entry,
        base: u64,
        fits: &dyn Fn(&Entry) -> bool,
        depth: u32,
    ) -> Result<Option<Found>> {
        let (Some(type_), Some(depth)) = (member.type_, depth.checked_sub(1)) else {
            return Ok(None);
        };
        let base = base.saturating_add(member.location.unwrap_or(0));
        let entry = self.entry(type_)?;
        if fits(&entry) {
            return Ok(Some(Found {
                offset: base,
                entry,
            }));
        }
        let variants = entry
            .children(gimli::DW_TAG_variant_part)
            .flat_map(|part| part.children(gimli::DW_TAG_variant));
        for inner in std::iter::once(&entry)
            .chain(variants)
            .flat_map(|holder| holder.children(gimli::DW_TAG_member))
        {
            if let Some(found) = self.find(inner, base, fits, depth)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// An offset as paths keep it: no struct of Tokio's comes near 1 MiB.
fn offset(offset: u64) -> Result<u32> {
    ensure!(offset < 1 << 20, "an offset of {offset} is too large");
    Ok(offset as u32)
}

#[cfg(test)]
mod tests;
