//! What the standard test harness does, for tests that are made at run time: names, a filter, one line for each, a count.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

/// The part of the standard harness's command line that this one understands; it takes the rest and leaves it.
#[derive(Clone, Debug)]
pub(crate) struct Arguments {
    filters: Vec<String>,
    exact: bool,
    terse: bool,
    ignored: bool,
    pub(crate) list: bool,
    pub(crate) threads: usize,
}

impl Arguments {
    pub(crate) fn read() -> Arguments {
        let mut read = Arguments {
            filters: Vec::new(),
            exact: false,
            terse: false,
            ignored: false,
            list: false,
            threads: 2,
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.split_once('=').unwrap_or((&word, "")) {
                ("--list", _) => read.list = true,
                ("--exact", _) => read.exact = true,
                ("--ignored", _) => read.ignored = true,
                ("--format", "terse") => read.terse = true,
                ("--format", "") => read.terse = words.next().as_deref() == Some("terse"),
                ("--test-threads", "") => {
                    read.threads = words.next().and_then(|n| n.parse().ok()).unwrap_or(2);
                }
                ("--test-threads", n) => read.threads = n.parse().unwrap_or(2),
                (option, _) if option.starts_with('-') => {}
                _ => read.filters.push(word),
            }
        }
        read
    }

    pub(crate) fn wants(&self, name: &str) -> bool {
        let is = |filter: &String| if self.exact { name == filter } else { name.contains(filter.as_str()) };
        !self.ignored && (self.filters.is_empty() || self.filters.iter().any(is))
    }

    pub(crate) fn list(&self, names: &[String]) {
        let wanted = names.iter().filter(|name| self.wants(name));
        let count = wanted.map(|name| println!("{name}: test")).count();
        if !self.terse {
            println!("\n{count} tests, 0 benchmarks");
        }
    }
}

/// How a test ended: with a remark, or with what is wrong.
pub(crate) type End = Result<Option<String>, String>;

/// Tells how each test ended, as they end, and counts.
pub(crate) struct Harness {
    begun: Instant,
    tests: BTreeSet<String>,
    ends: Mutex<Ends>,
}

#[derive(Default)]
struct Ends {
    passed: usize,
    failed: Vec<(String, String)>,
}

impl Harness {
    pub(crate) fn begin(tests: Vec<String>) -> Harness {
        println!("\nrunning {} tests", tests.len());
        Harness { begun: Instant::now(), tests: tests.into_iter().collect(), ends: Mutex::default() }
    }

    pub(crate) fn wants(&self, name: &str) -> bool {
        self.tests.contains(name)
    }

    pub(crate) fn tell(&self, name: &str, end: End) {
        let mut ends = self.ends.lock().expect("no teller panics");
        match &end {
            Ok(None) => println!("test {name} ... ok"),
            Ok(Some(remark)) => println!("test {name} ... ok ({remark})"),
            Err(_) => println!("test {name} ... FAILED"),
        }
        // Whoever counts them sees them as they come.
        let _ = std::io::stdout().flush();
        match end {
            Ok(_) => ends.passed += 1,
            Err(why) => ends.failed.push((name.to_owned(), why)),
        }
    }

    pub(crate) fn end(self) -> ExitCode {
        let ends = self.ends.into_inner().expect("no teller panics");
        if !ends.failed.is_empty() {
            println!("\nfailures:\n");
            ends.failed.iter().for_each(|(name, why)| println!("---- {name} ----\n{why}\n"));
        }
        let (word, failed) = (if ends.failed.is_empty() { "ok" } else { "FAILED" }, ends.failed.len());
        println!(
            "\ntest result: {word}. {} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out; finished in {:.2}s\n",
            ends.passed,
            self.begun.elapsed().as_secs_f64()
        );
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(101) }
    }
}
