//! What was seen must be accounted for.

use serde_json::Value;

use crate::Daemon;

/// Expects that everything that this daemon has ever seen was handled, is pending, or is counted as lost.
///
/// # Panics
/// When something is missing, with the counters.
pub fn expect_accounted(daemon: &Daemon) {
    // While a drain is under way a part of it is neither pending nor looked up.
    let status = crate::eventually("no drain is under way", || {
        let status = daemon.status();
        (status["tracker"]["phase"] != "draining").then_some(status)
    });
    let account = &status["tracker"]["account"];
    assert_eq!(account["adds_up"], true, "the counters do not add up: {account:#}");
    if let Some(wrong) = missing(&status["tracker"]) {
        panic!("{wrong}: {:#}", status["tracker"]);
    }
}

fn missing(tracker: &Value) -> Option<String> {
    let count = |name: &str| tracker[name].as_u64().unwrap_or_default();
    let ends: u64 = ["told", "outside", "gone", "untraced", "again"].map(count).iter().sum();
    (count("drained") != ends)
        .then(|| format!("{} were drained, and {ends} were looked up", count("drained")))
}
