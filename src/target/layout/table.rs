//! The version table: Tokio's layout where an executable has symbols but no debug info. Every
//! number was read from the debug info of a build of that version (rustc 1.95). A row is only a
//! candidate: rustc may order fields otherwise, so what the rows say is tried on live threads.

use super::versions::Version;
use super::{ContextFields, CoreFields, TokioLayout};

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
    task_id: 48,
    task_id_wide: false,
    budget: 68,
    scheduler: 40,
    runtime: Some(70),
    handle: Some(16),
};

/// `Context` with `current_thread` alone: the current handle is an enum without a tag.
const FIELDS_ONE_FLAVOR: ContextFields = ContextFields {
    task_id: 40,
    budget: 60,
    scheduler: 32,
    runtime: Some(62),
    ..FIELDS
};

/// `Context` with both flavors while a task id was an `Option<u64>` of 16 bytes.
const FIELDS_WIDE: ContextFields = ContextFields {
    task_id: 32,
    task_id_wide: true,
    budget: 76,
    scheduler: 56,
    runtime: Some(78),
    handle: Some(16),
};

/// The same with `current_thread` alone.
const FIELDS_WIDE_ONE_FLAVOR: ContextFields = ContextFields {
    task_id: 0,
    task_id_wide: true,
    budget: 68,
    scheduler: 48,
    runtime: Some(70),
    handle: Some(32),
};

const MULTI_THREAD: CoreFields = CoreFields {
    tag: 1,
    core: 24,
    tick: 0,
    worker: Some(8),
    worker_index: Some(24),
};

const CURRENT_THREAD: CoreFields = CoreFields {
    tag: 0,
    core: 24,
    tick: 0,
    worker: None,
    worker_index: None,
};

/// `current_thread` in an enum without a tag.
const CURRENT_THREAD_ALONE: CoreFields = CoreFields {
    core: 16,
    ..CURRENT_THREAD
};

/// Ticks of `current_thread`: all features, all features before 1.54, the same with debug
/// assertions, then with time alone, without any driver, and with `--cfg tokio_unstable`.
const CURRENT_TICKS: &[u32] = &[160, 136, 192, 168, 88, 80, 280];

/// The same for 1.32 to 1.44, whose core was smaller.
const CURRENT_TICKS_1_32: &[u32] = &[96, 128, 72, 40];

/// The same for 1.29 to 1.31, whose core held the metrics of every poll.
const CURRENT_TICKS_1_29: &[u32] = &[552, 528];

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
        current_thread: (CURRENT_THREAD, CURRENT_TICKS_1_32),
    },
    Row {
        minors: 32..=39,
        fields: FIELDS_WIDE,
        multi_thread: Some((MULTI_THREAD, &[64])),
        current_thread: (CURRENT_THREAD, CURRENT_TICKS_1_32),
    },
    Row {
        minors: 29..=31,
        fields: FIELDS_WIDE,
        multi_thread: Some((MULTI_THREAD, &[64])),
        current_thread: (CURRENT_THREAD, CURRENT_TICKS_1_29),
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
        current_thread: (CURRENT_THREAD_ALONE, CURRENT_TICKS_1_32),
    },
    Row {
        minors: 32..=39,
        fields: FIELDS_WIDE_ONE_FLAVOR,
        multi_thread: None,
        current_thread: (CURRENT_THREAD_ALONE, CURRENT_TICKS_1_32),
    },
    Row {
        minors: 29..=31,
        fields: FIELDS_WIDE_ONE_FLAVOR,
        multi_thread: None,
        current_thread: (CURRENT_THREAD_ALONE, CURRENT_TICKS_1_29),
    },
];

/// The layouts to try for these versions, likeliest first; those of all rows where none is known,
/// none where the versions are older than the table. `context` is 0 in all of them.
pub fn candidates(versions: &[Version]) -> Vec<TokioLayout> {
    let fits = |row: &&Row| {
        versions.is_empty()
            || versions
                .iter()
                .any(|version| version.major == 1 && row.minors.contains(&version.minor))
    };
    ROWS.iter().filter(fits).flat_map(expand).collect()
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
                flavor: row.multi_thread.map(|_| 0),
                current_thread: Some(current_thread),
                multi_thread,
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
        for supported in 29..60 {
            let layouts = candidates(&[minor(supported)]);
            assert!(layouts.iter().any(|layout| layout.flavor.is_some()));
            assert!(layouts.iter().any(|layout| layout.flavor.is_none()));
        }
        assert_eq!(candidates(&[minor(28)]), []);
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
