//! Where Tokio keeps its state, in the kernel side's form.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, ensure};

use crate::bpf::types::{hud_core_ticks, hud_read_sizes, hud_tokio};
use crate::tokio::{CoreFields, Scheduler, TokioLayout};

const CONTEXT_BYTES: u32 = hud_read_sizes::HUD_CONTEXT_BYTES.0;
const SCHEDULER_CONTEXT_BYTES: u32 = hud_read_sizes::HUD_SCHEDULER_CONTEXT_BYTES.0;
/// A discriminant no variant has, for a flavor that is compiled out.
const NO_TAG: u64 = u64::MAX;

/// Where the cores' ticks are: shared with whoever finds out that a guess was wrong.
#[derive(Clone, Debug)]
pub struct CoreTicks(Arc<[AtomicU32; 2]>);

impl CoreTicks {
    /// Those of a layout; none where none is known.
    pub fn new(layout: Option<&TokioLayout>) -> Self {
        let ticks = CoreTicks(Arc::default());
        if let Some(layout) = layout {
            ticks.set(layout);
        }
        ticks
    }

    /// The kernel side follows within a tenth of a second.
    pub fn set(&self, layout: &TokioLayout) {
        let flavors = [layout.current_thread, layout.multi_thread];
        for (tick, flavor) in self.0.iter().zip(flavors) {
            tick.store(flavor.map_or(0, |core| core.tick), Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self) -> hud_core_ticks {
        let [current_thread, multi_thread] = &*self.0;
        hud_core_ticks {
            current_thread: current_thread.load(Ordering::Relaxed),
            multi_thread: multi_thread.load(Ordering::Relaxed),
        }
    }
}

/// The layout in the kernel side's form; an error names the field that the kernel side cannot reach.
pub(crate) fn kernel_layout(layout: &TokioLayout) -> Result<hud_tokio> {
    let within = |name: &str, offset: u32, size: u32, limit: u32| {
        ensure!(
            offset.is_multiple_of(size) && offset.saturating_add(size) <= limit,
            "Tokio's {name} lies at offset {offset}, beyond what hud reads"
        );
        Ok(offset)
    };
    let fields = &layout.fields;
    let task_id = fields.task_id.unwrap_or(0);
    let id_bytes = if fields.task_id_wide { 16 } else { 8 };
    ensure!(
        task_id.is_multiple_of(8) && task_id.saturating_add(id_bytes) <= CONTEXT_BYTES,
        "Tokio's task id lies at offset {task_id}, beyond what hud reads"
    );
    let core = |flavor: Option<CoreFields>| -> Result<(u64, u32)> {
        Ok(match flavor {
            Some(flavor) => (
                flavor.tag,
                within("core", flavor.core, 8, SCHEDULER_CONTEXT_BYTES)?,
            ),
            None => (NO_TAG, 0),
        })
    };
    let (mut current_thread_tag, current_thread_core) = core(layout.current_thread)?;
    let (multi_thread_tag, multi_thread_core) = core(layout.multi_thread)?;
    if layout.flavor.is_none() && layout.current_thread.is_none() {
        // Without a discriminant the kernel side takes the first flavor's tag for the thread's.
        current_thread_tag = multi_thread_tag;
    }
    let (scheduler, apart) = match fields.scheduler {
        Scheduler::Field(offset) => (within("scheduler", offset, 8, CONTEXT_BYTES)?, None),
        Scheduler::Apart(apart) => (0, Some(apart)),
    };
    // A flavor without a core to look into is not looked for.
    let place = |flavor: Option<CoreFields>, place: Option<i64>| place.filter(|_| flavor.is_some());
    let places = apart.map(|apart| {
        (
            place(layout.current_thread, apart.current_thread).unwrap_or(0),
            place(layout.multi_thread, apart.multi_thread).unwrap_or(0),
        )
    });
    let (current_thread_scheduler, multi_thread_scheduler) = places.unwrap_or_default();
    Ok(hud_tokio {
        context: layout.context,
        current_thread_tag,
        multi_thread_tag,
        task_id,
        task_id_wide: fields.task_id_wide.into(),
        budget: within("budget", fields.budget, 1, CONTEXT_BYTES - 1)?,
        scheduler,
        flavor: within(
            "scheduler flavor",
            layout.flavor.unwrap_or(0),
            8,
            SCHEDULER_CONTEXT_BYTES,
        )?,
        current_thread_core,
        multi_thread_core,
        has_flavor: layout.flavor.is_some().into(),
        current_thread_scheduler,
        multi_thread_scheduler,
        own_thread_locals: apart.is_some().into(),
        has_task_id: fields.task_id.is_some().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokio::{Apart, BesideTick, ContextFields};

    fn layout() -> TokioLayout {
        TokioLayout {
            context: -96,
            fields: ContextFields {
                task_id: Some(48),
                task_id_wide: false,
                budget: 68,
                scheduler: Scheduler::Field(40),
                runtime: Some(70),
                handle: None,
            },
            flavor: None,
            current_thread: None,
            multi_thread: Some(CoreFields {
                tag: 1,
                core: 24,
                tick: 104,
                beside_tick: BesideTick::Interval,
                worker: None,
                worker_index: None,
                handle: None,
            }),
            learnt: false,
        }
    }

    #[test]
    fn a_flavor_that_is_compiled_out_matches_no_discriminant() {
        let kernel = kernel_layout(&TokioLayout {
            flavor: Some(0),
            ..layout()
        });
        let kernel = kernel.unwrap();
        assert_eq!(kernel.current_thread_tag, NO_TAG);
        assert_eq!(kernel.has_flavor, 1);
        assert_eq!((kernel.multi_thread_tag, kernel.multi_thread_core), (1, 24));
    }

    #[test]
    fn without_a_discriminant_the_only_flavor_is_meant() {
        let kernel = kernel_layout(&layout()).unwrap();
        assert_eq!(kernel.has_flavor, 0);
        // What the kernel side takes for the thread's tag, and compares with `multi_thread` first.
        assert_eq!(kernel.current_thread_tag, kernel.multi_thread_tag);
    }

    #[test]
    fn flavors_with_thread_locals_of_their_own() {
        let mut old = layout();
        old.fields.task_id = None;
        old.fields.scheduler = Scheduler::Apart(Apart {
            current_thread: Some(-8),
            multi_thread: Some(-16),
        });
        let kernel = kernel_layout(&old).unwrap();
        assert_eq!((kernel.own_thread_locals, kernel.has_task_id), (1, 0));
        assert_eq!(kernel.multi_thread_scheduler, -16);
        assert_eq!(kernel.current_thread_scheduler, 0, "no core is known");
    }

    #[test]
    fn offsets_beyond_the_bytes_read_are_refused() {
        let mut far = layout();
        far.fields.scheduler = Scheduler::Field(CONTEXT_BYTES);
        assert!(
            kernel_layout(&far)
                .unwrap_err()
                .to_string()
                .contains("scheduler")
        );
        let mut odd = layout();
        odd.fields.task_id = Some(44);
        assert!(kernel_layout(&odd).is_err());
        let mut wide = layout();
        wide.fields.task_id = Some(CONTEXT_BYTES - 8);
        wide.fields.task_id_wide = true;
        assert!(kernel_layout(&wide).is_err());
    }
}
