//! Finds the file with the symbols of each recorded module.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::failure::{Failure, Kind};
use crate::target::debug_files::{DebugFile, DebugFiles};
use crate::target::elf::{self, BuildId};

/// A module's name and build-id.
type ModuleKey = (Arc<str>, Option<Arc<str>>);

/// The symbol files of one recording.
pub(super) struct SymbolFiles {
    /// The executable's, if the user gave it.
    given: Option<DebugFile>,
    debug_files: DebugFiles,
    /// File name of the recorded executable.
    executable: String,
    found: HashMap<ModuleKey, Option<DebugFile>>,
    /// What to tell the user, one line each.
    pub notes: Vec<String>,
}

impl SymbolFiles {
    /// Uses `given` for the executable, and debug files for all other modules.
    pub fn new(given: Option<DebugFile>, debug_files: DebugFiles) -> Self {
        SymbolFiles {
            given,
            debug_files,
            executable: String::new(),
            found: HashMap::new(),
            notes: Vec::new(),
        }
    }

    /// Sets the recorded executable by its path, as the kernel states it.
    pub fn set_executable(&mut self, path: &str) {
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        let name = Path::new(path).file_name().and_then(|name| name.to_str());
        self.executable = name.unwrap_or(path).to_owned();
    }

    /// Whether the module is the recorded executable.
    pub fn is_executable(&self, module: &str) -> bool {
        module == self.executable
    }

    /// The file with a module's symbols, if there is one.
    ///
    /// # Errors
    /// When the given file is of another build than the recorded executable.
    pub fn find(
        &mut self,
        module: &Arc<str>,
        build_id: Option<&Arc<str>>,
    ) -> Result<Option<DebugFile>, Failure> {
        let key = (Arc::clone(module), build_id.cloned());
        if let Some(known) = self.found.get(&key) {
            return Ok(known.clone());
        }
        let given = self.given.clone();
        let file = match (given.filter(|_| self.is_executable(module)), build_id) {
            (Some(given), _) => {
                self.check(&given, build_id)?;
                Some(given)
            }
            (None, Some(id)) => id.parse().ok().and_then(|id| {
                let mut report = |what: &str| self.notes.push(what.to_owned());
                self.debug_files.of_build(&id, module, &mut report)
            }),
            (None, None) => None,
        };
        self.found.insert(key, file.clone());
        Ok(file)
    }

    /// Refuses a given file of another build.
    fn check(&mut self, given: &DebugFile, recorded: Option<&Arc<str>>) -> Result<(), Failure> {
        let path = given.path.display();
        let build_id = elf::build_id(&given.file);
        let Some(recorded) = recorded else {
            self.notes.push(format!(
                "the recorded {} has no build-id: cannot check that {path} is the same build",
                self.executable
            ));
            return Ok(());
        };
        if build_id.is_some() && recorded.parse::<BuildId>().ok() == build_id {
            return Ok(());
        }
        let build_id = build_id.map_or("no build-id".to_owned(), |id| format!("build-id {id}"));
        let what = format!(
            "{path} is another build than the recorded {}: {build_id}, and the recording has \
             {recorded}",
            self.executable
        );
        let hint = "give --symbols the unstripped file of the very build that was recorded";
        Err(Failure::new(Kind::Failed, what).hint(hint))
    }

    /// Notes that the given file named nothing.
    pub fn note_unused(&mut self) {
        if let Some(given) = &self.given {
            self.notes.push(format!(
                "{} named nothing: every frame of {} has its name already, or is not in that file",
                given.path.display(),
                self.executable
            ));
        }
    }
}
