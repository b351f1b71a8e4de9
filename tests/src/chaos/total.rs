//! Several runs together.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Summary;

/// What several runs were, taken together.
#[derive(Clone, Debug, Default)]
pub struct Total {
    runs: u64,
    failed: Vec<String>,
    sum: Summary,
}

impl Total {
    /// One more run.
    pub fn add(&mut self, title: &str, run: &Summary) {
        self.runs += 1;
        let sum = &mut self.sum;
        sum.operations += run.operations;
        sum.refused += run.refused;
        sum.programs += run.programs;
        sum.faults += run.faults;
        sum.kills += run.kills;
        sum.rounds += run.rounds;
        merge(&mut sum.by_kind, &run.by_kind);
        merge(&mut sum.beginnings, &run.beginnings);
        self.failed.extend(run.failure.is_some().then(|| title.to_owned()));
    }

    /// Runs so far.
    pub fn runs(&self) -> u64 {
        self.runs
    }

    /// As one line of JSON.
    pub fn json(&self) -> Value {
        json!({
            "total": true,
            "runs": self.runs,
            "operations": self.sum.operations,
            "refused": self.sum.refused,
            "programs": self.sum.programs,
            "faults": self.sum.faults,
            "kills": self.sum.kills,
            "rounds": self.sum.rounds,
            "by_kind": self.sum.by_kind,
            "beginnings": self.sum.beginnings,
            "failed": self.failed,
        })
    }
}

impl std::fmt::Display for Total {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Summary { operations, programs, faults, kills, rounds, .. } = self.sum;
        write!(
            f,
            "{} runs: {operations} operations, {programs} programs, {faults} faults ({kills} kills), {rounds} rounds; ",
            self.runs
        )?;
        match self.failed.len() {
            0 => write!(f, "nothing differed"),
            failed => write!(f, "{failed} FAILED: {}", self.failed.join("; ")),
        }
    }
}

fn merge<K: Ord + Clone>(into: &mut BTreeMap<K, u64>, from: &BTreeMap<K, u64>) {
    from.iter().for_each(|(kind, count)| *into.entry(kind.clone()).or_default() += count);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_add_up_and_a_failed_one_is_named() {
        let run = |faults, failure: Option<&str>| Summary {
            operations: 10,
            faults,
            kills: 1,
            by_kind: [("cut", faults)].into(),
            failure: failure.map(str::to_owned),
            ..Summary::default()
        };
        let mut total = Total::default();
        total.add("on ext4", &run(2, None));
        assert!(total.to_string().contains("nothing differed"), "{total}");
        total.add("on xfs", &run(3, Some("it differs")));
        let json = total.json();
        assert_eq!(
            (&json["operations"], &json["faults"], &json["kills"]),
            (&json!(20), &json!(5), &json!(2))
        );
        assert_eq!((&json["by_kind"]["cut"], &json["failed"]), (&json!(5), &json!(["on xfs"])));
        assert!(total.to_string().contains("1 FAILED: on xfs"), "{total}");
    }
}
