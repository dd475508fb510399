//! Converts blazesym's symbols to frames.

use std::collections::HashSet;
use std::sync::Arc;

use blazesym::symbolize::{CodeInfo, Sym};

use super::Frames;
use crate::model::{Frame, Location};
use crate::stacks::names;
use crate::stacks::origin::{Origins, module_path};

/// The frames of a symbol: the inlined calls, innermost first, then the function itself. None if the
/// function has no name; inlined calls without one are left out.
pub(super) fn expand(
    symbol: &Sym<'_>,
    origins: &Origins,
    strings: &mut HashSet<Arc<str>>,
    module: &Arc<str>,
) -> Option<Frames> {
    let inlined = symbol
        .inlined
        .iter()
        .rev()
        .map(|call| (call.name.as_ref(), call.code_info.as_ref(), true));
    let outer = (symbol.name.as_ref(), symbol.code_info.as_deref(), false);
    if names::is_blank(outer.0) {
        return None;
    }
    let frames = inlined
        .filter(|(name, ..)| !names::is_blank(name))
        .chain([outer])
        .map(|(name, code, inlined)| {
            let location = code.map(|code| location(code, strings));
            let file = location.as_ref().map(|location| location.file.as_ref());
            let placed = location
                .as_ref()
                .filter(|_| !names::is_qualified(name))
                .and_then(|at| Some(names::placed(name, &module_path(&at.file)?, at.line)));
            let function = placed.unwrap_or_else(|| names::readable(name).into_owned());
            Arc::new(Frame {
                origin: origins.of(name, file, module),
                raw: (name != function).then(|| name.to_owned()),
                function: function.into(),
                location,
                module: Some(module.clone()),
                inlined,
                uncertain: false,
                address: None,
            })
        });
    Some(frames.collect())
}

fn location(code: &CodeInfo<'_>, strings: &mut HashSet<Arc<str>>) -> Location {
    let path = code.to_path();
    let file = intern(strings, &path.to_string_lossy());
    Location {
        file,
        line: code.line.unwrap_or(0),
    }
}

/// The shared copy of a text.
pub(super) fn intern(strings: &mut HashSet<Arc<str>>, text: &str) -> Arc<str> {
    match strings.get(text) {
        Some(known) => known.clone(),
        None => {
            let new: Arc<str> = text.into();
            strings.insert(new.clone());
            new
        }
    }
}
