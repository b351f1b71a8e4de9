//! What tests draw at random from: the same in every run, so that a change is judged by what it does. New seeds are for
//! `cargo xtask chaos` and `fuzz`, and for whoever sets `EBBTIDE_SEED`: to a number, or to `random` for new ones.

use std::process::Command;

/// A test that failed once with this seed.
pub(super) struct Failed {
    /// Source file of its program, below the top of the source tree.
    pub(super) program: &'static str,
    pub(super) test: &'static str,
    pub(super) seed: u64,
}

/// Done again in every run. A seed that fails is added with the change that mends it, unless that brings a test which
/// does the same without chance.
pub(super) const FAILED: &[Failed] = &[];

/// What is drawn from without `EBBTIDE_SEED`.
const USUAL: &str = "1";

/// The seed of this run; `None` where each test takes a new one, and prints it.
pub(super) fn of_this_run() -> Option<String> {
    chosen(std::env::var(VARIABLE).ok())
}

fn chosen(given: Option<String>) -> Option<String> {
    let seed = given.unwrap_or_else(|| USUAL.to_owned());
    (seed != "random").then_some(seed)
}

/// Lets a test program draw from this seed.
pub(super) fn set(command: &mut Command, seed: Option<&str>) {
    for variable in [VARIABLE, PROPTEST] {
        match seed {
            Some(seed) => command.env(variable, seed),
            None => command.env_remove(variable),
        };
    }
}

const VARIABLE: &str = "EBBTIDE_SEED";
const PROPTEST: &str = "PROPTEST_RNG_SEED";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_the_usual_one_unless_another_or_a_new_one_is_asked_for() {
        assert_eq!(chosen(None).as_deref(), Some(USUAL));
        assert_eq!(chosen(Some("7".into())).as_deref(), Some("7"));
        assert_eq!(chosen(Some("random".into())), None);
    }

    #[test]
    fn each_seed_that_failed_is_of_a_test_that_is_there() {
        for Failed { program, test, seed } in FAILED {
            let text = std::fs::read_to_string(crate::world::top().join(program)).unwrap();
            assert!(text.contains(&format!("fn {test}()")), "{program}: {test}, seed {seed}");
        }
    }
}
