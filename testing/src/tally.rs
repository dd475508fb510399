//! The figures of one cell of the accuracy matrix, or of several together, as cells of a table.

use hud::model::Tier;

use crate::compare::Verdict;

/// Counts over one run or several.
#[derive(Default)]
pub struct Tally {
    /// The worst tier of the runs that block: the one that their shares were reached in.
    blocking_tier: Option<Tier>,
    /// The worst tier of the healthy runs.
    healthy_tier: Option<Tier>,
    /// Blocks of at least twice the threshold, and how many of them were missed.
    blocks: usize,
    missed: usize,
    findings: usize,
    false_findings: usize,
    wrong_cause: usize,
    wrong_function: usize,
    /// As shares of the true durations.
    duration_errors: Vec<f64>,
    healthy_runs: usize,
    /// Findings in programs in which nothing blocks.
    healthy_findings: usize,
    /// Runs in which hud saw no worker or no poll, so that no finding proves nothing.
    blind_runs: usize,
}

impl Tally {
    /// Adds a run of a program that blocks, or of one that does not.
    pub fn add(&mut self, tier: Tier, verdict: &Verdict, blocks: bool) {
        self.blind_runs += usize::from(verdict.blind.is_some());
        if !blocks {
            self.healthy_tier = self.healthy_tier.max(Some(tier));
            self.healthy_runs += 1;
            self.healthy_findings += verdict.false_findings.len();
            return;
        }
        self.blocking_tier = self.blocking_tier.max(Some(tier));
        self.blocks += verdict.blocks;
        self.missed += verdict.missed.len();
        self.findings += verdict.findings;
        self.false_findings += verdict.false_findings.len();
        self.wrong_cause += verdict.wrong_cause.len();
        self.wrong_function += verdict.wrong_function.len();
        self.duration_errors.extend(&verdict.duration_errors);
    }

    pub fn merge(&mut self, other: &Tally) {
        self.blocking_tier = self.blocking_tier.max(other.blocking_tier);
        self.healthy_tier = self.healthy_tier.max(other.healthy_tier);
        self.blocks += other.blocks;
        self.missed += other.missed;
        self.findings += other.findings;
        self.false_findings += other.false_findings;
        self.wrong_cause += other.wrong_cause;
        self.wrong_function += other.wrong_function;
        self.duration_errors.extend(&other.duration_errors);
        self.healthy_runs += other.healthy_runs;
        self.healthy_findings += other.healthy_findings;
        self.blind_runs += other.blind_runs;
    }

    /// Whether no run was added.
    pub fn is_empty(&self) -> bool {
        self.tier().is_none()
    }

    /// The tier that the other figures were reached in: that of the runs that block, if there are any.
    fn tier(&self) -> Option<Tier> {
        self.blocking_tier.or(self.healthy_tier)
    }

    /// What is not as good as it should be, a phrase each.
    pub fn below_goals(&self) -> Vec<String> {
        let goals = Goals::of(self.tier().unwrap_or(Tier::Scheduler));
        let found = self.blocks - self.missed;
        let mut below = Vec::new();
        for (what, of, all, goal) in [
            ("recall", found, self.blocks, goals.recall),
            (
                "precision",
                self.findings - self.false_findings,
                self.findings,
                goals.precision,
            ),
            (
                "cause",
                found - self.wrong_cause.min(found),
                found,
                goals.named,
            ),
            (
                "function",
                found - self.wrong_function.min(found),
                found,
                goals.named,
            ),
        ] {
            if all > 0 && (of as f64) < goal * all as f64 {
                below.push(format!("{what} {}", share(of, all)));
            }
        }
        let error = quantile(&self.duration_errors, 0.5).filter(|e| *e > goals.duration_error);
        if error.is_some() {
            below.push(format!("median duration error {}", percent(error)));
        }
        if self.healthy_findings > 0 {
            below.push(format!("false findings: {}", self.healthy_findings));
        }
        if self.blind_runs > 0 {
            below.push(format!("runs without a poll observed: {}", self.blind_runs));
        }
        below
    }

    /// The cells of a row, in the order of [`COLUMNS`].
    pub fn cells(&self) -> Vec<String> {
        let found = self.blocks - self.missed;
        let count = |all: usize, count: usize| match all {
            0 => String::new(),
            _ => count.to_string(),
        };
        vec![
            self.tier()
                .map_or(String::new(), |tier| tier.number().to_string()),
            count(self.blocks, self.blocks),
            share(found, self.blocks),
            share(self.findings - self.false_findings, self.findings),
            share(found - self.wrong_cause.min(found), found),
            share(found - self.wrong_function.min(found), found),
            percent(quantile(&self.duration_errors, 0.5)),
            percent(quantile(&self.duration_errors, 0.95)),
            count(self.healthy_runs, self.healthy_findings),
        ]
    }
}

/// What hud is meant to reach in every cell: the least shares, and the largest median error.
struct Goals {
    recall: f64,
    precision: f64,
    named: f64,
    duration_error: f64,
}

impl Goals {
    fn of(tier: Tier) -> Goals {
        match tier {
            Tier::Frames | Tier::Scheduler => Goals {
                recall: 0.9,
                precision: 0.95,
                named: 0.0,
                duration_error: f64::INFINITY,
            },
            _ => Goals {
                recall: 0.99,
                precision: 0.99,
                named: 0.99,
                duration_error: 0.01,
            },
        }
    }
}

/// The headings of [`Tally::cells`].
pub const COLUMNS: [&str; 9] = [
    "tier",
    "blocks",
    "recall",
    "precision",
    "cause",
    "function",
    "duration error, median",
    "p95",
    "false findings in healthy programs",
];

fn share(of: usize, all: usize) -> String {
    match all {
        0 => String::new(),
        _ => format!("{:.3}", of as f64 / all as f64),
    }
}

fn percent(share: Option<f64>) -> String {
    share.map_or(String::new(), |share| format!("{:.2} %", 100.0 * share))
}

/// The value that this share of the values does not exceed.
fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    values.get((last as f64 * share).round() as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(blocks: usize, missed: usize) -> Verdict {
        let mut verdict = Verdict::default();
        verdict.blocks = blocks;
        verdict.missed = vec![String::new(); missed];
        verdict
    }

    fn tally(tier: Tier, blocks: usize) -> Tally {
        let mut tally = Tally::default();
        tally.add(tier, &verdict(blocks, 0), blocks > 0);
        tally
    }

    #[test]
    fn the_tier_is_that_of_the_runs_the_shares_come_from() {
        let mut group = tally(Tier::VersionTable, 20);
        group.merge(&tally(Tier::Scheduler, 0));
        assert_eq!(group.cells()[..3], ["2", "20", "1.000"]);
        // In the other order, too; of several that block the worst.
        let mut group = tally(Tier::Scheduler, 0);
        group.merge(&tally(Tier::DebugInfo, 10));
        group.merge(&tally(Tier::Scan, 10));
        assert_eq!(group.cells()[0], "3");
        assert_eq!(tally(Tier::VersionTable, 0).cells()[0], "2");
    }

    #[test]
    fn a_run_in_which_nothing_was_seen_is_below_every_goal() {
        let mut tally = Tally::default();
        let mut verdict = verdict(0, 0);
        verdict.blind = Some("0 workers found".into());
        tally.add(Tier::Scheduler, &verdict, false);
        assert_eq!(tally.below_goals(), ["runs without a poll observed: 1"]);
    }

    #[test]
    fn goals_are_those_of_the_tier() {
        for (tier, missed, below) in [
            (Tier::VersionTable, 1, 0),
            (Tier::VersionTable, 2, 1),
            (Tier::Frames, 10, 0),
            (Tier::Frames, 11, 1),
        ] {
            let mut tally = Tally::default();
            tally.add(tier, &verdict(100, missed), true);
            assert_eq!(tally.below_goals().len(), below, "{tier:?} {missed}");
        }
    }
}
