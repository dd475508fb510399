//! Versions of Tokio that keep their state in other places.

use hud::model::Tier;
use testing::compare::Expect;
use testing::fixtures::{self, Build, Fixture};
use testing::run::Run;

const fn tokio(name: &'static str, version: &'static str) -> Fixture<'static> {
    Fixture {
        name,
        tokio: version,
        dependencies: "",
        profile: "",
        rustflags: "",
    }
}

pub const TOKIO_1_44: Fixture<'static> = tokio("tokio-1-44", "=1.44.2");

/// The scenario must be watched in this tier.
fn check(build: &Build, scenario: &str, tier: Tier, expect: Expect) {
    let run = Run::new(build, scenario).check(&expect);
    assert_eq!(run.tier(), tier, "{}", run.title);
}

/// Without task ids, with the budget in a thread-local of its own.
#[test]
fn tokio_1_20() {
    let build = fixtures::build(&fixtures::OLDEST);
    check(&build, "lock", Tier::VersionTable, Expect::blocking());
    let stripped = fixtures::stripped(&build);
    let unnamed = Expect::blocking().without_symbols();
    check(&stripped, "lock", Tier::Learnt, unnamed);
}

/// With task ids; each flavor's scheduler still has a thread-local of its own.
#[test]
fn tokio_1_28() {
    let build = fixtures::build(&tokio("tokio-1-28", "=1.28.2"));
    let stripped = fixtures::stripped(&build);
    for scenario in ["sleep", "nested_runtime"] {
        check(&build, scenario, Tier::VersionTable, Expect::blocking());
    }
    let unnamed = Expect::blocking().without_symbols();
    check(&stripped, "lock", Tier::Scan, unnamed);
    check(&stripped, "block_in_place", Tier::Scan, Expect::nothing());
}
