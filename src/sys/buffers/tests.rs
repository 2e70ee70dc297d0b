//! Where each buffer is, at every moment: in the pool, in the kernel's ring, or in one lease.

use std::io;

use super::{BufRingEntry, BufferPool, Lease, PAGE};

fn fill(pool: &BufferPool, byte: u8, len: usize) -> Option<Lease> {
    let lease = pool.fill(|buffer| {
        buffer[..len].fill(byte);
        Ok(len)
    });
    lease.unwrap()
}

#[test]
fn a_pool_of_a_wrong_shape_is_refused() {
    for (count, size) in [(0, 64), (3, 64), (4, 0)] {
        assert_eq!(BufferPool::new(count, size).err().map(|error| error.kind()), Some(io::ErrorKind::InvalidInput), "{count} x {size}");
    }
}

#[test]
fn a_lease_shows_what_was_written_and_goes_back_once() {
    let pool = BufferPool::new(2, 64).unwrap();
    let lease = fill(&pool, 7, 10).unwrap();
    assert_eq!((&*lease, pool.leased(), pool.available()), (&[7; 10][..], 1, 1));
    drop(lease);
    assert_eq!((pool.leased(), pool.available()), (0, 2));
    // Both can be had again, and only both: the one that came back did not come back twice.
    let (a, b) = (fill(&pool, 1, 64).unwrap(), fill(&pool, 2, 64).unwrap());
    assert!(fill(&pool, 3, 1).is_none());
    assert_eq!((&*a, &*b), (&[1; 64][..], &[2; 64][..]), "two leases never share bytes");
}

#[test]
fn an_empty_pool_says_so_without_reading() {
    let pool = BufferPool::new(1, 8).unwrap();
    let lease = fill(&pool, 1, 8);
    let read = pool.fill(|_| panic!("there is no buffer to read into"));
    assert!(read.unwrap().is_none());
    drop(lease);
    assert!(fill(&pool, 2, 8).is_some());
}

#[test]
fn a_read_that_fails_keeps_no_buffer() {
    let pool = BufferPool::new(1, 8).unwrap();
    assert!(pool.fill(|_| Err(io::ErrorKind::WouldBlock.into())).is_err());
    assert_eq!(pool.leased(), 0);
    assert!(fill(&pool, 2, 8).is_some());
}

#[test]
fn a_read_that_claims_too_much_is_cut_at_the_buffer() {
    let pool = BufferPool::new(2, 8).unwrap();
    assert_eq!(pool.fill(|_| Ok(9)).unwrap().unwrap().len(), 8);
    assert_eq!(pool.received(0, 9).len(), 8);
}

#[test]
fn advance_and_truncate_narrow_the_view_and_never_widen_it() {
    let pool = BufferPool::new(1, 16).unwrap();
    let mut lease = pool
        .fill(|buffer| {
            buffer.copy_from_slice(b"0123456789abcdef");
            Ok(16)
        })
        .unwrap()
        .unwrap();
    lease.advance(2);
    lease.truncate(5);
    assert_eq!(&*lease, b"23456");
    lease.truncate(100);
    lease.advance(0);
    assert_eq!(&*lease, b"23456");
    lease.advance(100);
    assert_eq!(&*lease, b"");
    lease.truncate(usize::MAX);
    lease.advance(usize::MAX);
    assert_eq!(&*lease, b"");
    drop(lease);
    assert_eq!(pool.leased(), 0);
}

#[test]
fn a_lease_outlives_its_pool() {
    let pool = BufferPool::new(1, 8).unwrap();
    let lease = fill(&pool, 9, 8).unwrap();
    drop(pool);
    assert_eq!(&*lease, &[9; 8]);
}

/// The ring's entries from `from` to its tail, as the kernel would read them: address, length, id.
fn published(pool: &BufferPool, from: u16) -> Vec<(u64, u32, u16)> {
    let ring = pool.inner.ring.borrow();
    let ring = ring.as_ref().unwrap();
    let base = ring.memory.base.as_ptr().cast::<BufRingEntry>();
    // SAFETY: the tail lies in the ring's memory (see `put`), which is written by this thread only.
    let tail = unsafe { *BufRingEntry::tail(base) };
    let mut entries = Vec::new();
    let mut at = from;
    while at != tail {
        // SAFETY: the index is masked to the ring's size; there is no kernel in this test.
        let entry = unsafe { &*base.add(usize::from(at & ring.mask)) };
        entries.push((entry.addr(), entry.len(), entry.bid()));
        at = at.wrapping_add(1);
    }
    entries
}

#[test]
fn attaching_a_ring_lends_it_free_buffers_only() {
    let pool = BufferPool::new(4, 512).unwrap();
    let held = fill(&pool, 1, 1).unwrap();
    let address = pool.attach_ring().unwrap();
    assert_eq!(address % PAGE as u64, 0, "the kernel wants a page");
    assert!(fill(&pool, 2, 1).is_none(), "what the kernel owns cannot be had");
    let entries = published(&pool, 0);
    let mut ids: Vec<u16> = entries.iter().map(|(_, _, id)| *id).collect();
    assert!(!ids.contains(&id_of(&held)) && ids.len() == 3);
    assert!(entries.iter().all(|(address, len, id)| *address == pool.inner.at(*id) as u64 && *len == 512));
    drop(held);
    pool.top_up();
    ids.push(published(&pool, 3)[0].2);
    ids.sort_unstable();
    assert_eq!(ids, [0, 1, 2, 3], "a lease from before goes to the ring with the next turn");
}

#[test]
fn a_ring_takes_each_buffer_back_once_also_when_its_tail_wraps() {
    let pool = BufferPool::new(2, 64).unwrap();
    pool.attach_ring().unwrap();
    let mut at = 0u16;
    for turn in 0..70_000u32 {
        let given = published(&pool, at);
        assert_eq!(given.len(), 2, "turn {turn}");
        at = at.wrapping_add(2);
        let leases: Vec<Lease> = given.iter().map(|(_, _, id)| pool.received(*id, 3)).collect();
        assert_eq!((pool.leased(), published(&pool, at).len()), (2, 0));
        drop(leases);
        pool.top_up();
    }
    assert_eq!(pool.leased(), 0);
}

/// One turn in which the kernel takes `count` buffers, whose leases end at once; returns their ids.
fn turn(pool: &BufferPool, at: &mut u16, count: usize) -> Vec<u16> {
    let given = published(pool, *at);
    assert!(given.len() >= count, "{} stand ready, {count} are wanted", given.len());
    let ids: Vec<u16> = given.iter().take(count).map(|(_, _, id)| *id).collect();
    ids.iter().for_each(|id| drop(pool.received(*id, 1)));
    *at = at.wrapping_add(u16::try_from(count).unwrap());
    pool.top_up();
    ids
}

#[test]
fn a_ring_under_light_load_uses_few_buffers_again_and_again() {
    let pool = BufferPool::new(1024, 64).unwrap();
    pool.attach_ring().unwrap();
    let mut at = 0;
    let used: std::collections::BTreeSet<u16> = (0..1000).flat_map(|_| turn(&pool, &mut at, 8)).collect();
    assert_eq!(used.len(), 16, "as many as stand ready, not all 1,024");
}

#[test]
fn a_ring_grows_with_what_one_turn_takes_and_shrinks_when_it_is_not_needed() {
    let pool = BufferPool::new(1024, 64).unwrap();
    pool.attach_ring().unwrap();
    let mut at = 0;
    assert_eq!(published(&pool, at).len(), 16);
    for (taken, ready) in [(8, 16), (9, 32), (17, 64), (32, 64), (33, 128), (64, 128), (65, 256), (256, 512), (512, 1024), (1024, 1024)] {
        turn(&pool, &mut at, taken);
        assert_eq!(published(&pool, at).len(), ready, "after a turn that took {taken}");
    }
    for _ in 0..2 * u32::from(super::ADAPT_TURNS) {
        turn(&pool, &mut at, 1);
    }
    // What the kernel holds it keeps until it fills it: the ring is let run down, not emptied.
    for _ in 0..1024 {
        turn(&pool, &mut at, 1);
    }
    assert!(published(&pool, at).len() <= 512, "{} still stand ready", published(&pool, at).len());
}

fn id_of(lease: &Lease) -> u16 {
    match &lease.place {
        super::Place::Pool { id, .. } => *id,
        super::Place::Heap(_) => panic!("detached"),
    }
}

#[test]
fn a_detached_lease_keeps_its_bytes_and_gives_its_buffer_back() {
    let pool = BufferPool::new(2, 64).unwrap();
    let fill = |text: &[u8]| {
        pool.fill(|buffer| {
            buffer[..text.len()].copy_from_slice(text);
            Ok(text.len())
        })
    };
    let mut lease = fill(b"0123456789").unwrap().unwrap();
    lease.advance(2);
    lease.truncate(5);
    let mut detached = lease.detach();
    assert_eq!((pool.leased(), &*detached), (0, &b"23456"[..]));
    drop(fill(b"overwritten").unwrap());
    detached.advance(1);
    assert_eq!(&*detached.detach(), b"3456");
}

#[test]
fn memory_is_given_back_while_nothing_is_lent_but_for_what_is_lent_next() {
    let pool = BufferPool::new(128, 4096).unwrap();
    let all = |byte: u8| -> Vec<Lease> { (0..128).map(|_| fill(&pool, byte, 4096).unwrap()).collect() };
    let mut leases = all(7);
    let lent = leases.pop().unwrap();
    drop(leases);
    pool.discard();
    assert_eq!(&*lent, &[7; 4096][..], "while one is lent, nothing is given back");
    drop(lent);
    pool.discard();
    // Nothing is written now: the memory shows whether it stayed.
    let seen: Vec<Lease> = (0..128).map(|_| pool.fill(|buffer| Ok(buffer.len())).unwrap().unwrap()).collect();
    assert!(seen[..64].iter().all(|lease| **lease == [7; 4096][..]), "the first stay");
    assert!(seen[65..].iter().all(|lease| lease.iter().all(|byte| *byte == 0)), "the others come anew");
    drop(seen);
    assert!(all(9).iter().all(|lease| **lease == [9; 4096][..]));
}

#[test]
fn buffers_are_plenty_while_less_than_three_eighths_are_lent() {
    let pool = BufferPool::new(8, 64).unwrap();
    let two = [(); 2].map(|()| fill(&pool, 1, 1).unwrap());
    assert!(pool.has_plenty());
    let third = fill(&pool, 1, 1).unwrap();
    assert!(!pool.has_plenty());
    drop((two, third));
}

#[test]
fn a_pool_is_low_when_more_than_half_is_lent() {
    let pool = BufferPool::new(4, 64).unwrap();
    let leases: Vec<_> = (0..2).map(|_| pool.fill(|_| Ok(1)).unwrap().unwrap()).collect();
    assert!(!pool.is_low());
    let third = pool.fill(|_| Ok(1)).unwrap();
    assert!(pool.is_low());
    drop((leases, third));
}
