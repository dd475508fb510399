//! The paths of Tokio before 1.29: each flavor's context is a struct that a thread-local of its own
//! points to, and before 1.22 there is no `Context` either.

use anyhow::{Context as _, Result, ensure};

use super::{Entry, EntryRef, Found, Types, offset};
use crate::tokio::binary::dwarf::Dwarf;
use crate::tokio::{ContextFields, FlavorPaths, PollPaths, Source, names};

/// Names of the field that leads to the runtime's handle, newest first.
const HANDLES: [&str; 3] = ["handle", "spawner", "shared"];

/// The paths of Tokio before 1.22; None where the debug info has none of its types.
///
/// # Errors
/// When the debug info is damaged, or the types are not what this module expects.
pub fn without_context(dwarf: &Dwarf<'_, '_>, units: &[usize]) -> Result<Option<PollPaths>> {
    let types = Types::new(dwarf);
    let Some(budget) = types.first(&[names::BUDGET_TYPE], units)? else {
        return Ok(None);
    };
    let budget = types.entry(budget)?;
    let fields = ContextFields {
        task_id: None,
        budget: types.flag(&budget, "__0")?,
        scheduler: None,
        runtime: None,
        handle: None,
    };
    types.before_1_29(fields, units).map(Some)
}

impl Types<'_, '_, '_> {
    /// The fields of `Context` from 1.22 to 1.28.
    pub(super) fn context_before_1_29(&self, context: &Entry) -> Result<ContextFields> {
        let handle = self.pointer(context, "handle").ok();
        Ok(ContextFields {
            handle: handle.and_then(|found| u32::try_from(found.offset).ok()),
            ..self.context_fields(context)?
        })
    }

    /// The paths with these fields and the flavors' own contexts.
    pub(super) fn before_1_29(&self, context: ContextFields, units: &[usize]) -> Result<PollPaths> {
        let flavor = |paths: &[&[&str]]| -> Result<Option<FlavorPaths>> {
            let root = self.first(paths, units)?;
            root.map(|root| self.own_context(root)).transpose()
        };
        let current_thread = flavor(&names::CURRENT_THREAD_CONTEXT_TYPE)?;
        let multi_thread = flavor(&names::MULTI_THREAD_CONTEXT_TYPE)?;
        ensure!(
            current_thread.is_some() || multi_thread.is_some(),
            "Tokio has no scheduler that hud knows"
        );
        Ok(PollPaths {
            source: Source::DebugInfo,
            context,
            flavor_tag: None,
            current_thread,
            multi_thread,
        })
    }

    /// The first struct of any of these paths.
    fn first(&self, paths: &[&[&str]], units: &[usize]) -> Result<Option<EntryRef>> {
        for unit in units {
            for path in paths {
                if let Some(found) = self.dwarf.find_struct(*unit, path)?.into_iter().next() {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    fn own_context(&self, root: EntryRef) -> Result<FlavorPaths> {
        let context = Found {
            offset: 0,
            entry: self.entry(root)?,
        };
        let handle = match context.entry.member("worker") {
            Some(_) => {
                let data = self.worker_data(&self.pointer(&context.entry, "worker")?)?;
                let handle = self.handle(&data.entry)?;
                data.offset.saturating_add(handle)
            }
            None => self.handle(&context.entry)?,
        };
        Ok(FlavorPaths {
            handle: Some(offset(handle)?),
            ..self.flavor_paths(&context)?
        })
    }

    /// Offset of the pointer to the runtime's handle.
    fn handle(&self, entry: &Entry) -> Result<u64> {
        let name = HANDLES
            .into_iter()
            .find(|name| entry.member(name).is_some());
        let name = name.context("a scheduler without a handle")?;
        Ok(self.pointer(entry, name)?.offset)
    }
}
