//! The version table: Tokio's offsets where an executable has no debug info.
//!
//! Every number was read from the debug info of a build of that version (rustc 1.95). A row is only
//! a candidate: another rustc may order fields differently, so `select` tries the rows on the live
//! threads. A new version of Tokio that differs is a new row here; docs/DEVELOPMENT.md says how its
//! numbers are read and how the row is tested.

use std::ops::RangeInclusive;

use super::binary::Version;
use super::{BesideTick, ContextFields, FlavorPaths, PollPaths, Source, TaskId};

/// A range of versions that keep the state of polls in the same way.
pub struct Row {
    /// Minor versions of Tokio 1, both ends included.
    minors: RangeInclusive<u32>,
    /// With both flavors compiled in, and with `current_thread` alone, where fields have other
    /// places then.
    both: ContextFields,
    alone: Option<ContextFields>,
    multi_thread: Flavored,
    current_thread: Flavored,
    /// `current_thread` where it is alone: an enum without a tag before its fields.
    current_thread_alone: FlavorPaths,
}

/// The paths of one flavor, with every offset that its tick may have, the most usual first. A tick
/// follows fields whose size depends on Tokio's features, on debug assertions and on `cfg`s.
type Flavored = (FlavorPaths, &'static [u32]);

impl Row {
    /// Whether the pointers to the scheduler's context are thread-locals of their own.
    pub fn has_own_pointers(&self) -> bool {
        self.both.scheduler.is_none()
    }

    /// Whether `Context` has task ids, and whether those are wide.
    pub fn wide_ids(&self) -> Option<bool> {
        self.both.task_id.map(|id| id.wide)
    }

    /// The paths with every combination of ticks, with both flavors.
    fn with_both(&self) -> Vec<PollPaths> {
        let mut all = Vec::new();
        for multi_thread in with_ticks(self.multi_thread) {
            all.extend(
                with_ticks(self.current_thread).map(|current_thread| PollPaths {
                    source: Source::Table,
                    context: self.both,
                    flavor_tag: self.both.scheduler.map(|_| 0),
                    current_thread: Some(current_thread),
                    multi_thread: Some(multi_thread),
                }),
            );
        }
        all
    }

    /// The same with `current_thread` alone.
    fn with_one(&self) -> Vec<PollPaths> {
        let (_, ticks) = self.current_thread;
        let paths = |context| {
            with_ticks((self.current_thread_alone, ticks)).map(move |current_thread| PollPaths {
                source: Source::Table,
                context,
                flavor_tag: None,
                current_thread: Some(current_thread),
                multi_thread: None,
            })
        };
        self.alone.into_iter().flat_map(paths).collect()
    }
}

fn with_ticks((paths, ticks): Flavored) -> impl Iterator<Item = FlavorPaths> {
    ticks.iter().map(move |tick| FlavorPaths {
        tick: *tick,
        ..paths
    })
}

/// The paths to try for these versions, likeliest first; those of all rows where no version is
/// known, none where the versions are older than the table.
pub fn candidates(versions: &[Version]) -> Vec<PollPaths> {
    let fits = |row: &&Row| {
        versions.is_empty()
            || versions
                .iter()
                .any(|version| version.major == 1 && row.minors.contains(&version.minor))
    };
    let rows = || ROWS.iter().filter(fits);
    let mut all: Vec<PollPaths> = Vec::new();
    for paths in rows()
        .flat_map(Row::with_both)
        .chain(rows().flat_map(Row::with_one))
    {
        // Rows share some of them.
        if !all.contains(&paths) {
            all.push(paths);
        }
    }
    all
}

/// The row of that minor version of Tokio 1: the newest where none is known, the oldest for
/// versions that are older.
pub fn row(minor: Option<u32>) -> &'static Row {
    let is_it = |row: &&Row| minor.is_none_or(|minor| *row.minors.start() <= minor);
    ROWS.iter().find(is_it).unwrap_or(&V1_20)
}

/// Newest first.
static ROWS: [Row; 9] = [
    V1_45,
    Row {
        minors: 40..=44,
        multi_thread: (MULTI_THREAD, &[64]),
        current_thread: (CURRENT_THREAD, CURRENT_TICKS_1_30),
        ..V1_45
    },
    V1_30,
    Row {
        minors: 29..=29,
        current_thread: (CURRENT_THREAD, CURRENT_TICKS_1_29),
        ..V1_30
    },
    V1_24,
    // Before threads had ids.
    Row {
        minors: 23..=23,
        both: ContextFields {
            budget: 80,
            runtime: Some(82),
            handle: Some(64),
            ..CONTEXT_1_24
        },
        alone: Some(ContextFields {
            task_id: wide_id(48),
            budget: 72,
            runtime: Some(74),
            handle: Some(40),
            ..CONTEXT_1_24
        }),
        ..V1_24
    },
    // Before wakers were deferred.
    Row {
        minors: 22..=22,
        both: ContextFields {
            task_id: wide_id(0),
            budget: 48,
            runtime: Some(50),
            handle: Some(32),
            ..CONTEXT_1_24
        },
        alone: Some(ContextFields {
            task_id: wide_id(16),
            budget: 40,
            runtime: Some(42),
            handle: Some(8),
            ..CONTEXT_1_24
        }),
        ..V1_24
    },
    Row {
        minors: 21..=21,
        multi_thread: (MULTI_THREAD_1_21, &[32]),
        ..V1_20
    },
    V1_20,
];

const V1_45: Row = Row {
    minors: 45..=u32::MAX,
    both: ContextFields {
        task_id: narrow_id(48),
        budget: 68,
        scheduler: Some(40),
        runtime: Some(70),
        handle: Some(16),
    },
    // The current handle is an enum without a tag here.
    alone: Some(ContextFields {
        task_id: narrow_id(40),
        budget: 60,
        scheduler: Some(32),
        runtime: Some(62),
        handle: Some(16),
    }),
    // 272 with `--cfg tokio_unstable`.
    multi_thread: (MULTI_THREAD, &[104, 272]),
    current_thread: (CURRENT_THREAD, CURRENT_TICKS_1_45),
    current_thread_alone: CURRENT_THREAD_ALONE,
};

/// Task ids are `Option`s of 16 bytes here.
const V1_30: Row = Row {
    minors: 30..=39,
    both: ContextFields {
        task_id: wide_id(32),
        budget: 76,
        scheduler: Some(56),
        runtime: Some(78),
        handle: Some(16),
    },
    alone: Some(ContextFields {
        task_id: wide_id(0),
        budget: 68,
        scheduler: Some(48),
        runtime: Some(70),
        handle: Some(32),
    }),
    multi_thread: (MULTI_THREAD, &[64]),
    current_thread: (CURRENT_THREAD, CURRENT_TICKS_1_30),
    current_thread_alone: CURRENT_THREAD_ALONE,
};

/// Each flavor's pointer to the scheduler's context is a thread-local of its own here.
const V1_24: Row = Row {
    minors: 24..=28,
    both: CONTEXT_1_24,
    alone: Some(ContextFields {
        task_id: wide_id(48),
        budget: 80,
        runtime: Some(82),
        handle: Some(40),
        ..CONTEXT_1_24
    }),
    multi_thread: (MULTI_THREAD_1_21, &[32]),
    current_thread: (CURRENT_THREAD_1_22, CURRENT_TICKS_1_22),
    current_thread_alone: CURRENT_THREAD_1_22,
};

/// The budget is a thread-local of its own here, and there are no task ids: no offset depends on
/// which flavors are compiled in.
const V1_20: Row = Row {
    minors: 20..=20,
    both: ContextFields {
        task_id: None,
        budget: 0,
        scheduler: None,
        runtime: None,
        handle: None,
    },
    alone: None,
    multi_thread: (
        FlavorPaths {
            beside_tick: BesideTick::Interval,
            ..MULTI_THREAD_1_21
        },
        &[32],
    ),
    current_thread: (CURRENT_THREAD_1_20, CURRENT_TICKS_1_20),
    current_thread_alone: CURRENT_THREAD_1_20,
};

const CONTEXT_1_24: ContextFields = ContextFields {
    task_id: wide_id(32),
    budget: 88,
    scheduler: None,
    runtime: Some(90),
    handle: Some(72),
};

const fn wide_id(offset: u32) -> Option<TaskId> {
    Some(TaskId { offset, wide: true })
}

const fn narrow_id(offset: u32) -> Option<TaskId> {
    Some(TaskId {
        offset,
        wide: false,
    })
}

const MULTI_THREAD: FlavorPaths = FlavorPaths {
    tag: 1,
    core: 24,
    tick: 0,
    beside_tick: BesideTick::Interval,
    worker: Some(8),
    worker_index: Some(24),
    handle: None,
};

const CURRENT_THREAD: FlavorPaths = FlavorPaths {
    tag: 0,
    core: 24,
    tick: 0,
    beside_tick: BesideTick::Interval,
    worker: None,
    worker_index: None,
    handle: None,
};

const CURRENT_THREAD_ALONE: FlavorPaths = FlavorPaths {
    core: 16,
    ..CURRENT_THREAD
};

const MULTI_THREAD_1_21: FlavorPaths = FlavorPaths {
    tag: 0,
    core: 16,
    tick: 0,
    beside_tick: BesideTick::Flags(2),
    worker: Some(0),
    worker_index: Some(24),
    handle: Some(16),
};

const CURRENT_THREAD_1_22: FlavorPaths = FlavorPaths {
    tag: 0,
    core: 16,
    tick: 0,
    beside_tick: BesideTick::Queue,
    worker: None,
    worker_index: None,
    handle: Some(0),
};

const CURRENT_THREAD_1_20: FlavorPaths = FlavorPaths {
    beside_tick: BesideTick::Handle,
    ..CURRENT_THREAD_1_22
};

/// Ticks of `current_thread` from 1.45 on: all features, all features before 1.54, the same with
/// debug assertions; without processes (as actix-web has it), without signals, with the network
/// alone, each of 1.54 and before; then with time alone, without any driver, and with `--cfg
/// tokio_unstable`.
const CURRENT_TICKS_1_45: &[u32] = &[160, 136, 192, 168, 152, 128, 112, 104, 88, 80, 280];

/// The same for 1.30 to 1.44, whose core is smaller.
const CURRENT_TICKS_1_30: &[u32] = &[96, 128, 88, 72, 64, 48, 40];

/// The same for 1.29, which has the drivers in its core.
const CURRENT_TICKS_1_29: &[u32] = &[552, 544, 528];

/// The same for 1.22 to 1.28: all features, without processes, without signals, with the network
/// alone, with time alone, without any driver.
const CURRENT_TICKS_1_22: &[u32] = &[552, 544, 528, 520, 48, 40];

/// The same for 1.20 and 1.21.
const CURRENT_TICKS_1_20: &[u32] = &[616, 608, 576, 536, 88, 48];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokio::kernel::kernel_layout;
    use crate::tokio::{ThreadLocals, TokioLayout};

    fn minor(minor: u32) -> Version {
        Version {
            major: 1,
            minor,
            patch: 0,
        }
    }

    #[test]
    fn every_supported_version_has_one_row_and_older_ones_have_none() {
        for supported in 20..60 {
            let rows = ROWS.iter().filter(|row| row.minors.contains(&supported));
            assert_eq!(rows.count(), 1, "1.{supported}");
            let all = candidates(&[minor(supported)]);
            assert!(all.iter().any(|paths| paths.multi_thread.is_some()));
            let alone = all.iter().any(|paths| paths.multi_thread.is_none());
            assert_eq!(alone, supported >= 22, "1.{supported}");
            for paths in all {
                assert_eq!(paths.context.scheduler.is_some(), supported >= 29);
                assert_eq!(paths.context.task_id.is_some(), supported >= 22);
            }
        }
        assert_eq!(candidates(&[minor(19)]), []);
        let major = Version {
            major: 2,
            ..minor(44)
        };
        assert_eq!(candidates(&[major]), []);
    }

    #[test]
    fn the_kernel_side_can_follow_every_row() {
        for poll in candidates(&[]) {
            let layout = TokioLayout {
                locals: ThreadLocals::default(),
                poll,
            };
            assert!(kernel_layout(&layout).is_ok(), "{poll:?}");
        }
    }

    #[test]
    fn an_unknown_version_tries_everything_once() {
        let all = candidates(&[]);
        for paths in candidates(&[minor(44)])
            .iter()
            .chain(&candidates(&[minor(54)]))
        {
            assert_eq!(all.iter().filter(|other| *other == paths).count(), 1);
        }
    }

    #[test]
    fn versions_differ_in_what_there_is_to_learn() {
        let facts = |version| {
            let row = row(version);
            (row.has_own_pointers(), row.wide_ids())
        };
        for (version, expected) in [
            (None, (false, Some(false))),
            (Some(99), (false, Some(false))),
            (Some(40), (false, Some(false))),
            (Some(39), (false, Some(true))),
            (Some(29), (false, Some(true))),
            (Some(28), (true, Some(true))),
            (Some(22), (true, Some(true))),
            (Some(21), (true, None)),
            (Some(10), (true, None)),
        ] {
            assert_eq!(facts(version), expected, "{version:?}");
        }
    }
}
