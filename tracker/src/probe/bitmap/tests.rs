//! Tests of the user side on memory of our own, with a thread in the programs' place where that matters.

use std::{sync::atomic::AtomicBool, thread::ScopedJoinHandle};

use ebbtide_abi::{chunk_key, slot_of};

use super::*;

const CHUNKS: u32 = 130;

fn bitmap() -> Bitmap {
    let slab = Windows::of_words(Words::anonymous(slab_words(CHUNKS).0).unwrap());
    Bitmap::new(slab, CHUNKS, 2, |_, words| Words::anonymous(words)).unwrap()
}

/// Does what a program does, on CPU `cpu`: enters, sets the bit and the summary, leaves.
fn mark(bitmap: &Bitmap, cpu: usize, index: u32, key: u64, bit: usize, plane: Plane) {
    let counters = &bitmap.cpus.all()[cpu * words::<Cpu>()..];
    let (enter, exit) = (offset_of!(Cpu, enter) / WORD, offset_of!(Cpu, exit) / WORD);
    loop {
        let side = side_of(bitmap.epoch());
        counters[enter + side].fetch_add(1, Ordering::SeqCst);
        let entered = side_of(bitmap.epoch()) == side;
        if entered {
            bitmap.heads.all()[index as usize].store(key, Ordering::SeqCst);
            bitmap.chunk(index).unwrap().plane(side, plane)[bit / 64]
                .fetch_or(1 << (bit % 64), Ordering::SeqCst);
            bitmap.dirty_side(side)[index as usize / 64].fetch_or(1 << (index % 64), Ordering::SeqCst);
        }
        counters[exit + side].fetch_add(1, Ordering::SeqCst);
        if entered {
            return;
        }
    }
}

fn drained(bitmap: &Bitmap, epoch: u64) -> Vec<(u32, Vec<u64>)> {
    let mut all = Vec::new();
    bitmap
        .read(epoch, |key, bits| {
            let mut set = RoaringTreemap::new();
            bits(Plane::Changed, &mut set);
            all.push((slot_of(key), set.iter().collect()));
        })
        .unwrap();
    all
}

const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn a_mark_is_read_after_the_flip_with_its_device_and_all_64_bits_of_its_number() {
    let bitmap = bitmap();
    let ino = 0xffff_1234_5678_9abc_u64;
    mark(&bitmap, 0, 129, chunk_key(3, ino), (ino & 0xfff) as usize, Plane::Changed);
    let ended = bitmap.flip(PATIENCE).unwrap();
    assert_eq!(drained(&bitmap, ended), [(3, vec![ino])]);
}

#[test]
fn a_mark_made_after_the_flip_is_not_on_the_old_side() {
    let bitmap = bitmap();
    let ended = bitmap.flip(PATIENCE).unwrap();
    mark(&bitmap, 1, 0, chunk_key(0, 0), 7, Plane::Changed);
    assert_eq!(drained(&bitmap, ended), []);
    bitmap.clear(ended, |_, _| {}).unwrap();
    let ended = bitmap.flip(PATIENCE).unwrap();
    assert_eq!(drained(&bitmap, ended), [(0, vec![7])]);
}

#[test]
fn planes_are_apart() {
    let bitmap = bitmap();
    let key = chunk_key(0, 4096);
    mark(&bitmap, 0, 5, key, 0, Plane::Data);
    mark(&bitmap, 0, 5, key, 4095, Plane::Mapped);
    let ended = bitmap.flip(PATIENCE).unwrap();
    let mut marks = Marks::default();
    bitmap
        .read(ended, |_, bits| {
            bits(Plane::Changed, &mut marks.changed);
            bits(Plane::Data, &mut marks.data);
            bits(Plane::Mapped, &mut marks.mapped);
        })
        .unwrap();
    assert_eq!(marks.changed.len(), 0);
    assert_eq!(marks.data.iter().collect::<Vec<_>>(), [4096]);
    assert_eq!(marks.mapped.iter().collect::<Vec<_>>(), [8191]);
}

#[test]
fn clearing_zeroes_the_old_side_and_only_that() {
    let bitmap = bitmap();
    let key = chunk_key(0, 0);
    mark(&bitmap, 0, 64, key, 1, Plane::Changed);
    let first = bitmap.flip(PATIENCE).unwrap();
    mark(&bitmap, 0, 64, key, 2, Plane::Changed);
    let mut cleared = Vec::new();
    bitmap.clear(first, |index, key| cleared.push((index, key))).unwrap();
    assert_eq!(cleared, [(64, key)]);
    assert_eq!(drained(&bitmap, first), []);
    assert!(bitmap.is_dirty(64));
    let second = bitmap.flip(PATIENCE).unwrap();
    assert_eq!(drained(&bitmap, second), [(0, vec![2])]);
}

#[test]
fn a_flip_waits_for_a_program_that_has_entered() {
    let bitmap = bitmap();
    bitmap.cpus.all()[offset_of!(Cpu, enter) / WORD].fetch_add(1, Ordering::SeqCst);
    assert_eq!(bitmap.flip(Duration::from_millis(1)), Err(Stuck));
}

#[test]
fn no_mark_is_lost_under_thousands_of_flips() {
    let (bitmap, stop) = (bitmap(), AtomicBool::new(false));
    let mut seen = [RoaringTreemap::new(), RoaringTreemap::new()];
    std::thread::scope(|scope| {
        let writer = |cpu: usize| {
            let (bitmap, stop) = (&bitmap, &stop);
            move || {
                let key = chunk_key(cpu as u32, cpu as u64 * 4096);
                (0..4096).for_each(|bit| mark(bitmap, cpu, cpu as u32, key, bit, Plane::Changed));
                stop.store(true, Ordering::SeqCst);
            }
        };
        let writers = [scope.spawn(writer(0)), scope.spawn(writer(1))];
        let mut drain = || {
            let ended = bitmap.flip(PATIENCE).unwrap();
            bitmap.read(ended, |key, bits| bits(Plane::Changed, &mut seen[slot_of(key) as usize])).unwrap();
            bitmap.clear(ended, |_, _| {}).unwrap();
        };
        while !writers.iter().all(ScopedJoinHandle::is_finished) {
            drain();
        }
        drain();
    });
    assert_eq!(seen.map(|set| set.len()), [4096, 4096]);
}
