//! Counts what `cargo test` prints.

use std::fmt;

/// Results of test programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) skipped: usize,
    /// Test programs that began and did not end with a result line; 0 or 1 at any moment of a run.
    open: usize,
}

impl Count {
    /// Takes one line of output.
    pub(super) fn see(&mut self, line: &str) {
        let line = line.trim_end();
        if is_beginning(line) {
            // The one before was killed: it never said how it ended.
            self.failed += self.open;
            self.open = 1;
        } else if let Some(result) = line.strip_prefix("test result: ") {
            self.passed += number_before(result, " passed");
            self.failed += number_before(result, " failed");
            self.skipped += number_before(result, " ignored");
            self.open = 0;
        }
    }

    /// The run is over. A cargo that failed without a failed test did not build.
    pub(super) fn ended(mut self, succeeded: bool) -> Count {
        self.failed += self.open;
        self.open = 0;
        if !succeeded && self.failed == 0 {
            self.failed = 1;
        }
        self
    }

    /// Both together.
    pub(super) fn plus(self, other: Count) -> Count {
        Count {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
            open: 0,
        }
    }

    /// Takes tests that left as skipped out of those that passed, where the test program counts them.
    pub(super) fn with_skips(mut self, skips: usize) -> Count {
        self.passed = self.passed.saturating_sub(skips);
        self.skipped += skips;
        self
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Whether cargo says that it starts a test program.
fn is_beginning(line: &str) -> bool {
    line.starts_with("     Running ") || line.starts_with("   Doc-tests ")
}

/// The number that stands before `what`.
fn number_before(text: &str, what: &str) -> usize {
    let Some(before) = text.find(what).map(|at| &text[..at]) else { return 0 };
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(lines: &[&str], succeeded: bool) -> Count {
        let mut count = Count::default();
        lines.iter().for_each(|line| count.see(line));
        count.ended(succeeded)
    }

    #[test]
    fn results_of_all_programs_add_up() {
        let lines = [
            "     Running unittests src/lib.rs (x)\n",
            "test a ... ok\n",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s\n",
            "   Doc-tests x\n",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n",
        ];
        let count = count(&lines, false).with_skips(4);
        assert_eq!(count.to_string(), "11 passed, 2 failed, 5 skipped");
    }

    #[test]
    fn a_program_that_was_killed_counts_as_failed() {
        let lines =
            ["     Running a\n", "     Running b\n", "test result: ok. 1 passed; 0 failed; 0 ignored\n"];
        assert_eq!(count(&lines, false).to_string(), "1 passed, 1 failed, 0 skipped");
        assert_eq!(count(&["     Running a\n"], false).to_string(), "0 passed, 1 failed, 0 skipped");
    }

    #[test]
    fn what_does_not_build_counts_as_failed() {
        assert_eq!(count(&["error: could not compile\n"], false).failed, 1);
        assert_eq!(count(&[], true).failed, 0);
    }
}
