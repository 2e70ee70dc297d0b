//! The table of operations in flight against a plain map: bytes are a script of insert, complete (with more or last, for live and
//! for stale ids) and cancel.
#![cfg_attr(fuzzing, no_main)]

use std::collections::HashMap;

use headrace::sys::{Completed, OpId, Slots};
use headrace_fuzz::kind;

headrace_fuzz::main!("slots", target, &[]);

fn target(data: &[u8]) -> u64 {
    let mut slots: Slots<usize> = Slots::new();
    let mut live: HashMap<u64, (usize, bool)> = HashMap::new();
    let mut ids: Vec<OpId> = Vec::new();
    let mut stale = 0;
    for (step, pair) in data.chunks(2).enumerate() {
        let pick = pair.get(1).map_or(0, |byte| usize::from(*byte));
        let id = if ids.is_empty() { OpId::from_user_data((pick as u64) << 30) } else { ids[pick % ids.len()] };
        let known = live.get(&id.user_data()).copied();
        match pair[0] % 6 {
            0 | 1 => {
                let id = slots.insert(step);
                assert!(id.user_data() >= 1 << 32, "drivers use the numbers below for their own");
                assert_eq!(OpId::from_user_data(id.user_data()), id);
                assert!(live.insert(id.user_data(), (step, false)).is_none(), "an id in flight was given out again");
                ids.push(id);
            }
            2 => {
                assert_eq!(slots.cancel(id), known.is_some_and(|(_, cancelled)| !cancelled));
                if let Some(entry) = live.get_mut(&id.user_data()) {
                    entry.1 = true;
                }
            }
            more => match (slots.complete(id, more == 3), known) {
                (Completed::More(held), Some((value, _))) => assert!(more == 3 && *held == value),
                (Completed::Last(held), Some((value, _))) => {
                    assert!(more != 3 && held == value);
                    live.remove(&id.user_data());
                }
                (Completed::Stale, None) => stale += 1,
                (got, known) => panic!("{got:?} for {known:?}"),
            },
        }
        assert_eq!((slots.in_flight() as usize, slots.stale()), (live.len(), stale));
        assert!(live.iter().all(|(id, (value, _))| slots.get(OpId::from_user_data(*id)) == Some(value)));
    }
    kind((live.len().min(20), stale.min(20), ids.len().min(20)))
}
