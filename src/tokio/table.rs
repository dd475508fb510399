//! The version table: Tokio's layout where an executable has symbols but no debug info. Every
//! number was read from the debug info of a build of that version (rustc 1.95). A row is only a
//! candidate: rustc may order fields otherwise, so what the rows say is tried on live threads.

use super::binary::Version;
use super::{Apart, BesideTick, ContextFields, CoreFields, Scheduler, TokioLayout};

/// A range of Tokio versions with one layout of `Context` and the known offsets of the ticks.
struct Row {
    /// Minor versions of Tokio 1, both ends included.
    minors: std::ops::RangeInclusive<u32>,
    fields: ContextFields,
    /// The `multi_thread` flavor, with the offsets its `Core::tick` may have, the most usual first.
    /// None for Tokio without the feature `rt-multi-thread`.
    multi_thread: Option<(CoreFields, &'static [u32])>,
    /// The `current_thread` flavor. Its tick follows the drivers, whose size depends on Tokio's
    /// features, on the version and on debug assertions.
    current_thread: (CoreFields, &'static [u32]),
}

/// `Context` with both flavors compiled in, since task ids became niches of 8 bytes.
const FIELDS: ContextFields = ContextFields {
    task_id: Some(48),
    task_id_wide: false,
    budget: 68,
    scheduler: Scheduler::Field(40),
    runtime: Some(70),
    handle: Some(16),
};

/// `Context` with `current_thread` alone: the current handle is an enum without a tag.
const FIELDS_ONE_FLAVOR: ContextFields = ContextFields {
    task_id: Some(40),
    budget: 60,
    scheduler: Scheduler::Field(32),
    runtime: Some(62),
    ..FIELDS
};

/// `Context` with both flavors while a task id was an `Option<u64>` of 16 bytes.
const FIELDS_WIDE: ContextFields = ContextFields {
    task_id: Some(32),
    task_id_wide: true,
    budget: 76,
    scheduler: Scheduler::Field(56),
    runtime: Some(78),
    handle: Some(16),
};

/// The same with `current_thread` alone.
const FIELDS_WIDE_ONE_FLAVOR: ContextFields = ContextFields {
    task_id: Some(0),
    task_id_wide: true,
    budget: 68,
    scheduler: Scheduler::Field(48),
    runtime: Some(70),
    handle: Some(32),
};

/// Before 1.29 each flavor's pointer to the scheduler's context is a thread-local of its own.
const APART: Scheduler = Scheduler::Apart(Apart {
    current_thread: None,
    multi_thread: None,
});

/// 1.24 to 1.28, with both flavors and with `current_thread` alone.
const FIELDS_1_24: ContextFields = ContextFields {
    task_id: Some(32),
    task_id_wide: true,
    budget: 88,
    scheduler: APART,
    runtime: Some(90),
    handle: Some(72),
};
const FIELDS_1_24_ONE_FLAVOR: ContextFields = ContextFields {
    task_id: Some(48),
    budget: 80,
    runtime: Some(82),
    handle: Some(40),
    ..FIELDS_1_24
};

/// 1.23, before threads had ids.
const FIELDS_1_23: ContextFields = ContextFields {
    budget: 80,
    runtime: Some(82),
    handle: Some(64),
    ..FIELDS_1_24
};
const FIELDS_1_23_ONE_FLAVOR: ContextFields = ContextFields {
    task_id: Some(48),
    budget: 72,
    runtime: Some(74),
    handle: Some(40),
    ..FIELDS_1_24
};

/// 1.22, before wakers were deferred.
const FIELDS_1_22: ContextFields = ContextFields {
    task_id: Some(0),
    budget: 48,
    runtime: Some(50),
    handle: Some(32),
    ..FIELDS_1_24
};
const FIELDS_1_22_ONE_FLAVOR: ContextFields = ContextFields {
    task_id: Some(16),
    budget: 40,
    runtime: Some(42),
    handle: Some(8),
    ..FIELDS_1_24
};

/// Before 1.22 the budget is a thread-local of its own, and no task ids are kept.
const BUDGET_ALONE: ContextFields = ContextFields {
    task_id: None,
    task_id_wide: false,
    budget: 0,
    scheduler: APART,
    runtime: None,
    handle: None,
};

const MULTI_THREAD: CoreFields = CoreFields {
    tag: 1,
    core: 24,
    tick: 0,
    beside_tick: BesideTick::Interval,
    worker: Some(8),
    worker_index: Some(24),
    handle: None,
};

const CURRENT_THREAD: CoreFields = CoreFields {
    tag: 0,
    core: 24,
    tick: 0,
    beside_tick: BesideTick::Interval,
    worker: None,
    worker_index: None,
    handle: None,
};

/// `current_thread` in an enum without a tag.
const CURRENT_THREAD_ALONE: CoreFields = CoreFields {
    core: 16,
    ..CURRENT_THREAD
};

/// `multi_thread` from 1.21 to 1.28: two flags follow the tick.
const MULTI_THREAD_1_21: CoreFields = CoreFields {
    tag: 0,
    core: 16,
    tick: 0,
    beside_tick: BesideTick::Flags(2),
    worker: Some(0),
    worker_index: Some(24),
    handle: Some(16),
};

/// In 1.20 the interval does.
const MULTI_THREAD_1_20: CoreFields = CoreFields {
    beside_tick: BesideTick::Interval,
    ..MULTI_THREAD_1_21
};

/// `current_thread` from 1.22 to 1.28.
const CURRENT_THREAD_1_22: CoreFields = CoreFields {
    tag: 0,
    core: 16,
    tick: 0,
    beside_tick: BesideTick::Queue,
    worker: None,
    worker_index: None,
    handle: Some(0),
};

/// The same in 1.20 and 1.21.
const CURRENT_THREAD_1_20: CoreFields = CoreFields {
    beside_tick: BesideTick::Handle,
    ..CURRENT_THREAD_1_22
};

/// Ticks of `current_thread`: all features, all features before 1.54, the same with debug
/// assertions; without processes (as actix-web has it), without signals, with the network alone,
/// each of 1.54 and before; then with time alone, without any driver, and with `--cfg
/// tokio_unstable`.
const CURRENT_TICKS: &[u32] = &[160, 136, 192, 168, 152, 128, 112, 104, 88, 80, 280];

/// The same for 1.30 to 1.44, whose core was smaller.
const CURRENT_TICKS_1_30: &[u32] = &[96, 128, 88, 72, 64, 48, 40];

/// The same for 1.29, which still has the drivers in its core.
const CURRENT_TICKS_1_29: &[u32] = &[552, 544, 528];

/// The same for 1.22 to 1.28: all features, without processes, without signals, with the network
/// alone, with time alone, without any driver.
const CURRENT_TICKS_1_22: &[u32] = &[552, 544, 528, 520, 48, 40];

/// The same for 1.20 and 1.21.
const CURRENT_TICKS_1_20: &[u32] = &[616, 608, 576, 536, 88, 48];

/// Newest first; of one version the row with both flavors first.
const ROWS: &[Row] = &[
    Row {
        minors: 45..=u32::MAX,
        fields: FIELDS,
        // 272 with `--cfg tokio_unstable`.
        multi_thread: Some((MULTI_THREAD, &[104, 272])),
        current_thread: (CURRENT_THREAD, CURRENT_TICKS),
    },
    Row {
        minors: 40..=44,
        fields: FIELDS,
        multi_thread: Some((MULTI_THREAD, &[64])),
        current_thread: (CURRENT_THREAD, CURRENT_TICKS_1_30),
    },
    Row {
        minors: 30..=39,
        fields: FIELDS_WIDE,
        multi_thread: Some((MULTI_THREAD, &[64])),
        current_thread: (CURRENT_THREAD, CURRENT_TICKS_1_30),
    },
    Row {
        minors: 29..=29,
        fields: FIELDS_WIDE,
        multi_thread: Some((MULTI_THREAD, &[64])),
        current_thread: (CURRENT_THREAD, CURRENT_TICKS_1_29),
    },
    before_1_29(24..=28, FIELDS_1_24, MULTI_THREAD_1_21),
    before_1_29(23..=23, FIELDS_1_23, MULTI_THREAD_1_21),
    before_1_29(22..=22, FIELDS_1_22, MULTI_THREAD_1_21),
    Row {
        current_thread: (CURRENT_THREAD_1_20, CURRENT_TICKS_1_20),
        ..before_1_29(21..=21, BUDGET_ALONE, MULTI_THREAD_1_21)
    },
    Row {
        current_thread: (CURRENT_THREAD_1_20, CURRENT_TICKS_1_20),
        ..before_1_29(20..=20, BUDGET_ALONE, MULTI_THREAD_1_20)
    },
    Row {
        minors: 45..=u32::MAX,
        fields: FIELDS_ONE_FLAVOR,
        multi_thread: None,
        current_thread: (CURRENT_THREAD_ALONE, CURRENT_TICKS),
    },
    Row {
        minors: 40..=44,
        fields: FIELDS_ONE_FLAVOR,
        multi_thread: None,
        current_thread: (CURRENT_THREAD_ALONE, CURRENT_TICKS_1_30),
    },
    Row {
        minors: 30..=39,
        fields: FIELDS_WIDE_ONE_FLAVOR,
        multi_thread: None,
        current_thread: (CURRENT_THREAD_ALONE, CURRENT_TICKS_1_30),
    },
    Row {
        minors: 29..=29,
        fields: FIELDS_WIDE_ONE_FLAVOR,
        multi_thread: None,
        current_thread: (CURRENT_THREAD_ALONE, CURRENT_TICKS_1_29),
    },
    Row {
        multi_thread: None,
        ..before_1_29(24..=28, FIELDS_1_24_ONE_FLAVOR, MULTI_THREAD_1_21)
    },
    Row {
        multi_thread: None,
        ..before_1_29(23..=23, FIELDS_1_23_ONE_FLAVOR, MULTI_THREAD_1_21)
    },
    Row {
        multi_thread: None,
        ..before_1_29(22..=22, FIELDS_1_22_ONE_FLAVOR, MULTI_THREAD_1_21)
    },
];

/// A row of both flavors.
const fn before_1_29(
    minors: std::ops::RangeInclusive<u32>,
    fields: ContextFields,
    multi_thread: CoreFields,
) -> Row {
    Row {
        minors,
        fields,
        multi_thread: Some((multi_thread, &[32])),
        current_thread: (CURRENT_THREAD_1_22, CURRENT_TICKS_1_22),
    }
}

/// The layouts to try for these versions, likeliest first; those of all rows where none is known,
/// none where the versions are older than the table. `context` is 0 in all of them.
pub fn candidates(versions: &[Version]) -> Vec<TokioLayout> {
    let fits = |row: &&Row| {
        versions.is_empty()
            || versions
                .iter()
                .any(|version| version.major == 1 && row.minors.contains(&version.minor))
    };
    let mut layouts: Vec<TokioLayout> = Vec::new();
    for layout in ROWS.iter().filter(fits).flat_map(expand) {
        // Rows of `current_thread` alone share ticks.
        if !layouts.contains(&layout) {
            layouts.push(layout);
        }
    }
    layouts
}

/// The row with every combination of ticks.
fn expand(row: &Row) -> Vec<TokioLayout> {
    let multi_thread: Vec<Option<CoreFields>> = match row.multi_thread {
        Some((fields, ticks)) => with_ticks(fields, ticks).map(Some).collect(),
        None => vec![None],
    };
    let mut layouts = Vec::new();
    for multi_thread in multi_thread {
        for current_thread in with_ticks(row.current_thread.0, row.current_thread.1) {
            layouts.push(TokioLayout {
                context: 0,
                fields: row.fields,
                flavor: match row.fields.scheduler {
                    Scheduler::Field(_) => row.multi_thread.map(|_| 0),
                    Scheduler::Apart(_) => None,
                },
                current_thread: Some(current_thread),
                multi_thread,
                learnt: false,
            });
        }
    }
    layouts
}

fn with_ticks(fields: CoreFields, ticks: &[u32]) -> impl Iterator<Item = CoreFields> {
    ticks.iter().map(move |tick| CoreFields {
        tick: *tick,
        ..fields
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minor(minor: u32) -> Version {
        Version {
            major: 1,
            minor,
            patch: 0,
        }
    }

    #[test]
    fn every_supported_version_has_candidates_and_older_ones_have_none() {
        for supported in 20..60 {
            let layouts = candidates(&[minor(supported)]);
            assert!(layouts.iter().any(|layout| layout.multi_thread.is_some()));
            // Before 1.22 there is no field whose place depends on it.
            let alone = layouts.iter().any(|layout| layout.multi_thread.is_none());
            assert_eq!(alone, supported >= 22);
            for layout in layouts {
                let apart = matches!(layout.fields.scheduler, Scheduler::Apart(_));
                assert_eq!(apart, supported < 29);
                assert_eq!(layout.fields.task_id.is_some(), supported >= 22);
            }
        }
        assert_eq!(candidates(&[minor(19)]), []);
        assert_eq!(
            candidates(&[Version {
                major: 2,
                ..minor(44)
            }]),
            []
        );
    }

    #[test]
    fn an_unknown_version_tries_everything_once() {
        let all = candidates(&[]);
        for layout in candidates(&[minor(44)])
            .iter()
            .chain(&candidates(&[minor(54)]))
        {
            assert_eq!(all.iter().filter(|other| *other == layout).count(), 1);
        }
    }
}
