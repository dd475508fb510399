//! The texts of `hud -h`, `hud --help` and `hud --version` beside the descriptions of the options.

/// What `hud --version` prints after the name.
pub const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit:   ",
    env!("HUD_COMMIT"),
    "\ntarget:   ",
    env!("HUD_TARGET"),
    "\nfeatures: ",
    env!("HUD_FEATURES"),
);

/// Ends `hud -h`, which has to fit one screen.
pub const SHORT: &str = "\
In the interactive view, ? explains the screen and q quits.
hud --help: all options, examples, environment variables and exit codes";

/// Ends `hud --help`.
pub const LONG: &str = "\
Examples:
  hud                                     list the Tokio processes, and choose one
  hud my-app                              watch the process of that name
  hud ./target/release/my-app             watch the process that runs this file
  hud --pid 1234 --symbols ./my-app       take the symbols from an unstripped build
  hud my-app --debug-dir ./symbols        or from a directory of debug files
  hud my-app --container-pid 1            the one that is PID 1 in its container
  hud my-app --census --duration 2s       it hangs: print every thread with its stack
  hud my-app --headless --duration 30s    print findings for 30 seconds, then a summary
  hud my-app --export trace.json          record a trace while watching
  hud my-app --headless --all-poll-time   also where all poll time goes, slow or not
  hud --replay trace.json                 look at a recorded trace
  hud --replay trace.json --symbols ./my-app
                                          name the functions of a stripped program
  hud trace.json --headless               print the report of a recorded trace
  hud trace.json --from 14:03 --to 14:05 --export part.json
                                          cut two minutes out of it

Durations:
  A number with a unit: 500us, 5ms, 30s, 2min, 1h, 1m30s. A plain number keeps the unit that the
  option names.

Choosing a threshold:
  Tokio schedules tasks cooperatively: while a worker thread polls one task it runs no other. A
  poll should take 10 to 100 us; when it takes more than 1 ms other tasks notice.
    --threshold 1ms     services with tail latencies of a few milliseconds
    --threshold 5ms     the default: what is slow in any service
    --threshold 20ms    only the worst
  A lower threshold also samples the CPUs more often: 250 times a second at 5 ms, 1000 at 1 ms and
  below. Polls that compute are found reliably from twice the threshold on, and never below 1 ms.

Tracking tiers:
  hud reads Tokio's own state in the process's memory to tell which poll a worker is in. How it
  knows where that state lies is shown as a tier.
    1  from the program's debug info
    2  from a table of Tokio versions, checked on the live threads
    3  found in the memory of the live threads: for stripped programs and unusual builds
    4  the state could not be read: polls are told apart by the workers' stacks. Needs function
       names, and x86_64. Task ids are not known, polls that do not sleep can be missed, and several
       short polls in a row may count as one
    5  polls cannot be observed: hud reports only how busy the threads are. To see polls, build with
       debug = true, or give hud the program's symbols: --symbols, --debug-dir or --debuginfod

Environment variables:
  DEBUGINFOD_URLS         servers that --debuginfod asks, separated by spaces
  DEBUGINFOD_CACHE_PATH   directory for the debug info that they send; if not set, debuginfod_client
                          in XDG_CACHE_HOME, or in .cache in HOME
  DEBUGINFOD_TIMEOUT      seconds to wait for such a server
  HTTPS_PROXY, ALL_PROXY, NO_PROXY
                          proxy for those requests
  RUST_LOG                log to standard error; RUST_LOG=debug also prints the BPF verifier's log
  NO_COLOR                if set, no colours
  CLICOLOR, CLICOLOR_FORCE
                          colours of the report: CLICOLOR=0 turns them off, CLICOLOR_FORCE=1 turns
                          them on, in a pipe as well
  TERM, COLORTERM, COLORFGBG
                          how many colours the terminal has, and whether its background is light
  TERM, TMUX, STY, VTE_VERSION, TERM_PROGRAM
                          whether a copied text reaches the clipboard, or is written to a file

Exit codes:
  0   done
  1   failed
  2   wrong usage
  77  a privilege or permission is missing";
