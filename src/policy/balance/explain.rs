//! A choice told to people: each endpoint with what speaks for it, the one that is chosen, and why. Nothing is changed by telling.

use super::{Ask, Balancer, Choice, Why};
use crate::config::Balance;

/// One endpoint as a choice sees it.
#[derive(Clone, PartialEq, Debug)]
pub struct Candidate {
    pub endpoint: u32,
    pub usable: bool,
    /// In this gateway's zone, or in none.
    pub near: bool,
    pub weight: u32,
    /// This shard's own calls.
    pub in_flight: u32,
    /// With what reports add to them.
    pub load: f64,
    /// It has the model loaded as an adapter.
    pub adapter: bool,
    /// What the deciding rule compares; its meaning is [`Explanation::score`].
    pub score: f64,
}

/// A choice and what it was made from.
#[derive(Clone, PartialEq, Debug)]
pub struct Explanation {
    pub choice: Option<Choice>,
    /// What [`Candidate::score`] is, and which end of it wins.
    pub score: &'static str,
    pub candidates: Vec<Candidate>,
}

impl Balancer {
    /// What [`Balancer::choose`] would do now. Whose turn it is stays as it was, and nothing is copied but the counts: what is remembered
    /// of prompts may be large (and only grows younger by being looked at).
    #[must_use]
    pub fn explain(&mut self, ask: &Ask<'_>, usable: &dyn Fn(u32) -> bool) -> Explanation {
        let (endpoints, next) = (self.endpoints.clone(), self.next);
        let choice = self.choose(ask, usable);
        (self.endpoints, self.next) = (endpoints, next);
        self.explained(choice, ask, usable)
    }

    fn explained(&self, choice: Option<Choice>, ask: &Ask<'_>, usable: &dyn Fn(u32) -> bool) -> Explanation {
        let why = choice.map_or(Why::LeastInFlight, |choice| choice.why);
        let wish = ask.wish;
        let key = match why {
            Why::Session => wish.and_then(|wish| wish.session),
            Why::Hash => wish.and_then(|wish| wish.key),
            Why::Prefix | Why::Conversation | Why::Opening => wish.and_then(|wish| wish.prompt.as_ref()).map(super::Prompt::opening),
            _ => None,
        };
        let loads = self.loads(ask.now);
        let (is_random, in_turn) = (why == Why::TwoChoices, why == Why::RoundRobin);
        let candidate = |endpoint: u32| Candidate {
            endpoint,
            usable: usable(endpoint),
            near: self.is_near(endpoint),
            weight: self.weight(endpoint),
            in_flight: self.in_flight(endpoint),
            load: self.load(endpoint, &loads),
            adapter: wish.and_then(|wish| wish.model).is_some_and(|model| self.has_adapter(endpoint, model)),
            score: match key {
                Some(key) => self.score(key, endpoint),
                None if is_random => self.cost(endpoint, &loads, ask.now),
                None if in_turn => self.credit(endpoint),
                None => self.filling(endpoint, &loads),
            },
        };
        let score = match (key, self.balance) {
            (Some(_), _) => "rendezvous score of the key, the highest within its load bound is taken",
            (None, Balance::P2c) if is_random => "latency in ns x (load + 1) / weight, the lower of two drawn at random is taken",
            (None, _) if in_turn => "credit with the next turn's share, the highest is taken",
            (None, _) => "(load + 1) / weight, the lowest is taken",
        };
        Explanation { choice, score, candidates: self.all().map(candidate).collect() }
    }

    fn credit(&self, endpoint: u32) -> f64 {
        self.endpoints.get(endpoint as usize).map_or(0.0, |share| share.credit as f64 + f64::from(share.weight))
    }
}
