//! Prompts, their index, and what it does under load.

use super::{ALL, begin, choose, four};
use crate::policy::balance::prefix::{Match, PrefixIndex};
use crate::policy::{Ask, Balancer, Prompt, Why, Wish};

const PREFIX: &str = "prefix_affinity = { max_entries = 8192 }";

/// Text of `len` bytes that no other `number` has, anywhere.
fn text(number: u64, len: usize) -> Vec<u8> {
    (0_u64..).flat_map(|at| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(at).to_le_bytes()).take(len).collect()
}

fn wish(prompt: Prompt) -> Wish {
    Wish { prompt: Some(prompt), ..Wish::default() }
}

/// A prompt of which the first 300 bytes name the conversation.
fn prompt(text: &[u8]) -> Prompt {
    Prompt::new(1, [], text, 300)
}

/// A call as an exchange makes it, begun and answered.
fn turn(balancer: &mut Balancer, prompt: &Prompt) -> (u32, Why) {
    let choice = choose(balancer, &wish(prompt.clone()));
    balancer.handle_prompt(prompt, choice.endpoint);
    (choice.endpoint, choice.why)
}

#[test]
fn blocks_grow_with_the_prompt_and_chain() {
    assert_eq!(prompt(&text(1, 255)).blocks(), 0);
    assert_eq!(prompt(&text(1, 256)).blocks(), 1);
    assert_eq!(prompt(&text(1, 4096)).blocks(), 16);
    assert!((100..200).contains(&prompt(&text(1, 4 << 20)).blocks()), "4 MiB are few blocks");
    // The same text behind another beginning, model or system prompt has no block in common.
    let mut index = PrefixIndex::new(1024);
    index.record(&prompt(&text(1, 4096)), 3);
    let any = |holders: &[u8]| holders.first().map(|first| u32::from(*first));
    assert_eq!(index.find(&prompt(&text(1, 4096)), any), Some(Match::Blocks(3, 16)));
    let mut changed = text(1, 4096);
    changed[10] ^= 1;
    for other in [prompt(&changed), Prompt::new(2, [], &text(1, 4096), 300), Prompt::new(1, [b"be brief".as_slice()], &text(1, 4096), 300)]
    {
        assert_eq!(index.find(&other, any), None);
    }
    changed[10] ^= 1;
    changed[4000] ^= 1;
    assert_eq!(index.find(&prompt(&changed), any), Some(Match::Blocks(3, 15)));
}

#[test]
fn a_conversation_returns_and_others_do_not_follow() {
    let mut balancer = four(PREFIX);
    let (system, mut places) = (text(999, 600), Vec::new());
    for number in 0..200 {
        let mut conversation = [system.clone(), text(number, 400)].concat();
        let opening = conversation.len();
        let grown = |text: &[u8]| Prompt::new(1, [], text, opening);
        let (place, why) = turn(&mut balancer, &grown(&conversation));
        assert_eq!(why, Why::Opening);
        places.push(place);
        for more in 1..5_u64 {
            conversation.extend(text(1000 * more + number, 700));
            let (next, why) = turn(&mut balancer, &grown(&conversation));
            assert_eq!(next, place, "turn {more} of {number}");
            assert!(matches!(why, Why::Prefix | Why::Conversation), "{why:?}");
        }
    }
    let counts = [0, 1, 2, 3].map(|endpoint| places.iter().filter(|place| **place == endpoint).count());
    assert!(counts.iter().all(|count| (25..90).contains(count)), "a shared system prompt does not gather strangers: {counts:?}");
}

/// What one shard has placed, another finds without a word: the next turn of a conversation may come in anywhere.
#[test]
fn a_shard_that_knows_nothing_agrees() {
    let (mut one, mut other) = (four(PREFIX), four(PREFIX));
    for number in 0..200 {
        let begun = text(number, 900);
        let (place, _) = turn(&mut one, &prompt(&begun));
        let later = [begun, text(number + 5000, 3000)].concat();
        assert_eq!(turn(&mut other, &prompt(&later)), (place, Why::Opening));
    }
}

#[test]
fn load_parts_a_conversation_from_its_endpoint_and_idleness_brings_it_back() {
    let mut balancer = four(PREFIX);
    let conversation = prompt(&text(4, 3000));
    let (home, _) = turn(&mut balancer, &conversation);
    begin(&mut balancer, home, 1);
    assert_eq!(choose(&mut balancer, &wish(conversation.clone())).endpoint, home, "two calls are always allowed");
    begin(&mut balancer, home, 1);
    // (2 + 1) x 1.25 / 4 is less than one, so two: it is full.
    let away = choose(&mut balancer, &wish(conversation.clone()));
    assert_ne!(away.endpoint, home);
    assert_eq!(away.why, Why::Opening);
    assert_eq!(choose(&mut balancer, &wish(conversation.clone())), away, "the second choice is always the same");
    // With nine calls everywhere its bound is ceil(1.25 x 39 / 4) = 13.
    (0..4).for_each(|endpoint| begin(&mut balancer, endpoint, if endpoint == home { 7 } else { 9 }));
    assert_eq!(choose(&mut balancer, &wish(conversation.clone())).endpoint, home);
    begin(&mut balancer, home, 3);
    assert_eq!(balancer.in_flight(home), 12);
    assert_eq!(choose(&mut balancer, &wish(conversation.clone())).endpoint, home, "the thirteenth fits");
    begin(&mut balancer, home, 1);
    assert_ne!(choose(&mut balancer, &wish(conversation)).endpoint, home, "the fourteenth does not");
}

#[test]
fn the_longest_match_wins_and_an_unusable_holder_does_not() {
    let mut balancer = four(PREFIX);
    let (short, long) = (text(8, 4096), [text(8, 4096), text(9, 3000)].concat());
    balancer.handle_prompt(&prompt(&short), 2);
    balancer.handle_prompt(&prompt(&long), 1);
    assert_eq!(choose(&mut balancer, &wish(prompt(&long))).endpoint, 1);
    let without = balancer.choose(&Ask { wish: Some(&wish(prompt(&long))), ..Ask::default() }, &|endpoint| endpoint != 1).unwrap();
    assert_eq!((without.endpoint, without.why), (2, Why::Prefix), "the next longest");
}

/// The bound of the issue: a million distinct prompts, and the index is as large as it was.
#[test]
fn a_million_prompts_do_not_grow_it() {
    let mut index = PrefixIndex::new(8192);
    let capacity = index.capacity();
    let mut bytes = text(0, 600);
    for number in 0..1_000_000_u64 {
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        index.record(&prompt(&bytes), (number % 4) as u32);
    }
    assert_eq!((capacity, index.capacity()), (8192, 8192));
    // The latest are all there, the oldest none.
    let mut found = [0; 2];
    let any = |holders: &[u8]| holders.first().map(|first| u32::from(*first));
    for age in 0..1000_u64 {
        for (place, number) in [(0, 999_999 - age), (1, age)] {
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            found[place] += u32::from(
                matches!(index.find(&prompt(&bytes), any), Some(Match::Blocks(endpoint, 2)) if u64::from(endpoint) == number % 4),
            );
        }
    }
    assert!(found[0] > 990 && found[1] == 0, "{found:?}");
}

#[test]
fn what_is_used_outlives_what_is_not() {
    let mut index = PrefixIndex::new(1024);
    let any = |holders: &[u8]| holders.first().map(|first| u32::from(*first));
    let kept = prompt(&text(1, 2000));
    index.record(&kept, 3);
    for number in 2..3000 {
        index.record(&prompt(&text(number, 300)), 1);
        assert!(index.find(&kept, any).is_some(), "after {number}");
    }
    assert_eq!(index.find(&prompt(&text(2, 300)), any), None);
}

#[test]
fn an_index_survives_a_reload_of_the_same_endpoints_only() {
    let conversation = prompt(&text(4, 3000));
    let far = |balancer: &Balancer| (choose(&mut balancer.clone(), &wish(conversation.clone())).endpoint + 1) % 4;
    let mut former = four(PREFIX);
    let place = far(&former);
    former.handle_prompt(&conversation, place);
    let mut same = four(PREFIX);
    same.adopt(&mut former.clone());
    assert_eq!(turn(&mut same, &conversation), (place, Why::Prefix));
    let mut others = super::balancer(None, &format!("endpoints = [\"http://a\", \"http://b\", \"http://c\", \"http://e\"]\n{PREFIX}"));
    others.adopt(&mut former.clone());
    assert_eq!(choose(&mut others, &wish(conversation.clone())).why, Why::Opening);
    let mut gone = four("");
    gone.adopt(&mut former);
    assert!(gone.choose(&Ask::default(), ALL).is_some());
}
