//! Counts what test programs print.

use std::fmt;

/// Results of test programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) skipped: usize,
    /// The program that began and has not said its result.
    open: Option<Open>,
}

/// What a program said before its result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Open {
    /// Tests that it has not told the end of.
    left: usize,
    passed: usize,
    failed: usize,
    skipped: usize,
    /// Those of which it said that they run for long, or that they began.
    begun: Vec<String>,
}

impl Count {
    /// Takes one line of output.
    pub(super) fn see(&mut self, line: &str) {
        let line = line.trim_end();
        if let Some(tests) = beginning(line) {
            // The one before was killed: it never said how it ended.
            self.close();
            self.open = Some(Open { left: tests, ..Open::default() });
        } else if let Some(result) = line.strip_prefix("test result: ") {
            self.passed += number_before(result, " passed");
            self.failed += number_before(result, " failed");
            self.skipped += number_before(result, " ignored");
            self.open = None;
        } else if let (Some(open), Some(test)) = (&mut self.open, line.strip_prefix("test ")) {
            open.see(test);
        }
    }

    /// The program is over. One that failed without a failed test did not build, or died.
    pub(super) fn ended(mut self, succeeded: bool) -> Count {
        self.close();
        if !succeeded && self.failed == 0 {
            self.failed = 1;
        }
        self
    }

    /// Tests that began and did not end, as far as the program told their names.
    pub(super) fn hung(&self) -> impl Iterator<Item = &str> {
        self.open.iter().flat_map(|open| open.begun.iter().map(String::as_str))
    }

    /// Both together.
    pub(super) fn plus(self, other: &Count) -> Count {
        Count {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
            open: None,
        }
    }

    /// Takes tests that left as skipped out of those that passed, where the test program counts them.
    pub(super) fn with_skips(mut self, skips: usize) -> Count {
        self.passed = self.passed.saturating_sub(skips);
        self.skipped += skips;
        self
    }

    /// A program that began and said no result has failed, with every test whose end it did not tell.
    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        self.passed += open.passed;
        self.failed += (open.failed + open.left).max(1);
        self.skipped += open.skipped;
    }
}

impl Open {
    /// `name ... ok`, `name ... `, `name has been running for over 60 seconds`.
    fn see(&mut self, test: &str) {
        if let Some((name, end)) = test.split_once(" ...") {
            self.begun.retain(|begun| begun != name);
            match end.trim_start() {
                "" => return self.begun.push(name.into()),
                end if end.starts_with("ok") => self.passed += 1,
                end if end.starts_with("ignored") => self.skipped += 1,
                _ => self.failed += 1,
            }
            self.left = self.left.saturating_sub(1);
        } else if let Some((name, _)) = test.split_once(" has been running for over") {
            self.begun.push(name.into());
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// How many tests a program says that it is about to run.
fn beginning(line: &str) -> Option<usize> {
    let tests = line.strip_prefix("running ")?;
    tests.strip_suffix(" tests").or_else(|| tests.strip_suffix(" test"))?.parse().ok()
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
            "running 16 tests\n",
            "test a ... ok\n",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s\n",
            "running 5 tests\n",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n",
        ];
        let count = count(&lines, false).with_skips(4);
        assert_eq!(count.to_string(), "11 passed, 2 failed, 5 skipped");
    }

    #[test]
    fn a_program_that_was_killed_fails_with_every_test_that_it_did_not_end() {
        let killed = ["running 5 tests\n", "test a ... ok\n", "test b ... FAILED\n", "test c ... ignored\n"];
        let other = ["running 1 test\n", "test result: ok. 1 passed; 0 failed; 0 ignored\n"];
        assert_eq!(count(&killed, false).to_string(), "1 passed, 3 failed, 1 skipped");
        let both: Vec<&str> = killed.iter().chain(&other).copied().collect();
        assert_eq!(count(&both, false).to_string(), "2 passed, 3 failed, 1 skipped");
        assert_eq!(count(&["running 1 test\n", "test a ... ok\n"], false).failed, 1);
    }

    #[test]
    fn a_test_that_began_and_did_not_end_is_known_by_name() {
        let mut count = Count::default();
        for line in [
            "running 4 tests\n",
            "test slow has been running for over 60 seconds\n",
            "test stuck has been running for over 60 seconds\n",
            "test slow ... ok\n",
            "test last ... ",
        ] {
            count.see(line);
        }
        assert_eq!(count.hung().collect::<Vec<_>>(), ["stuck", "last"]);
    }

    #[test]
    fn what_does_not_build_counts_as_failed() {
        assert_eq!(count(&["error: could not compile\n"], false).failed, 1);
        assert_eq!(count(&[], true).failed, 0);
    }
}
