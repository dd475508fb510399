//! What came of one cell of the matrix, or of several together, as the figures of a table.

use hud::model::Tier;

use crate::compare::Verdict;

/// Counts over one run or several.
#[derive(Default)]
pub struct Tally {
    pub tier: Option<Tier>,
    /// Blocks of at least twice the threshold, and how many of them were missed.
    blocks: usize,
    missed: usize,
    findings: usize,
    false_findings: usize,
    wrong_cause: usize,
    wrong_function: usize,
    /// As shares of the true durations.
    duration_errors: Vec<f64>,
    /// Findings in programs in which nothing blocks.
    healthy_findings: usize,
    healthy_runs: usize,
}

impl Tally {
    /// Adds a run of a program that blocks, or of one that does not.
    pub fn add(&mut self, tier: Tier, verdict: &Verdict, blocks: bool) {
        // The worst tier is the one to show.
        self.tier = self.tier.max(Some(tier));
        if !blocks {
            self.healthy_runs += 1;
            self.healthy_findings += verdict.false_findings.len();
            return;
        }
        self.blocks += verdict.blocks;
        self.missed += verdict.missed.len();
        self.findings += verdict.findings;
        self.false_findings += verdict.false_findings.len();
        self.wrong_cause += verdict.wrong_cause.len();
        self.wrong_function += verdict.wrong_function.len();
        self.duration_errors.extend(&verdict.duration_errors);
    }

    pub fn merge(&mut self, other: &Tally) {
        self.tier = self.tier.max(other.tier);
        self.blocks += other.blocks;
        self.missed += other.missed;
        self.findings += other.findings;
        self.false_findings += other.false_findings;
        self.wrong_cause += other.wrong_cause;
        self.wrong_function += other.wrong_function;
        self.duration_errors.extend(&other.duration_errors);
        self.healthy_findings += other.healthy_findings;
        self.healthy_runs += other.healthy_runs;
    }

    /// What is not as good as it should be, a phrase each.
    pub fn below_goals(&self) -> Vec<String> {
        let goals = Goals::of(self.tier.unwrap_or(Tier::Scheduler));
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
        below
    }

    /// The cells of a row, in the order of [`COLUMNS`].
    pub fn cells(&self) -> Vec<String> {
        let found = self.blocks - self.missed;
        let tier = self
            .tier
            .map_or(String::new(), |tier| tier.number().to_string());
        let healthy = match self.healthy_runs {
            0 => String::new(),
            _ => self.healthy_findings.to_string(),
        };
        vec![
            tier,
            if self.blocks == 0 {
                String::new()
            } else {
                self.blocks.to_string()
            },
            share(found, self.blocks),
            share(self.findings - self.false_findings, self.findings),
            share(found - self.wrong_cause.min(found), found),
            share(found - self.wrong_function.min(found), found),
            percent(quantile(&self.duration_errors, 0.5)),
            percent(quantile(&self.duration_errors, 0.95)),
            healthy,
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

/// What [`Tally::cells`] are.
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
