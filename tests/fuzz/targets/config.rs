//! Configurations: whatever is in the file, the answer is a configuration with a memory sum or mistakes with places inside it.
#![cfg_attr(fuzzing, no_main)]

use headrace::config::{check, memory};
use headrace_fuzz::kind;

headrace_fuzz::main!("config", target, TOKENS);

fn target(data: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(data);
    match check("fuzz.toml", &text) {
        Ok(config) => {
            let sum = memory(&config, 4);
            assert!(sum.standing_bytes > 0 && sum.standing_bytes <= sum.load_bytes && sum.load_bytes <= sum.worst_bytes);
            assert!(config.models.iter().all(|model| (model.upstream.0 as usize) < config.upstreams.len()));
            assert!(config.routes.iter().all(|route| (route.upstream.0 as usize) < config.upstreams.len()));
            kind((config.models.len().min(4), config.routes.len().min(4), config.upstreams.len().min(4), config.server.listen.len().min(4)))
        }
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            let lines = text.split('\n').count();
            for mistake in mistakes.list() {
                assert!((1..=lines).contains(&mistake.line) && mistake.column >= 1, "{mistake:?}");
            }
            assert!(mistakes.render(true).len() >= mistakes.render(false).len());
            kind(format!("{:?}", mistakes.list().iter().map(|mistake| words(&mistake.message)).collect::<Vec<_>>()))
        }
    }
}

/// A message without what it quotes.
fn words(message: &str) -> String {
    message.split('`').step_by(2).collect()
}

const TOKENS: &[&str] = &[
    "[server]\n",
    "[admin]\n",
    "[[upstreams]]\n",
    "[[models]]\n",
    "[[routes]]\n",
    "listen = [\"127.0.0.1:8080\"]\n",
    "listen = [\"unix:/run/x.sock\"]\n",
    "shards = 4\n",
    "shards = \"auto\"\n",
    "io = \"epoll\"\n",
    "name = \"gpu0\"\n",
    "name = \"*\"\n",
    "upstream = \"gpu0\"\n",
    "path = \"/x\"\n",
    "endpoints = [\"http://127.0.0.1:8000\"]\n",
    "endpoints = [{ url = \"unix:/run/v.sock\", weight = 2 }]\n",
    "batching = { mode = \"exclusive\", max_items = 32 }\n",
    "max_body = \"32MiB\"\n",
    "header_timeout = \"250ms\"\n",
    "\"\"\"",
    "0x7fffffffffffffff",
    "99999999999999999999h",
    "1.5s",
    "nan",
    "1979-05-27",
    "[[[",
    "{ a = { b = ",
    "é",
];
