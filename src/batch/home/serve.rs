//! A good answer to a merged call, handed out: to each member its elements and its share of the bill.

use super::calls::Flight;
use super::outcome::Answered;
use super::{Home, PlantedBug};
use crate::batch::held::{Part, Parts};
use crate::batch::isolate::Found;
use crate::batch::job::Outcome;
use crate::batch::split::embeddings::Cut;
use crate::batch::split::fields;
use crate::sys::Instant;
use bytes::Bytes;
use std::time::Duration;

impl Home {
    pub(super) fn serve(&mut self, lane: u32, flight: &Flight, live: Parts, answered: &Answered, now: Instant) -> Found {
        // Taken out while answers are handed out; its vectors stay warm.
        let mut cutter = std::mem::take(&mut self.cutter);
        let weights = flight.members.iter().map(|member| member.weight);
        let found = match cutter.cut(&answered.body, flight.items, weights) {
            None => self.wrong(lane, live, now),
            Some(cut) => {
                self.went_well(lane, flight, now);
                if flight.members.len() > 1 {
                    self.lanes[lane as usize].solo_period = Duration::ZERO;
                }
                self.hand_out(flight, &fields::shared(&answered.fields), cut, now);
                Found::Served
            }
        };
        self.cutter = cutter;
        found
    }

    fn hand_out(&mut self, flight: &Flight, fields: &Bytes, mut cut: Cut<'_>, now: Instant) {
        let swap = self.swapped_by_bug(flight, &cut);
        let mut first = 0;
        for (index, member) in flight.members.iter().enumerate() {
            let from = if swap && index < 2 { flight.members[0].part.count * u32::from(index == 0) } else { first };
            self.hand_one(member.part, index, from, fields, &mut cut, now);
            first += member.part.count;
        }
    }

    fn hand_one(&mut self, part: Part, index: usize, first: u32, fields: &Bytes, cut: &mut Cut<'_>, now: Instant) {
        let Some(held) = self.jobs.get_mut(part.job) else { return };
        if held.covers(part) {
            let body = cut.member(index, first, part.count);
            self.answer(part.job, Outcome::Done { status: 200, fields: fields.clone(), body }, now);
            return;
        }
        let kept = cut.keep(index, first, part.count, part.first, fields);
        let bytes = kept.bytes();
        let items = held.job.items();
        let gather = held.gather.get_or_insert_default();
        let whole = if gather.add(kept, items) { gather.write() } else { None };
        self.jobs.keep_bytes(bytes);
        if let Some((fields, body)) = whole {
            self.answer(part.job, Outcome::Done { status: 200, fields, body }, now);
        }
    }

    /// Whether the planted bug strikes: the first two members have one size, and some other has left.
    fn swapped_by_bug(&self, flight: &Flight, cut: &Cut<'_>) -> bool {
        self.limits.planted_bug == Some(PlantedBug::SwapAnswers)
            && cut.is_shuffled()
            && flight.members.len() > 2
            && flight.members[0].part.count == flight.members[1].part.count
            && flight.members[2..].iter().any(|member| !self.jobs.is_live(member.part.job))
    }
}
