use super::*;

const A: DestinationId = DestinationId(0);
const B: DestinationId = DestinationId(1);

fn ids(of: &[u32]) -> RoaringBitmap {
    of.iter().copied().collect()
}

fn recorded(engine: &mut Engine, to: DestinationId, of: &[u32]) -> Vec<Effect> {
    engine.apply(Event::Recorded { to, ids: ids(of) })
}

fn demand(engine: &mut Engine, to: DestinationId) -> Vec<Effect> {
    engine.apply(Event::Demand { to, limit: 1000 })
}

fn done(engine: &mut Engine, to: DestinationId, take: u64, of: &[u32]) -> Vec<Effect> {
    let result = TakeResult { done: ids(of), ..TakeResult::default() };
    engine.apply(Event::Finished { to, take: TakeNumber(take), result })
}

fn delivered(engine: &mut Engine, to: DestinationId, take: u64, of: &[u32]) -> Vec<Effect> {
    let result = TakeResult { delivered: ids(of), ..TakeResult::default() };
    engine.apply(Event::Finished { to, take: TakeNumber(take), result })
}

fn barrier(engine: &mut Engine) -> Vec<Effect> {
    engine.apply(Event::Barrier { token: 9 })
}

fn taken(to: DestinationId, number: u64, of: &[u32]) -> Vec<Effect> {
    vec![Effect::Take { to, number: TakeNumber(number), ids: ids(of) }]
}

fn two() -> Engine {
    Engine::new(vec![RoaringBitmap::new(), RoaringBitmap::new()])
}

#[test]
fn a_waiting_destination_gets_facts_as_they_are_recorded() {
    let mut engine = two();
    assert_eq!(demand(&mut engine, A), []);
    assert_eq!(recorded(&mut engine, A, &[1, 2]), taken(A, 1, &[1, 2]));
    assert_eq!(recorded(&mut engine, A, &[3]), []);
    assert_eq!(done(&mut engine, A, 1, &[1, 2]), []);
    assert_eq!(demand(&mut engine, A), taken(A, 2, &[3]));
}

#[test]
fn a_fact_that_comes_again_while_it_is_in_flight_is_sent_again() {
    let mut engine = two();
    recorded(&mut engine, A, &[1]);
    demand(&mut engine, A);
    recorded(&mut engine, A, &[1]);
    done(&mut engine, A, 1, &[1]);
    assert_eq!(engine.pending(A), &ids(&[1]));
    assert_eq!(demand(&mut engine, A), taken(A, 2, &[1]));
    done(&mut engine, A, 2, &[1]);
    assert!(engine.pending(A).is_empty());
}

#[test]
fn what_a_failed_take_leaves_is_taken_again() {
    let mut engine = two();
    recorded(&mut engine, A, &[1, 2]);
    demand(&mut engine, A);
    done(&mut engine, A, 1, &[2]);
    assert_eq!(demand(&mut engine, A), taken(A, 2, &[1]));
}

#[test]
fn an_answer_to_an_earlier_take_changes_nothing() {
    let mut engine = two();
    recorded(&mut engine, A, &[1]);
    demand(&mut engine, A);
    done(&mut engine, A, 7, &[1]);
    assert_eq!(engine.pending(A), &ids(&[1]));
    done(&mut engine, A, 1, &[1]);
    assert!(engine.pending(A).is_empty());
}

#[test]
fn a_held_fact_does_not_hold_up_the_others() {
    let mut engine = two();
    recorded(&mut engine, A, &[1, 2]);
    demand(&mut engine, A);
    let result = TakeResult { done: ids(&[2]), held: ids(&[1]), ..TakeResult::default() };
    engine.apply(Event::Finished { to: A, take: TakeNumber(1), result });
    assert_eq!(demand(&mut engine, A), []);
    assert_eq!(recorded(&mut engine, A, &[1, 3]), taken(A, 2, &[3]));
    done(&mut engine, A, 2, &[3]);
    demand(&mut engine, A);
    assert_eq!(engine.apply(Event::Release { to: A, ids: ids(&[1]) }), taken(A, 3, &[1]));
}

#[test]
fn takes_go_round_so_that_no_fact_starves() {
    let mut engine = two();
    recorded(&mut engine, A, &[1, 2, 3]);
    let limited = |engine: &mut Engine| engine.apply(Event::Demand { to: A, limit: 2 });
    assert_eq!(limited(&mut engine), taken(A, 1, &[1, 2]));
    done(&mut engine, A, 1, &[]);
    assert_eq!(limited(&mut engine), taken(A, 2, &[1, 3]));
    done(&mut engine, A, 2, &[]);
    assert_eq!(limited(&mut engine), taken(A, 3, &[2, 3]));
}

#[test]
fn an_id_is_an_orphan_when_the_last_destination_let_it_go() {
    let mut engine = two();
    for to in [A, B] {
        recorded(&mut engine, to, &[1, 70_000]);
        demand(&mut engine, to);
    }
    assert_eq!(engine.changes().chunks, [(A, 0), (A, 1), (B, 0), (B, 1)]);
    done(&mut engine, A, 1, &[1, 70_000]);
    assert!(engine.changes().orphans.is_empty());
    done(&mut engine, B, 1, &[70_000]);
    let changes = engine.changes();
    assert_eq!(changes.orphans, ids(&[70_000]));
    assert_eq!(changes.chunks, [(B, 1)]);
    assert!(engine.changes().chunks.is_empty());
}

#[test]
fn a_barrier_with_nothing_pending_is_reached_at_once() {
    assert_eq!(barrier(&mut two()), [Effect::Settled { token: 9 }]);
}

#[test]
fn a_barrier_waits_for_every_destination() {
    let mut engine = two();
    for to in [A, B] {
        recorded(&mut engine, to, &[1]);
        demand(&mut engine, to);
    }
    assert_eq!(barrier(&mut engine), []);
    assert_eq!(done(&mut engine, A, 1, &[1]), []);
    assert_eq!(done(&mut engine, B, 1, &[1]), [Effect::Settled { token: 9 }]);
}

#[test]
fn a_barrier_is_not_reached_by_a_take_that_looked_before_the_last_fact() {
    let mut engine = two();
    recorded(&mut engine, A, &[1]);
    demand(&mut engine, A);
    recorded(&mut engine, A, &[1]);
    assert_eq!(barrier(&mut engine), []);
    assert_eq!(done(&mut engine, A, 1, &[1]), []);
    demand(&mut engine, A);
    assert_eq!(done(&mut engine, A, 2, &[1]), [Effect::Settled { token: 9 }]);
}

#[test]
fn a_name_that_changes_all_the_time_does_not_starve_a_barrier() {
    let mut engine = two();
    recorded(&mut engine, A, &[1]);
    demand(&mut engine, A);
    assert_eq!(barrier(&mut engine), []);
    recorded(&mut engine, A, &[1]);
    assert_eq!(done(&mut engine, A, 1, &[1]), [Effect::Settled { token: 9 }]);
    assert_eq!(engine.pending(A), &ids(&[1]));
}

#[test]
fn a_file_that_changes_while_it_is_read_does_not_starve_a_barrier() {
    let mut engine = two();
    recorded(&mut engine, A, &[1]);
    barrier(&mut engine);
    demand(&mut engine, A);
    assert_eq!(delivered(&mut engine, A, 1, &[1]), [Effect::Settled { token: 9 }]);
    assert_eq!(engine.pending(A), &ids(&[1]));
}

#[test]
fn a_barrier_moves_on_to_what_stands_in_place_of_a_fact() {
    let mut engine = two();
    recorded(&mut engine, A, &[1]);
    demand(&mut engine, A);
    barrier(&mut engine);
    recorded(&mut engine, A, &[5]);
    let result = TakeResult { done: ids(&[1]), successors: vec![(1, ids(&[5]))], ..TakeResult::default() };
    assert_eq!(engine.apply(Event::Finished { to: A, take: TakeNumber(1), result }), []);
    assert_eq!(demand(&mut engine, A), taken(A, 2, &[5]));
    assert_eq!(done(&mut engine, A, 2, &[5]), [Effect::Settled { token: 9 }]);
}

#[test]
fn a_failed_take_does_not_reach_a_barrier() {
    let mut engine = two();
    recorded(&mut engine, A, &[1]);
    demand(&mut engine, A);
    barrier(&mut engine);
    assert_eq!(done(&mut engine, A, 1, &[]), []);
    assert_eq!(demand(&mut engine, A), taken(A, 2, &[1]));
    assert_eq!(done(&mut engine, A, 2, &[1]), [Effect::Settled { token: 9 }]);
}

#[test]
fn a_cancelled_barrier_is_never_reached() {
    let mut engine = two();
    recorded(&mut engine, A, &[1]);
    barrier(&mut engine);
    engine.apply(Event::CancelBarrier { token: 9 });
    demand(&mut engine, A);
    assert_eq!(done(&mut engine, A, 1, &[1]), []);
}

#[test]
fn a_fact_that_is_in_flight_is_not_waiting() {
    let mut engine = two();
    recorded(&mut engine, A, &[1]);
    assert!(engine.is_waiting(A, 1));
    demand(&mut engine, A);
    assert!(!engine.is_waiting(A, 1));
    assert!(!engine.is_waiting(B, 1));
    assert_eq!(engine.held_facts(), 1);
}

/// The take goes on, but for some of it that goes by itself.
fn left_aside(engine: &mut Engine, take: u64, of: &[u32], aside: &[u32]) -> Vec<Effect> {
    let result = TakeResult { done: ids(of), aside: ids(aside), ..TakeResult::default() };
    engine.apply(Event::Finished { to: A, take: TakeNumber(take), result })
}

fn release(engine: &mut Engine) -> Vec<Effect> {
    engine.apply(Event::Release { to: A, ids: RoaringBitmap::new() })
}

#[test]
fn what_goes_by_itself_is_in_no_other_take_and_stays_pending_until_its_own_end() {
    let mut engine = two();
    recorded(&mut engine, A, &[1, 2]);
    demand(&mut engine, A);
    left_aside(&mut engine, 1, &[2], &[1]);
    assert_eq!(engine.pending(A), &ids(&[1]));
    assert!(!engine.is_waiting(A, 1));
    assert_eq!(demand(&mut engine, A), []);
    assert_eq!(recorded(&mut engine, A, &[1, 3]), taken(A, 2, &[3]));
    recorded(&mut engine, A, &[4]);
    done(&mut engine, A, 2, &[3]);
    assert_eq!(demand(&mut engine, A), taken(A, 3, &[4]));
    done(&mut engine, A, 1, &[1]);
    assert_eq!(engine.pending(A), &ids(&[1, 4]), "it came again meanwhile");
    done(&mut engine, A, 3, &[4]);
    assert_eq!(demand(&mut engine, A), taken(A, 4, &[1]));
    done(&mut engine, A, 4, &[1]);
    assert!(engine.pending(A).is_empty());
    assert_eq!(engine.changes().orphans, ids(&[1, 2, 3, 4]));
}

#[test]
fn what_goes_by_itself_and_is_given_up_is_taken_when_others_are_let_go() {
    let mut engine = two();
    recorded(&mut engine, A, &[1]);
    demand(&mut engine, A);
    left_aside(&mut engine, 1, &[], &[1]);
    demand(&mut engine, A);
    assert_eq!(done(&mut engine, A, 1, &[]), []);
    assert_eq!(release(&mut engine), taken(A, 2, &[1]));
}

#[test]
fn a_fact_that_came_again_before_its_take_let_it_go_by_itself_is_sent_again() {
    let mut engine = two();
    recorded(&mut engine, A, &[1]);
    demand(&mut engine, A);
    recorded(&mut engine, A, &[1]);
    left_aside(&mut engine, 1, &[], &[1]);
    done(&mut engine, A, 1, &[1]);
    assert_eq!(demand(&mut engine, A), taken(A, 2, &[1]));
}

#[test]
fn a_barrier_waits_for_what_goes_by_itself() {
    let mut engine = two();
    recorded(&mut engine, A, &[1, 2]);
    demand(&mut engine, A);
    left_aside(&mut engine, 1, &[2], &[1]);
    recorded(&mut engine, A, &[3]);
    demand(&mut engine, A);
    assert_eq!(barrier(&mut engine), []);
    assert_eq!(done(&mut engine, A, 2, &[3]), []);
    assert_eq!(done(&mut engine, A, 1, &[1]), [Effect::Settled { token: 9 }]);
}

#[test]
fn a_barrier_waits_for_what_came_again_while_it_went_by_itself() {
    let mut engine = two();
    recorded(&mut engine, A, &[1]);
    demand(&mut engine, A);
    left_aside(&mut engine, 1, &[], &[1]);
    recorded(&mut engine, A, &[1]);
    barrier(&mut engine);
    assert_eq!(done(&mut engine, A, 1, &[1]), []);
    assert_eq!(demand(&mut engine, A), taken(A, 2, &[1]));
    assert_eq!(done(&mut engine, A, 2, &[1]), [Effect::Settled { token: 9 }]);
}
