//! Names for the frames of a recording that had no symbols: from files of the same builds, when it
//! is replayed.
//!
//! A frame without a name keeps its address and its module's build-id in the trace. What depends on
//! names is decided anew: which stacks are one, and which code is the culprit.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::naming::{culprit_of, merge};
use super::profile::put_down;
use super::release::holder;
use crate::failure::{Failure, Kind};
use crate::model::{Census, Frame, PollTime, Record, ReleasedBy, SlowPoll, WeightedStack};
use crate::stacks::symbolize::{Frames, Symbolizer};
use crate::target::debug_files::{DebugFile, DebugFiles};
use crate::target::elf::{self, BuildId};

/// Addresses remembered before everything is forgotten.
const MAX_REMEMBERED: usize = 1 << 17;

/// A module's name and build-id.
type ModuleKey = (Arc<str>, Option<Arc<str>>);

/// Names the frames of one recording.
pub struct LateNames {
    symbolizer: Symbolizer,
    /// The file for the executable, if the user gave one.
    twin: Option<DebugFile>,
    debug_files: DebugFiles,
    /// File name of the recorded executable.
    executable: String,
    /// For each module, by name and build-id, the file to look into.
    files: HashMap<ModuleKey, Option<DebugFile>>,
    known: HashMap<Arc<Frame>, Frames>,
    named: u64,
    /// What the user should know, a line each.
    notes: Vec<String>,
}

impl LateNames {
    /// Takes the executable's symbols from `twin`, and all others' from debug files.
    pub fn new(twin: Option<DebugFile>, debug_files: DebugFiles) -> LateNames {
        LateNames {
            symbolizer: Symbolizer::new(),
            twin,
            debug_files,
            executable: String::new(),
            files: HashMap::new(),
            known: HashMap::new(),
            named: 0,
            notes: Vec::new(),
        }
    }

    /// The record with all the names there are.
    ///
    /// # Errors
    /// When the twin is of another build than the recorded executable.
    pub fn name(&mut self, record: Record) -> Result<Record, Failure> {
        Ok(match record {
            Record::Header(header) => {
                self.executable = file_name(&header.executable).to_owned();
                Record::Header(header)
            }
            Record::SlowPoll(poll) => Record::SlowPoll(self.poll(poll)?),
            Record::Running(poll) => Record::Running(self.poll(poll)?),
            Record::PollTime(time) => Record::PollTime(self.poll_time(time)?),
            Record::Census(census) => Record::Census(self.census(census)?),
            other => other,
        })
    }

    /// What to tell the user once the trace is read, a line each.
    pub fn notes(mut self) -> Vec<String> {
        if let Some(twin) = self.twin.filter(|_| self.named == 0) {
            self.notes.push(format!(
                "{} named nothing: every frame of {} has its name already, or is not in that file",
                twin.path.display(),
                self.executable
            ));
        }
        self.notes
    }

    fn poll(&mut self, poll: Arc<SlowPoll>) -> Result<Arc<SlowPoll>, Failure> {
        let before = self.named;
        let stacks = self.stacks(poll.stacks.iter())?;
        let released_by = match &poll.released_by {
            Some(by) => {
                let frames = self.stack(&by.frames)?;
                let culprit = holder(&frames).unwrap_or_else(|| by.culprit.clone());
                Some(Arc::new(ReleasedBy {
                    culprit,
                    frames,
                    ..ReleasedBy::clone(by)
                }))
            }
            None => None,
        };
        if self.named == before {
            return Ok(poll);
        }
        Ok(Arc::new(SlowPoll {
            culprit: culprit_of(&stacks, poll.cause),
            stacks,
            released_by,
            ..SlowPoll::clone(&poll)
        }))
    }

    fn poll_time(&mut self, time: Arc<PollTime>) -> Result<Arc<PollTime>, Failure> {
        let before = self.named;
        let stacks = self.stacks(time.stacks.iter().map(|profiled| &profiled.stack))?;
        if self.named == before {
            return Ok(time);
        }
        Ok(Arc::new(PollTime {
            stacks: stacks.into_iter().map(put_down).collect(),
            ..PollTime::clone(&time)
        }))
    }

    /// Its words stay as they were found: they rest on states more than on names.
    fn census(&mut self, census: Arc<Census>) -> Result<Arc<Census>, Failure> {
        let mut named = Census::clone(&census);
        for thread in &mut named.threads {
            thread.frames = self.stack(&thread.frames)?;
        }
        Ok(Arc::new(named))
    }

    /// The stacks with names where there are any, merged anew.
    fn stacks<'a>(
        &mut self,
        stacks: impl Iterator<Item = &'a WeightedStack>,
    ) -> Result<Vec<WeightedStack>, Failure> {
        let mut named = Vec::new();
        for stack in stacks {
            let mut stack = stack.clone();
            stack.frames = self.stack(&stack.frames)?;
            named.push(stack);
        }
        Ok(merge(named.into_iter()))
    }

    /// The stack with names where there are any.
    fn stack(&mut self, frames: &[Arc<Frame>]) -> Result<Vec<Arc<Frame>>, Failure> {
        let mut named = Vec::with_capacity(frames.len());
        for frame in frames {
            if frame.address.is_none() {
                named.push(Arc::clone(frame));
                continue;
            }
            let found = self.frames(frame)?;
            // An address stays what it is if nothing covers it.
            self.named += u64::from(found.iter().all(|frame| frame.address.is_none()));
            named.extend(found.iter().map(|found| match frame.uncertain {
                true => Arc::new(Frame {
                    uncertain: true,
                    ..Frame::clone(found)
                }),
                false => Arc::clone(found),
            }));
        }
        Ok(named)
    }

    /// All frames that a frame without a name stands for.
    fn frames(&mut self, frame: &Arc<Frame>) -> Result<Frames, Failure> {
        if let Some(known) = self.known.get(frame) {
            return Ok(Arc::clone(known));
        }
        let unnamed: Frames = [Arc::clone(frame)].into();
        let (Some(module), Some(at)) = (&frame.module, &frame.address) else {
            return Ok(unnamed);
        };
        let file = self.file(module, at.build_id.as_ref())?;
        let found = file.and_then(|file| {
            let found = self
                .symbolizer
                .of_files(Some(&file), None, module, &[at.address]);
            found.into_iter().next().flatten()
        });
        let frames = found.unwrap_or(unnamed);
        if self.known.len() >= MAX_REMEMBERED {
            self.known.clear();
        }
        self.known.insert(Arc::clone(frame), Arc::clone(&frames));
        Ok(frames)
    }

    /// The file with a module's symbols.
    fn file(
        &mut self,
        module: &Arc<str>,
        build_id: Option<&Arc<str>>,
    ) -> Result<Option<DebugFile>, Failure> {
        let key = (Arc::clone(module), build_id.cloned());
        if let Some(known) = self.files.get(&key) {
            return Ok(known.clone());
        }
        let is_main = **module == *self.executable;
        let twin = self.twin.clone().filter(|_| is_main);
        let file = match (twin, build_id) {
            (Some(twin), _) => {
                self.check(&twin, build_id)?;
                Some(twin)
            }
            (None, Some(id)) => id.parse().ok().and_then(|id| {
                let mut say = |what: &str| self.notes.push(what.to_owned());
                self.debug_files.of_build(&id, module, &mut say)
            }),
            (None, None) => None,
        };
        if let Some(file) = file.as_ref().filter(|_| is_main) {
            self.symbolizer.learn_origins(&file.file, module);
        }
        self.files.insert(key, file.clone());
        Ok(file)
    }

    /// Refuses a twin of another build.
    fn check(&mut self, twin: &DebugFile, recorded: Option<&Arc<str>>) -> Result<(), Failure> {
        let path = twin.path.display();
        let given = elf::build_id(&twin.file);
        let Some(recorded) = recorded else {
            self.notes.push(format!(
                "the recorded {} has no build-id: that {path} is the same build is taken on trust",
                self.executable
            ));
            return Ok(());
        };
        if given.is_some() && recorded.parse::<BuildId>().ok() == given {
            return Ok(());
        }
        let given = given.map_or("no build-id".to_owned(), |id| format!("build-id {id}"));
        let what = format!(
            "{path} is another build than the recorded {}: {given}, and the recording has {recorded}",
            self.executable
        );
        let hint = "give --symbols the unstripped file of the very build that was recorded";
        Err(Failure::new(Kind::Failed, what).hint(hint))
    }
}

/// The file name of an executable's path as the kernel has it.
fn file_name(path: &str) -> &str {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let name = Path::new(path).file_name().and_then(|name| name.to_str());
    name.unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CensusThread, CodeAddress, Duty, Header, ThreadWait};
    use crate::session::testing as t;
    use crate::target::modules::ModuleMap;

    #[inline(never)]
    fn a_function_that_was_recorded() -> u64 {
        a_function_that_was_recorded as *const () as u64 + 1
    }

    /// A recorded poll of this very program whose leaf has no name, and the frame it should have.
    fn recorded(build_id: Option<&str>) -> ([Record; 2], Arc<Frame>) {
        let modules = ModuleMap::read(std::process::id()).unwrap();
        let address = a_function_that_was_recorded();
        let live = Symbolizer::new().frames(&modules, &[address]).remove(0);
        let (module, svma) = modules.find(address).unwrap();
        let unnamed = Arc::new(Frame {
            function: format!("{}+{svma:#x}", module.name).into(),
            raw: None,
            location: None,
            origin: crate::model::Origin::Unknown,
            address: Some(CodeAddress {
                address: svma,
                build_id: build_id.map(Arc::from),
            }),
            ..Frame::clone(&live)
        });
        let Record::Header(header) = t::header() else {
            panic!("not a header");
        };
        let header = Header {
            executable: format!("{} (deleted)", module.path.display()),
            ..*header
        };
        let mut poll = t::poll(0, 0, 10, crate::model::Cause::Cpu, "x", "y");
        // Twice, as two stacks that were told apart by nothing but their addresses.
        let mut stack = poll.stacks[0].clone();
        stack.frames = vec![unnamed.clone()];
        poll.released_by = t::released(poll.clone(), 7, "x").released_by.map(|by| {
            Arc::new(ReleasedBy {
                frames: vec![unnamed],
                ..ReleasedBy::clone(&by)
            })
        });
        poll.stacks = vec![stack.clone(), stack];
        let records = [
            Record::Header(Box::new(header)),
            Record::SlowPoll(Arc::new(poll)),
        ];
        (records, live)
    }

    fn own_build_id() -> String {
        let own = std::fs::File::open("/proc/self/exe").unwrap();
        elf::build_id(&own).unwrap().to_string()
    }

    fn name(records: [Record; 2], twin: &str) -> Result<(Arc<SlowPoll>, Vec<String>), Failure> {
        let twin = DebugFile::open(twin.as_ref()).unwrap();
        let mut names = LateNames::new(Some(twin), DebugFiles::default());
        let [header, poll] = records;
        names.name(header)?;
        let Record::SlowPoll(poll) = names.name(poll)? else {
            panic!("not a poll");
        };
        Ok((poll, names.notes()))
    }

    #[test]
    fn a_frame_gets_the_name_that_a_live_session_gives_it() {
        let (records, live) = recorded(Some(&own_build_id()));
        let (poll, notes) = name(records, "/proc/self/exe").unwrap();
        assert_eq!(poll.stacks.len(), 1, "one stack, now that names are known");
        assert_eq!(poll.stacks[0].frames, std::slice::from_ref(&live));
        assert_eq!(poll.culprit.function, live.function);
        assert_eq!(poll.culprit.location, live.location);
        let by = poll.released_by.as_ref().unwrap();
        assert_eq!(by.culprit.function, live.function);
        assert_eq!(by.frames, std::slice::from_ref(&live));
        assert_eq!(notes, Vec::<String>::new());
    }

    #[test]
    fn all_poll_time_gets_names_and_culprits_too() {
        let ([header, poll], live) = recorded(Some(&own_build_id()));
        let Record::SlowPoll(poll) = poll else {
            panic!("not a poll");
        };
        let mut time = t::poll_time(0, 1000, &[]);
        time.stacks = poll.stacks.iter().cloned().map(put_down).collect();
        let twin = DebugFile::open("/proc/self/exe".as_ref()).unwrap();
        let mut names = LateNames::new(Some(twin), DebugFiles::default());
        names.name(header).unwrap();
        let named = names.name(Record::PollTime(time.clone().into())).unwrap();
        let Record::PollTime(named) = named else {
            panic!("not poll time");
        };
        assert_eq!((time.stacks.len(), named.stacks.len()), (2, 1));
        assert_eq!(named.stacks[0].function, live.function);
        assert_eq!(named.on_cpu_ns(), time.on_cpu_ns());
    }

    #[test]
    fn a_census_is_named_as_well() {
        let ([header, poll], live) = recorded(Some(&own_build_id()));
        let Record::SlowPoll(poll) = poll else {
            panic!("not a poll");
        };
        let thread = CensusThread {
            tid: 7,
            name: "keeper".into(),
            wait: ThreadWait::Running,
            duty: Duty::Other,
            frames: poll.stacks[0].frames.clone(),
            complete: true,
        };
        let census = Census {
            at_ns: 0,
            words: Vec::new(),
            threads: vec![thread],
        };
        let twin = DebugFile::open("/proc/self/exe".as_ref()).unwrap();
        let mut names = LateNames::new(Some(twin), DebugFiles::default());
        names.name(header).unwrap();
        let Record::Census(named) = names.name(Record::Census(Arc::new(census))).unwrap() else {
            panic!("not a census");
        };
        assert_eq!(named.threads[0].frames, [live]);
    }

    #[test]
    fn another_build_is_refused_with_both_ids() {
        let (records, _) = recorded(Some("0123abcd"));
        let failure = name(records, "/proc/self/exe").unwrap_err();
        assert!(failure.what.contains("0123abcd"), "{failure}");
        assert!(failure.what.contains(&own_build_id()), "{failure}");
    }

    #[test]
    fn what_cannot_be_checked_or_names_nothing_is_said() {
        let (records, live) = recorded(None);
        let (poll, notes) = name(records, "/proc/self/exe").unwrap();
        assert_eq!(poll.culprit.function, live.function);
        assert!(notes[0].contains("taken on trust"), "{notes:?}");
        let named = [t::header(), Record::SlowPoll(poll)];
        let (_, notes) = name(named, "/proc/self/exe").unwrap();
        assert!(notes[0].contains("named nothing"), "{notes:?}");
    }
}
