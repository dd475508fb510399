//! Names given to recorded frames of this very program.

use super::*;
use crate::model::{CensusThread, CodeAddress, Duty, Header, ThreadWait};
use crate::session::testing as t;
use crate::target::elf;
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

fn name(records: [Record; 2], symbols: &str) -> Result<(Arc<SlowPoll>, Vec<String>), Failure> {
    let symbols = DebugFile::open(symbols.as_ref()).unwrap();
    let mut names = LateNames::new(Some(symbols), DebugFiles::default());
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
    time.stacks = poll.stacks.iter().cloned().map(attribute).collect();
    let symbols = DebugFile::open("/proc/self/exe".as_ref()).unwrap();
    let mut names = LateNames::new(Some(symbols), DebugFiles::default());
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
    let symbols = DebugFile::open("/proc/self/exe".as_ref()).unwrap();
    let mut names = LateNames::new(Some(symbols), DebugFiles::default());
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
    assert!(notes[0].contains("cannot check"), "{notes:?}");
    let named = [t::header(), Record::SlowPoll(poll)];
    let (_, notes) = name(named, "/proc/self/exe").unwrap();
    assert!(notes[0].contains("named nothing"), "{notes:?}");
}
