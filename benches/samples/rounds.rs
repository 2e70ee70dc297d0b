//! A home and what its shard does with it, round by round: jobs in, the call they make out, the upstream's answer in, answers out.

use bytes::Bytes;
use headrace::batch::{CallOutcome, Home, HomeLimits, Job, LaneRules, Operation, Ticket, lane_hash};
use headrace::config::{BatchingMode, ModelId};
use headrace::json::scan_embeddings;
use headrace::policy::Claim;
use headrace::sys::{Instant, Span};
use std::hint::black_box;
use std::time::Duration;

use super::{answer, texts};

pub(crate) struct Rounds {
    home: Home,
    now: Instant,
    template: Job,
    answer: Bytes,
    jobs: u32,
}

impl Rounds {
    /// Rounds of so many jobs with one item each, whose vectors look like `vector`.
    pub(crate) fn new(jobs: u32, vector: &str) -> Rounds {
        Rounds {
            home: Home::new(HomeLimits::default()),
            now: Instant::ZERO,
            template: job(&texts(70)),
            answer: Bytes::from(answer(jobs as usize, vector)),
            jobs,
        }
    }

    /// All jobs of one turn: one call, cut apart again.
    pub(crate) fn round(&mut self) {
        for slot in 0..self.jobs {
            self.home.handle_job(ticketed(&self.template, slot), &RULES, self.now);
        }
        self.answer_call();
        let mut answers = 0;
        while let Some(answer) = self.home.poll_answer() {
            black_box(answer);
            answers += 1;
        }
        assert_eq!(answers, self.jobs, "a round answers every job");
        self.empty();
    }

    /// Begins a call that stays in flight, so that from now on jobs wait.
    pub(crate) fn occupy(&mut self) {
        self.home.handle_job(ticketed(&self.template, u32::MAX), &RULES, self.now);
        assert!(self.home.poll_call(self.now).is_some());
        self.empty();
    }

    /// A job that must wait, and whose client leaves: admitted, the rule asked, taken out.
    pub(crate) fn wait_and_leave(&mut self) {
        let job = ticketed(&self.template, 0);
        let ticket = job.ticket;
        self.home.handle_job(job, &RULES, self.now);
        assert!(black_box(self.home.poll_call(self.now)).is_none());
        self.home.handle_cancel(ticket, self.now);
        self.empty();
    }

    fn answer_call(&mut self) {
        // Past the moment for which the lane may hold a batch together.
        self.now = self.now + Duration::from_millis(20);
        let call = self.home.poll_call(self.now).unwrap();
        self.now = self.now + Duration::from_millis(5);
        let outcome = CallOutcome::Answered { status: 200, fields: Bytes::new(), body: self.answer.clone(), retry_after: None };
        self.home.handle_outcome(call.id, outcome, self.now);
    }

    fn empty(&mut self) {
        while let Some(event) = self.home.poll_event() {
            black_box(event);
        }
        black_box(self.home.next_timeout());
    }
}

fn ticketed(template: &Job, slot: u32) -> Job {
    let mut job = template.clone();
    job.ticket.slot = slot;
    job
}

fn job(body: &str) -> Job {
    let head = "content-type: application/json\r\n\r\n";
    let mut job = Job {
        ticket: Ticket { shard: 0, slot: 0, generation: 0 },
        generation: 1,
        model: ModelId(0),
        operation: Operation::Embeddings,
        claim: Claim::default(),
        hash: 0,
        credential: Bytes::new(),
        message: Bytes::from(format!("{head}{body}")),
        body: Span::new(head.len()..head.len() + body.len()),
        request: scan_embeddings(body.as_bytes()).unwrap(),
        arrived: Instant::ZERO,
        deadline: Instant::FAR,
    };
    job.hash = lane_hash(1, &job.key());
    job
}

const RULES: LaneRules = LaneRules {
    mode: BatchingMode::Exclusive,
    max_items: 32,
    max_bytes: 2 << 20,
    max_delay: Duration::ZERO,
    in_flight: 1,
    max_queue_items: 4096,
    endpoints: 1,
    fair: false,
};
