//! The models. An inbox here is a counter with relaxed reads and writes: weaker than the queue the gateway uses, so whatever
//! order the protocol needs must come from the doorbell alone. A bell is a flag that remembers, as an eventfd does.
//!
//! A wake-up is lost when, after everybody has finished, the receiver sleeps, its inbox holds a message and nobody rang.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use loom::thread;

use crate::doorbell::{Doorbell, Ring, fence_sends};

#[derive(Default)]
struct Rings(AtomicUsize);

impl Ring for Rings {
    fn ring(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Model {
    inbox: AtomicUsize,
    doorbell: Doorbell<Rings>,
}

impl Model {
    fn new() -> Arc<Model> {
        Arc::new(Model { inbox: AtomicUsize::new(0), doorbell: Doorbell::new(Rings::default()) })
    }

    fn send(&self) -> bool {
        self.inbox.fetch_add(1, Ordering::Relaxed);
        self.doorbell.ring_if_asleep()
    }

    fn try_sleep(&self) -> bool {
        self.doorbell.try_sleep(|| self.inbox.load(Ordering::Relaxed) == 0)
    }

    /// After all threads were joined.
    fn assert_not_lost(&self, sleeps: bool) {
        let rings = self.doorbell.bell().0.load(Ordering::Relaxed);
        let waiting = self.inbox.load(Ordering::Relaxed);
        assert!(!(sleeps && waiting > 0 && rings == 0), "lost wake-up: asleep beside {waiting} messages, nobody rang");
    }
}

#[test]
fn one_sender_never_loses_a_wake_up() {
    loom::model(|| {
        let model = Model::new();
        let sender = thread::spawn({
            let model = Arc::clone(&model);
            move || model.send()
        });
        let sleeps = model.try_sleep();
        sender.join().unwrap();
        model.assert_not_lost(sleeps);
    });
}

#[test]
fn a_sleeper_is_rung_once_by_two_senders() {
    // All interleavings of three threads take 17 s; those with at most three preemptions show the races of two senders.
    let mut bounded = loom::model::Builder::new();
    bounded.preemption_bound = Some(3);
    bounded.check(|| {
        let model = Model::new();
        let senders = [(); 2].map(|()| {
            let model = Arc::clone(&model);
            thread::spawn(move || model.send())
        });
        let sleeps = model.try_sleep();
        let rang: usize = senders.map(|sender| usize::from(sender.join().unwrap())).into_iter().sum();
        assert!(rang <= 1, "one sleep, {rang} rings");
        model.assert_not_lost(sleeps);
    });
}

/// The end of a turn: several messages, one fence, one look at the door.
#[test]
fn a_flush_after_two_sends_never_loses_a_wake_up() {
    loom::model(|| {
        let model = Model::new();
        let sender = thread::spawn({
            let model = Arc::clone(&model);
            move || {
                model.inbox.fetch_add(1, Ordering::Relaxed);
                model.inbox.fetch_add(1, Ordering::Relaxed);
                fence_sends();
                model.doorbell.ring_if_asleep_fenced()
            }
        });
        let sleeps = model.try_sleep();
        sender.join().unwrap();
        model.assert_not_lost(sleeps);
    });
}

/// The receiver sleeps, wakes (by a timer of its own), takes what is there and sleeps again; the ring of the first sleep may
/// come at any moment of this.
#[test]
fn a_second_sleep_never_loses_a_wake_up() {
    loom::model(|| {
        let model = Model::new();
        let sender = thread::spawn({
            let model = Arc::clone(&model);
            move || {
                model.send();
                model.send();
            }
        });
        let mut sleeps = model.try_sleep();
        if sleeps {
            model.doorbell.wake();
            // A ring up to here has woken this sleep and says nothing about the next.
            let rings = model.doorbell.bell().0.swap(0, Ordering::Relaxed);
            assert!(rings <= 1);
        }
        model.inbox.swap(0, Ordering::Relaxed);
        sleeps = model.try_sleep();
        sender.join().unwrap();
        model.assert_not_lost(sleeps);
    });
}

/// Proof that these models can fail: the same protocol with one thing wrong.
#[derive(Clone, Copy)]
enum Planted {
    /// The receiver looks first and says that it sleeps afterwards.
    FlagAfterTheLook,
    /// The receiver's fence is missing.
    NoFenceAtReceiver,
    /// The sender's fence is missing.
    NoFenceAtSender,
}

fn planted_model(planted: Planted) {
    let inbox = Arc::new(AtomicUsize::new(0));
    let asleep = Arc::new(AtomicBool::new(false));
    let sender = thread::spawn({
        let (inbox, asleep) = (Arc::clone(&inbox), Arc::clone(&asleep));
        move || {
            inbox.fetch_add(1, Ordering::Relaxed);
            if !matches!(planted, Planted::NoFenceAtSender) {
                fence(Ordering::SeqCst);
            }
            asleep.load(Ordering::Relaxed) && asleep.swap(false, Ordering::AcqRel)
        }
    });
    let mut looked_empty = false;
    if matches!(planted, Planted::FlagAfterTheLook) {
        looked_empty = inbox.load(Ordering::Relaxed) == 0;
    }
    asleep.store(true, Ordering::SeqCst);
    if !matches!(planted, Planted::NoFenceAtReceiver) {
        fence(Ordering::SeqCst);
    }
    if !matches!(planted, Planted::FlagAfterTheLook) {
        looked_empty = inbox.load(Ordering::Relaxed) == 0;
    }
    let rang = sender.join().unwrap();
    assert!(!looked_empty || rang, "lost wake-up");
}

#[test]
#[should_panic(expected = "lost wake-up")]
fn loom_catches_a_flag_set_after_the_last_look() {
    loom::model(|| planted_model(Planted::FlagAfterTheLook));
}

#[test]
#[should_panic(expected = "lost wake-up")]
fn loom_catches_a_receiver_without_its_fence() {
    loom::model(|| planted_model(Planted::NoFenceAtReceiver));
}

#[test]
#[should_panic(expected = "lost wake-up")]
fn loom_catches_a_sender_without_its_fence() {
    loom::model(|| planted_model(Planted::NoFenceAtSender));
}
