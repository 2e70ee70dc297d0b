//! Moves everything: clients come and leave, shards take turns, the mesh delivers late but in order per pair, upstreams answer.
//! What must hold is `audit`'s.

use crate::audit::{Audit, CallRecord};
use crate::requests::{Request, SEED};
use crate::rng::Rng;
use crate::upstream::{Gpu, ReadCall, fate};
use crate::weather::Weather;
use headrace::batch::{Answer, Call, CallBody, CallId, CallOutcome, Home, HomeLimits, Job, PlantedBug, Ticket, Tickets};
use headrace::sys::Instant;
use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) struct World {
    pub(crate) step: u64,
    pub(crate) weather: Weather,
    pub(crate) audit: Audit,
    now: Instant,
    rng: Rng,
    queue: BTreeMap<(Instant, u64), Event>,
    events_made: u64,
    shards: Vec<Shard>,
    gpus: Vec<Gpu>,
    /// When the last message from one shard to another arrives.
    mesh: Vec<Instant>,
    exchanges_left: u32,
}

struct Shard {
    tickets: Tickets<u32>,
    home: Home,
    turn_at: Option<Instant>,
}

enum Event {
    Clients,
    Leave { id: u32 },
    Job { home: usize, id: u32, job: Box<Job> },
    Cancel { home: usize, id: u32, ticket: Ticket },
    Answer { origin: usize, answer: Box<Answer> },
    Outcome { home: usize, call: CallId, serial: u32, outcome: Box<CallOutcome>, fault: bool },
    Turn { shard: usize },
}

impl World {
    pub(crate) fn new(seed: u64, bug: Option<PlantedBug>) -> World {
        let weather = Weather::new(seed).with_bug(bug);
        let limits = |shard: usize| HomeLimits { seed: shard as u64, ..weather.limits };
        let shards = (0..weather.shards)
            .map(|shard| Shard { tickets: Tickets::new(shard as u16, 10_000), home: Home::new(limits(shard)), turn_at: None })
            .collect();
        let gpus = (0..weather.rules.endpoints).map(|_| Gpu::new(weather.upstream.at_once)).collect();
        let mut world = World {
            step: 0,
            audit: Audit::new(&weather),
            now: Instant::ZERO,
            rng: Rng::new(seed),
            queue: BTreeMap::new(),
            events_made: 0,
            shards,
            gpus,
            mesh: vec![Instant::ZERO; weather.shards * weather.shards],
            exchanges_left: weather.exchanges,
            weather,
        };
        world.at(Instant::from_nanos(1000), Event::Clients);
        world
    }

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    pub(crate) fn run(&mut self) -> Result<(), String> {
        while let Some(((at, _), event)) = self.queue.pop_first() {
            self.step += 1;
            self.now = at;
            if self.step > 200_000 {
                return Err("the world does not come to rest".to_owned());
            }
            self.happen(event)?;
        }
        for shard in &mut self.shards {
            self.audit.at_rest(&mut shard.home, shard.tickets.len())?;
        }
        self.audit.in_the_end()
    }

    fn at(&mut self, at: Instant, event: Event) {
        self.events_made += 1;
        self.queue.insert((at, self.events_made), event);
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Clients => self.clients_come(),
            Event::Leave { id } => self.client_leaves(id),
            Event::Job { home, id, job } => {
                self.audit.job_at_home(id);
                self.shards[home].home.handle_job(*job, &self.weather.rules, self.now);
                self.turn_soon(home);
            }
            Event::Cancel { home, id, ticket } => {
                self.audit.cancel_at_home(id);
                self.shards[home].home.handle_cancel(ticket, self.now);
                self.turn_soon(home);
            }
            Event::Answer { origin, answer } => {
                let id = self.shards[origin].tickets.resolve(answer.ticket);
                self.audit.delivered(id, &answer, self.now)?;
            }
            Event::Outcome { home, call, serial, outcome, fault } => {
                self.audit.outcome(serial, &outcome, fault, self.now);
                self.shards[home].home.handle_outcome(call, *outcome, self.now);
                self.turn_soon(home);
            }
            Event::Turn { shard } => self.turn(shard)?,
        }
        Ok(())
    }

    fn clients_come(&mut self) {
        loop {
            if self.exchanges_left == 0 {
                return;
            }
            self.exchanges_left -= 1;
            self.one_client();
            if !self.rng.chance(self.weather.burst) {
                break;
            }
        }
        let gap = self.rng.below(self.weather.gap.as_nanos() as u64 * 2);
        self.at(self.now + Duration::from_nanos(gap), Event::Clients);
    }

    fn one_client(&mut self) {
        let origin = self.rng.below(self.shards.len() as u64) as usize;
        let id = self.audit.exchanges.len() as u32;
        let request = Request::new(id, &self.weather, &mut self.rng);
        let (low, high) = self.weather.timeout;
        let timeout = self.rng.between(low.as_micros() as u64, high.as_micros() as u64);
        let deadline = self.now + Duration::from_micros(timeout);
        let ticket = self.shards[origin].tickets.insert(id).unwrap();
        let job = request.job(ticket, self.now, deadline);
        let home = (job.hash ^ SEED) as usize % self.shards.len();
        self.audit.client_came(request, ticket, home, deadline);
        let at = self.mesh_time(origin, home);
        self.at(at, Event::Job { home, id, job: Box::new(job) });
        if self.rng.chance(self.weather.cancel) {
            let patience = self.rng.below(self.weather.upstream.call_cost.as_nanos() as u64 * 3);
            self.at(self.now + Duration::from_nanos(patience), Event::Leave { id });
        }
    }

    fn client_leaves(&mut self, id: u32) {
        let (ticket, home) = (self.audit.exchanges[id as usize].ticket, self.audit.exchanges[id as usize].home);
        let origin = usize::from(ticket.shard);
        if self.shards[origin].tickets.cancel(ticket).is_none() {
            return;
        }
        self.audit.client_left(id);
        let at = self.mesh_time(origin, home);
        self.at(at, Event::Cancel { home, id, ticket });
    }

    /// When a message sent now from one shard to another is there: late, but never before an earlier one.
    fn mesh_time(&mut self, from: usize, to: usize) -> Instant {
        let delay = if from == to { 0 } else { self.rng.between(200, 40_000) };
        let last = &mut self.mesh[from * self.shards.len() + to];
        *last = (*last).max(self.now + Duration::from_nanos(delay));
        *last
    }

    fn turn_soon(&mut self, shard: usize) {
        let delay = self.rng.below(15_000);
        self.turn_by(shard, self.now + Duration::from_nanos(delay));
    }

    fn turn_by(&mut self, shard: usize, at: Instant) {
        if self.shards[shard].turn_at.is_none_or(|turn_at| turn_at > at) {
            self.shards[shard].turn_at = Some(at);
            self.at(at, Event::Turn { shard });
        }
    }

    /// The end of a shard's turn: everything its home wants is done.
    fn turn(&mut self, shard: usize) -> Result<(), String> {
        self.shards[shard].turn_at = None;
        self.shards[shard].home.handle_timeout(self.now);
        while let Some(call) = self.shards[shard].home.poll_call(self.now) {
            self.start(shard, &call)?;
        }
        while let Some(answer) = self.shards[shard].home.poll_answer() {
            self.audit.home_answered(&answer, self.now)?;
            let origin = usize::from(answer.ticket.shard);
            let at = self.mesh_time(shard, origin);
            // Some clients leave while their answer crosses the mesh.
            if self.rng.chance(self.weather.cancel / 8.0) {
                let id = self.audit.sender_of(answer.ticket);
                let soon = self.rng.below(at.since(self.now).as_nanos() as u64);
                self.at(self.now + Duration::from_nanos(soon), Event::Leave { id });
            }
            self.at(at, Event::Answer { origin, answer: Box::new(answer) });
        }
        while let Some(id) = self.shards[shard].home.poll_abort() {
            let late = self.rng.chance(self.weather.upstream.late);
            self.abort(shard, id, late)?;
        }
        while let Some(event) = self.shards[shard].home.poll_event() {
            self.audit.event(&event);
        }
        self.audit.turn_ended(shard, &self.shards[shard].home, self.now)?;
        if let Some(at) = self.shards[shard].home.next_timeout() {
            self.turn_by(shard, at.max(self.now + Duration::from_nanos(1)));
        }
        Ok(())
    }

    fn start(&mut self, home: usize, call: &Call) -> Result<(), String> {
        let read = ReadCall::new(call, |id| self.audit.exchanges[id as usize].request.credential.to_vec())?;
        let serial = self.audit.calls.len() as u32;
        let gpu = &mut self.gpus[call.endpoint as usize];
        let fate = fate(&self.weather.upstream, gpu, serial, &read, &mut self.rng, self.now);
        let message = if let CallBody::Alone { message } = &call.body { Some(message.clone()) } else { None };
        let record = CallRecord::new(serial, home, call, &read, fate.bill);
        self.audit.call_started(record, message.as_ref(), &read)?;
        let (outcome, fault) = (Box::new(fate.outcome), fate.wrong);
        self.at(fate.at, Event::Outcome { home, call: call.id, serial, outcome, fault });
        Ok(())
    }

    /// Closes a call's connection: its outcome is taken off the queue, unless it was on its way already.
    fn abort(&mut self, home: usize, id: CallId, late: bool) -> Result<(), String> {
        let serial = self.audit.call_aborted(home, id)?;
        if !late {
            self.queue.retain(|_, event| !matches!(event, Event::Outcome { serial: of, .. } if *of == serial));
        }
        Ok(())
    }
}
