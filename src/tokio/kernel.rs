//! A layout in the form that the BPF programs take: `struct hud_tokio` of `hud.h`.

use anyhow::{Result, ensure};

use crate::bpf::types::{hud_core_ticks, hud_read_sizes, hud_tokio};
use crate::tokio::{FlavorPaths, TokioLayout};

const CONTEXT_BYTES: u32 = hud_read_sizes::HUD_CONTEXT_BYTES.0;
const SCHEDULER_CONTEXT_BYTES: u32 = hud_read_sizes::HUD_SCHEDULER_CONTEXT_BYTES.0;
/// A discriminant that no variant has, for a flavor that is compiled out.
const NO_TAG: u64 = u64::MAX;

/// Where the scheduling ticks lie in the cores; 0 where unknown.
pub(crate) fn core_ticks(layout: &TokioLayout) -> hud_core_ticks {
    let tick = |paths: Option<FlavorPaths>| paths.map_or(0, |paths| paths.tick);
    hud_core_ticks {
        current_thread: tick(layout.poll.current_thread),
        multi_thread: tick(layout.poll.multi_thread),
    }
}

/// The layout as the BPF programs take it.
///
/// # Errors
/// Names the field that lies outside of what the programs read.
pub(crate) fn kernel_layout(layout: &TokioLayout) -> Result<hud_tokio> {
    let within = |name: &str, offset: u32, (size, align): (u32, u32), limit: u32| {
        ensure!(
            offset.is_multiple_of(align) && offset.saturating_add(size) <= limit,
            "Tokio's {name} lies at offset {offset}, outside of what hud reads"
        );
        Ok(offset)
    };
    let in_context = |name, offset, size| within(name, offset, size, CONTEXT_BYTES);
    let in_scheduler = |name, offset| within(name, offset, (8, 8), SCHEDULER_CONTEXT_BYTES);
    let poll = &layout.poll;
    let fields = &poll.context;
    let flavor = |paths: Option<FlavorPaths>| -> Result<(u64, u32)> {
        Ok(match paths {
            Some(paths) => (paths.tag, in_scheduler("core", paths.core)?),
            None => (NO_TAG, 0),
        })
    };
    let (mut current_thread_tag, current_thread_core) = flavor(poll.current_thread)?;
    let (multi_thread_tag, multi_thread_core) = flavor(poll.multi_thread)?;
    if poll.flavor_tag.is_none() && poll.current_thread.is_none() {
        // Without a discriminant the programs take the first flavor's tag for the thread's.
        current_thread_tag = multi_thread_tag;
    }
    // A flavor without a core to read is not looked for.
    let pointer = |local: Option<i64>, paths: Option<FlavorPaths>| {
        let local = local.filter(|_| fields.scheduler.is_none() && paths.is_some());
        local.unwrap_or(0)
    };
    let task_id = match fields.task_id {
        Some(id) => in_context("task id", id.offset, (id.bytes(), 8))?,
        None => 0,
    };
    Ok(hud_tokio {
        context: layout.locals.context,
        current_thread_tag,
        multi_thread_tag,
        task_id,
        task_id_wide: fields.task_id.is_some_and(|id| id.wide).into(),
        budget: in_context("budget", fields.budget, (2, 1))?,
        scheduler: in_context("scheduler", fields.scheduler.unwrap_or(0), (8, 8))?,
        flavor: in_scheduler("scheduler flavor", poll.flavor_tag.unwrap_or(0))?,
        current_thread_core,
        multi_thread_core,
        has_flavor: poll.flavor_tag.is_some().into(),
        current_thread_scheduler: pointer(layout.locals.current_thread, poll.current_thread),
        multi_thread_scheduler: pointer(layout.locals.multi_thread, poll.multi_thread),
        own_thread_locals: fields.scheduler.is_none().into(),
        has_task_id: fields.task_id.is_some().into(),
        has_root: (fields.scheduler.is_some()
            && fields.runtime.is_some()
            && fields.handle.is_some())
        .into(),
        runtime: in_context("runtime state", fields.runtime.unwrap_or(0), (1, 1))?,
        handle: in_context("handle", fields.handle.unwrap_or(0), (8, 8))?,
        unused: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokio::{BesideTick, ContextFields, PollPaths, Source, TaskId, ThreadLocals};

    fn layout() -> TokioLayout {
        TokioLayout {
            locals: ThreadLocals {
                context: -96,
                ..ThreadLocals::default()
            },
            poll: PollPaths {
                source: Source::Table,
                context: ContextFields {
                    task_id: Some(TaskId {
                        offset: 48,
                        wide: false,
                    }),
                    budget: 68,
                    scheduler: Some(40),
                    runtime: Some(70),
                    handle: None,
                },
                flavor_tag: None,
                current_thread: None,
                multi_thread: Some(FlavorPaths {
                    tag: 1,
                    core: 24,
                    tick: 104,
                    beside_tick: BesideTick::Interval,
                    worker: None,
                    worker_index: None,
                    handle: None,
                }),
            },
        }
    }

    #[test]
    fn a_flavor_that_is_compiled_out_matches_no_discriminant() {
        let mut both = layout();
        both.poll.flavor_tag = Some(0);
        let kernel = kernel_layout(&both).unwrap();
        assert_eq!(kernel.current_thread_tag, NO_TAG);
        assert_eq!(kernel.has_flavor, 1);
        assert_eq!((kernel.multi_thread_tag, kernel.multi_thread_core), (1, 24));
    }

    #[test]
    fn without_a_discriminant_the_only_flavor_is_meant() {
        let kernel = kernel_layout(&layout()).unwrap();
        assert_eq!(kernel.has_flavor, 0);
        // What the programs take for the thread's tag, and compare with `multi_thread` first.
        assert_eq!(kernel.current_thread_tag, kernel.multi_thread_tag);
    }

    #[test]
    fn before_1_29_each_known_flavor_has_its_own_thread_local() {
        let mut old = layout();
        old.poll.context.task_id = None;
        old.poll.context.scheduler = None;
        old.locals.current_thread = Some(-8);
        old.locals.multi_thread = Some(-16);
        let kernel = kernel_layout(&old).unwrap();
        assert_eq!((kernel.own_thread_locals, kernel.has_task_id), (1, 0));
        assert_eq!(kernel.multi_thread_scheduler, -16);
        assert_eq!(kernel.current_thread_scheduler, 0, "no core is known");
    }

    #[test]
    fn offsets_outside_of_the_bytes_read_are_refused() {
        let mut far = layout();
        far.poll.context.scheduler = Some(CONTEXT_BYTES);
        let error = kernel_layout(&far).unwrap_err().to_string();
        assert!(error.contains("scheduler"), "{error}");
        let id = |offset, wide| {
            let mut layout = layout();
            layout.poll.context.task_id = Some(TaskId { offset, wide });
            kernel_layout(&layout)
        };
        assert!(id(44, false).is_err());
        assert!(id(CONTEXT_BYTES - 8, false).is_ok());
        assert!(id(CONTEXT_BYTES - 8, true).is_err());
        let mut far = layout();
        far.poll.context.budget = CONTEXT_BYTES - 1;
        assert!(kernel_layout(&far).is_err());
    }
}
