//! What happens in the bad order.

use std::time::SystemTime;

use ebbtide_feed::{Batch, Fact, RelPath, ToSender};

use super::*;

fn why(reason: Reason) -> Tainted {
    Tainted { since: SystemTime::UNIX_EPOCH, remedy: Remedy::Compare, reason }
}

fn touched(path: &[u8]) -> Fact {
    Fact::Touched { path: RelPath::new(path).unwrap(), data: true }
}

fn root() -> Fact {
    Fact::Subtree { dir: RelPath::root(), replaced: false }
}

fn facts(list: &[Fact]) -> Event {
    let mut facts = Facts::default();
    list.iter().cloned().for_each(|fact| facts.add(fact));
    Event::Drained(vec![facts])
}

fn batch(seq: u64, facts: &[Fact]) -> Effect {
    Effect::Send(ToSender::Batch(Batch { seq, mirror: 0, last: true, facts: facts.to_vec() }))
}

fn barrier(token: u64) -> Effect {
    Effect::Send(ToSender::Barrier { token })
}

/// An engine whose first `Subtree` is durable.
fn settled() -> Engine {
    let mut engine = Engine::new(1, Some(&why(Reason::Start)));
    assert_eq!(engine.apply(Event::SenderReady), [Effect::Drain]);
    assert_eq!(engine.apply(facts(&[])), [batch(1, &[root()])]);
    assert_eq!(engine.apply(Event::Durable(1)), [Effect::Forget]);
    assert_eq!(engine.coverage(0).tainted(), None);
    engine
}

#[test]
fn nothing_is_forgotten_before_it_is_durable() {
    let mut engine = settled();
    assert_eq!(engine.apply(Event::Noted), [Effect::Settle]);
    assert_eq!(engine.apply(Event::SettleOver), [Effect::Drain]);
    assert_eq!(engine.apply(facts(&[touched(b"a")])), [batch(2, &[touched(b"a")])]);
    assert_eq!(engine.apply(Event::Noted), [], "one batch at a time");
    assert_eq!(engine.apply(Event::Durable(1)), [], "an old answer");
    assert_eq!(engine.apply(Event::Durable(2)), [Effect::Forget, Effect::Settle]);
}

#[test]
fn a_drain_without_facts_is_acknowledged_at_once() {
    let mut engine = settled();
    engine.apply(Event::Noted);
    engine.apply(Event::SettleOver);
    assert_eq!(engine.apply(facts(&[])), [Effect::Forget]);
    assert_eq!(engine.last_batch(), (1, true));
}

#[test]
fn what_is_noted_during_a_drain_gets_a_drain_of_its_own() {
    let mut engine = settled();
    engine.apply(Event::Noted);
    engine.apply(Event::SettleOver);
    assert_eq!(engine.apply(Event::Noted), []);
    assert_eq!(engine.apply(facts(&[])), [Effect::Forget, Effect::Settle]);
}

#[test]
fn nothing_is_drained_while_the_sender_is_away() {
    let mut engine = settled();
    engine.apply(Event::SenderGone);
    assert_eq!(engine.apply(Event::Noted), [Effect::Settle]);
    assert_eq!(engine.apply(Event::SettleOver), []);
    assert_eq!(engine.apply(Event::Noted), []);
    assert_eq!(engine.apply(Event::SenderReady), [Effect::Drain]);
}

#[test]
fn a_sender_that_dies_gets_the_batch_and_the_barriers_again() {
    let mut engine = settled();
    assert_eq!(engine.apply(Event::Wait(Waiter(9))), [Effect::Drain]);
    let sent = [batch(2, &[touched(b"a")]), barrier(1)];
    assert_eq!(engine.apply(facts(&[touched(b"a")])), sent);
    engine.apply(Event::SenderGone);
    assert_eq!(engine.apply(Event::SenderReady), sent);
    assert_eq!(engine.apply(Event::Durable(2)), [Effect::Forget]);
    assert_eq!(engine.apply(Event::Durable(2)), []);
    assert_eq!(engine.apply(Event::Settled(1)), [Effect::Reached(Waiter(9))]);
    assert_eq!(engine.apply(Event::Settled(1)), [], "reached once");
}

#[test]
fn a_sender_that_dies_during_a_drain_gets_its_batch_when_it_is_back() {
    let mut engine = settled();
    engine.apply(Event::Noted);
    engine.apply(Event::SettleOver);
    engine.apply(Event::SenderGone);
    assert_eq!(engine.apply(facts(&[touched(b"a")])), []);
    assert_eq!(engine.apply(Event::SenderReady), [batch(2, &[touched(b"a")])]);
}

#[test]
fn a_barrier_waits_for_a_drain_that_begins_after_it() {
    let mut engine = settled();
    engine.apply(Event::Noted);
    engine.apply(Event::SettleOver);
    assert_eq!(
        engine.apply(Event::Wait(Waiter(1))),
        [],
        "the drain under way may have missed what came before"
    );
    assert_eq!(engine.apply(facts(&[])), [Effect::Forget, Effect::Drain]);
    assert_eq!(engine.apply(facts(&[])), [Effect::Forget, barrier(1)]);
}

#[test]
fn a_barrier_does_not_wait_for_the_settle_window() {
    let mut engine = settled();
    engine.apply(Event::Noted);
    assert_eq!(engine.apply(Event::Wait(Waiter(1))), [Effect::Drain]);
    assert_eq!(engine.apply(Event::SettleOver), [], "the timer fires late");
}

#[test]
fn a_barrier_that_nobody_waits_for_is_cancelled_wherever_it_is() {
    let mut engine = settled();
    engine.apply(Event::Wait(Waiter(1)));
    engine.apply(Event::WaitOver(Waiter(1)));
    assert_eq!(engine.apply(facts(&[])), [Effect::Forget]);
    engine.apply(Event::Wait(Waiter(2)));
    engine.apply(facts(&[]));
    let cancel = Effect::Send(ToSender::CancelBarrier { token: 1 });
    assert_eq!(engine.apply(Event::WaitOver(Waiter(2))), [cancel]);
    assert_eq!(engine.apply(Event::Settled(1)), []);
}

#[test]
fn a_loss_is_answered_by_a_subtree_and_is_over_when_that_is_durable() {
    let mut engine = settled();
    assert_eq!(engine.apply(Event::Lost(0, why(Reason::QueueOverflow))), [Effect::Drain]);
    assert_eq!(engine.apply(facts(&[])), [batch(2, &[root()])]);
    assert!(engine.coverage(0).tainted().is_some(), "not yet durable");
    engine.apply(Event::Durable(2));
    assert_eq!(engine.coverage(0).tainted(), None);
    assert_eq!(engine.coverage(0).taints(), 2);
}

#[test]
fn a_loss_while_the_answer_to_another_is_in_flight_gets_its_own_answer() {
    let mut engine = settled();
    engine.apply(Event::Lost(0, why(Reason::QueueOverflow)));
    engine.apply(facts(&[]));
    assert_eq!(engine.apply(Event::Lost(0, why(Reason::BitmapFull))), []);
    assert_eq!(engine.apply(Event::Durable(2)), [Effect::Forget, Effect::Drain]);
    assert_eq!(engine.coverage(0).tainted(), Some(&why(Reason::BitmapFull)));
    assert_eq!(engine.apply(facts(&[])), [batch(3, &[root()])]);
    engine.apply(Event::Durable(3));
    assert_eq!(engine.coverage(0).tainted(), None);
}

#[test]
fn a_mirror_without_its_root_tells_nothing_until_the_root_is_back() {
    let mut engine = settled();
    assert_eq!(engine.apply(Event::RootLost(0, why(Reason::Root("gone".into())))), []);
    engine.apply(Event::Noted);
    engine.apply(Event::SettleOver);
    assert_eq!(engine.apply(facts(&[])), [Effect::Forget]);
    assert!(engine.coverage(0).root_lost());
    assert_eq!(engine.apply(Event::RootBack(0, why(Reason::RootWasAway))), [Effect::Drain]);
    assert_eq!(engine.apply(facts(&[])), [batch(2, &[root()])]);
}

#[test]
fn a_large_batch_goes_in_parts_and_only_the_last_asks_for_an_answer() {
    let mut engine = settled();
    engine.apply(Event::Noted);
    engine.apply(Event::SettleOver);
    let many: Vec<_> = (0..2500).map(|i| touched(format!("{i:04}").as_bytes())).collect();
    let effects = engine.apply(facts(&many));
    let lasts: Vec<_> = effects
        .iter()
        .map(|effect| match effect {
            Effect::Send(ToSender::Batch(batch)) => (batch.seq, batch.last, batch.facts.len()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(lasts, [(2, false, 1000), (2, false, 1000), (2, true, 500)]);
}

fn scan(reason: Reason) -> Tainted {
    Tainted { remedy: Remedy::Scan, ..why(reason) }
}

#[test]
fn a_loss_that_a_scan_makes_up_for_is_over_when_all_that_it_found_is_durable() {
    let mut engine = settled();
    assert_eq!(engine.apply(Event::Lost(0, scan(Reason::QueueOverflow))), [Effect::Scan(0)]);
    assert_eq!(engine.apply(Event::Found(0, vec![touched(b"a")], false)), [Effect::Drain]);
    assert_eq!(engine.apply(facts(&[])), [batch(2, &[touched(b"a")])]);
    assert_eq!(engine.apply(Event::Durable(2)), [Effect::Forget, Effect::ScanOn(0)]);
    assert!(engine.coverage(0).tainted().is_some());
    assert_eq!(engine.apply(Event::Found(0, vec![], true)), [Effect::Drain]);
    assert_eq!(engine.apply(facts(&[])), [Effect::Forget]);
    assert_eq!(engine.coverage(0).tainted(), None);
}

#[test]
fn a_waiter_waits_for_the_end_of_a_scan() {
    let mut engine = settled();
    engine.apply(Event::Lost(0, scan(Reason::QueueOverflow)));
    assert_eq!(engine.apply(Event::Wait(Waiter(1))), [], "it is not known yet what is to be waited for");
    assert_eq!(engine.apply(Event::Found(0, vec![touched(b"a")], true)), [Effect::Drain]);
    assert_eq!(engine.apply(facts(&[])), [batch(2, &[touched(b"a")]), barrier(1)]);
}

#[test]
fn a_waiter_waits_for_the_scan_of_what_its_own_drain_found_lost() {
    let mut engine = settled();
    assert_eq!(engine.apply(Event::Wait(Waiter(1))), [Effect::Drain]);
    assert_eq!(engine.apply(Event::Lost(0, scan(Reason::BitmapFull))), [Effect::Scan(0)]);
    assert_eq!(engine.apply(facts(&[touched(b"a")])), [batch(2, &[touched(b"a")])]);
    assert_eq!(engine.apply(Event::Durable(2)), [Effect::Forget]);
    // What is lost now, the scan may have passed.
    assert_eq!(engine.apply(Event::Lost(0, scan(Reason::BitmapFull))), []);
    assert_eq!(engine.apply(Event::Found(0, vec![], true)), [Effect::Drain]);
    assert_eq!(engine.apply(facts(&[])), [Effect::Forget, Effect::Scan(0)]);
    assert_eq!(engine.apply(Event::Found(0, vec![touched(b"b")], true)), [Effect::Drain]);
    assert_eq!(engine.apply(facts(&[])), [batch(3, &[touched(b"b")]), barrier(1)]);
}

#[test]
fn what_is_lost_while_a_scan_runs_is_looked_for_by_another_one() {
    let mut engine = settled();
    engine.apply(Event::Lost(0, scan(Reason::QueueOverflow)));
    assert_eq!(engine.apply(Event::Lost(0, scan(Reason::BitmapFull))), []);
    assert_eq!(engine.apply(Event::Found(0, vec![], true)), [Effect::Drain]);
    assert_eq!(engine.apply(facts(&[])), [Effect::Forget, Effect::Scan(0)]);
}

#[test]
fn what_no_scan_can_find_is_compared_even_while_one_runs() {
    let mut engine = settled();
    engine.apply(Event::Lost(0, scan(Reason::QueueOverflow)));
    assert_eq!(engine.apply(Event::Lost(0, why(Reason::RootMoved))), [Effect::Drain]);
    assert_eq!(engine.apply(facts(&[])), [batch(2, &[root()])]);
    assert_eq!(engine.apply(Event::Durable(2)), [Effect::Forget]);
    assert_eq!(engine.coverage(0).tainted(), None);
}

#[test]
fn no_scan_begins_without_a_sender_and_a_lost_root_ends_it() {
    let mut engine = settled();
    engine.apply(Event::SenderGone);
    assert_eq!(engine.apply(Event::Lost(0, scan(Reason::QueueOverflow))), []);
    assert_eq!(engine.apply(Event::SenderReady), [Effect::Scan(0)]);
    engine.apply(Event::RootLost(0, scan(Reason::Root("x".into()))));
    assert!(!engine.coverage(0).is_searching());
    assert_eq!(engine.apply(Event::RootBack(0, scan(Reason::RootWasAway))), [Effect::Scan(0)]);
}

#[test]
fn what_somebody_wants_told_goes_with_a_drain_of_its_own() {
    let mut engine = settled();
    assert_eq!(engine.apply(Event::Told(0, vec![root()])), [Effect::Drain]);
    assert_eq!(engine.apply(facts(&[touched(b"a")])), [batch(2, &[root(), touched(b"a")])]);
}
