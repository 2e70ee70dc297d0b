//! Each rule of operations in flight that the slot table holds, as a test; then all of them against a simple model.

use std::collections::BTreeMap;

use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

use super::{Completed, OpId, Slots};

#[test]
fn a_slot_is_retired_only_by_its_own_last_completion() {
    let mut slots = Slots::new();
    let id = slots.insert("memory");
    assert_eq!(slots.complete(id, true), Completed::More(&mut "memory"));
    assert_eq!(slots.complete(id, true), Completed::More(&mut "memory"));
    assert_eq!(slots.in_flight(), 1);
    assert_eq!(slots.complete(id, false), Completed::Last("memory"));
    assert_eq!(slots.in_flight(), 0);
}

#[test]
fn a_cancel_is_a_mark_and_frees_nothing() {
    let mut slots = Slots::new();
    let id = slots.insert("memory");
    assert!(slots.cancel(id), "the first cancel goes to the kernel");
    assert!(!slots.cancel(id), "a second one need not");
    assert_eq!(slots.get(id), Some(&"memory"), "the kernel still has the memory");
    assert_eq!(slots.in_flight(), 1);
    let other = slots.insert("other");
    assert_ne!(other.slot, id.slot, "the slot is not given away while its operation is under way");
    assert_eq!(slots.complete(id, true), Completed::More(&mut "memory"), "a cancelled multishot may still bring something");
    assert_eq!(slots.complete(id, false), Completed::Last("memory"));
}

#[test]
fn a_completion_of_an_older_generation_is_counted_and_dropped() {
    let mut slots = Slots::new();
    let old = slots.insert(1);
    assert_eq!(slots.complete(old, false), Completed::Last(1));
    assert_eq!(slots.complete(old, false), Completed::Stale, "into the free slot");
    let new = slots.insert(2);
    assert_eq!((new.slot, new.generation), (old.slot, old.generation + 1), "the slot is used again");
    for more in [true, false] {
        assert_eq!(slots.complete(old, more), Completed::Stale, "into the slot's next operation");
    }
    assert_eq!(slots.stale(), 3);
    assert_eq!(slots.get(new), Some(&2), "which is unharmed");
    assert_eq!(slots.in_flight(), 1);
}

#[test]
fn an_old_id_neither_cancels_nor_shows_the_slots_next_operation() {
    let mut slots = Slots::new();
    let old = slots.insert(1);
    slots.complete(old, false);
    assert!(!slots.cancel(old), "into the free slot");
    let new = slots.insert(2);
    assert!(!slots.cancel(old));
    assert_eq!(slots.get(old), None);
    assert_eq!(slots.get_mut(old), None);
    assert!(slots.cancel(new), "the mark of the old operation is gone, too");
}

#[test]
fn a_completion_for_a_slot_that_never_was_is_stale() {
    let mut slots = Slots::<()>::new();
    assert_eq!(slots.complete(OpId { slot: 7, generation: 1 }, false), Completed::Stale);
    assert!(!slots.cancel(OpId { slot: u32::MAX, generation: u32::MAX }));
    assert_eq!(slots.stale(), 1);
}

#[test]
fn a_generation_that_wraps_skips_zero_and_stays_above_the_drivers_own_numbers() {
    let mut slots = Slots::new();
    let first = slots.insert(());
    slots.complete(first, false);
    slots.slots[0].generation = u32::MAX;
    let last = slots.insert(());
    assert_eq!(last.generation, u32::MAX);
    slots.complete(last, false);
    let wrapped = slots.insert(());
    assert_eq!(wrapped.generation, 1);
    assert!(wrapped.user_data() >= 1 << 32);
    assert_eq!(slots.complete(last, false), Completed::Stale);
}

/// What the model is asked to do: the index picks one of the ids that were ever given out, old ones included.
#[derive(Clone, Debug)]
enum Step {
    Insert,
    Cancel(usize),
    Complete(usize, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Insert),
        1 => any::<usize>().prop_map(Step::Cancel),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(index, more)| Step::Complete(index, more)),
    ];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn user_data_carries_slot_and_generation(slot in any::<u32>(), generation in 1..=u32::MAX) {
        let id = OpId { slot, generation };
        assert_eq!(OpId::from_user_data(id.user_data()), id);
        assert!(id.user_data() >= 1 << 32, "below are the driver's own");
    }

    #[test]
    fn the_table_does_what_a_map_of_unique_ids_would(steps in steps()) {
        let mut slots = Slots::new();
        let mut given: Vec<OpId> = Vec::new();
        // By position in `given`: whether it was cancelled, for those in flight.
        let mut live: BTreeMap<usize, bool> = BTreeMap::new();
        let mut stale = 0;
        for step in steps {
            match step {
                Step::Insert => {
                    let id = slots.insert(given.len());
                    assert!(!given.contains(&id), "an id names one operation only");
                    live.insert(given.len(), false);
                    given.push(id);
                }
                Step::Cancel(index) if !given.is_empty() => {
                    let index = index % given.len();
                    let first = live.get_mut(&index).is_some_and(|cancelled| !std::mem::replace(cancelled, true));
                    assert_eq!(slots.cancel(given[index]), first);
                }
                Step::Complete(index, more) if !given.is_empty() => {
                    let index = index % given.len();
                    let is_live = live.contains_key(&index);
                    stale += u64::from(!is_live);
                    match slots.complete(given[index], more) {
                        Completed::More(held) => assert!(is_live && more && *held == index),
                        Completed::Last(held) => assert!(is_live && !more && held == index),
                        Completed::Stale => assert!(!is_live),
                    }
                    if !more {
                        live.remove(&index);
                    }
                }
                Step::Cancel(_) | Step::Complete(..) => {}
            }
            assert_eq!((slots.in_flight() as usize, slots.stale()), (live.len(), stale));
            for (index, id) in given.iter().enumerate() {
                assert_eq!(slots.get(*id).copied(), live.contains_key(&index).then_some(index));
            }
        }
    }
}
